"""Random changes of training examples."""

import re
from dataclasses import dataclass

from pwc_exp.checks import check, check_not_negative, check_positive, check_share


@dataclass(kw_only=True)
class AugmentConfig:
    """A way to change training examples; probabilities are those of each example."""

    device: str | None = None  # augments whole batches, such as GPU:0; null: the processor, ahead
    flip_left_right: float = 0.0  # probability of mirroring left and right
    flip_up_down: float = 0.0  # probability of mirroring top and bottom

    def __post_init__(self) -> None:
        check_share("augment.", self, "flip_left_right", "flip_up_down")
        known = re.fullmatch(r"(CPU|GPU)(:\d+)?", self.device or "CPU") is not None
        check(known, "augment.device", "must be null or such as GPU:0", self.device)


@dataclass(kw_only=True)
class BasicConfig(AugmentConfig):
    """A random window, mirrored."""


@dataclass(kw_only=True)
class HeavyConfig(AugmentConfig):
    """As tfoptflow: a random window, mirrored, frame 2 shifted, both frames scaled."""

    translate_probability: float = 0.5  # of a shift of frame 2
    translate: float = 0.05  # its largest, either way, as a share of the window's sides
    scale_probability: float = 0.5  # of scaling both frames about the centre of the window
    scale: float = 0.05  # 0.05: by a factor of 0.95 to 1.05

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = ("translate_probability", "translate", "scale_probability", "scale")
        check_share("augment.", self, *shares)
        check(self.scale < 1, "augment.scale", "must be below 1", self.scale)


@dataclass(kw_only=True)
class ModernConfig(AugmentConfig):
    """As FlowNet2, RAFT and AutoFlow: geometry, motion of its own for frame 2, colours, patches."""

    geometry_probability: float  # of the changes down to relative_zoom; else a random window
    min_zoom: float  # smallest factor of both frames
    max_zoom: float  # largest factor of both frames; above 1 enlarges
    squeeze: float  # largest log of the factor of width over height, either way
    rotate: float  # of both frames, degrees, either way
    relative_translate: float  # of frame 2, either way, as a share of the window's sides
    relative_rotate: float  # of frame 2, degrees, either way
    relative_zoom: float  # of frame 2, largest log of its factor, either way
    asymmetry: float  # probability that the frames' colours change each on its own
    brightness: float  # 0.4: by a factor of 0.6 to 1.4
    contrast: float  # 0.4: by a factor of 0.6 to 1.4 about the mean luma
    saturation: float  # 0.4: by a factor of 0.6 to 1.4
    hue: float  # degrees, either way
    gamma: float  # largest log of the exponent, either way
    noise: float  # largest standard deviation of what is added, of the range [0, 1]
    eraser_probability: float  # of patches that hide parts of frame 2
    eraser_patches: int  # at most so many
    eraser_size: float  # longest side of a patch, in pixels; the shortest is half of it

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = ("geometry_probability", "relative_translate", "asymmetry", "eraser_probability")
        check_share("augment.", self, *shares, "brightness", "contrast", "saturation")
        largest = ("squeeze", "rotate", "relative_rotate", "relative_zoom", "hue", "gamma", "noise")
        check_not_negative("augment.", self, *largest)
        check_positive("augment.", self, "min_zoom", "max_zoom", "eraser_patches", "eraser_size")
        requirement = f"must be at least augment.min_zoom ({self.min_zoom})"
        check(self.min_zoom <= self.max_zoom, "augment.max_zoom", requirement, self.max_zoom)
