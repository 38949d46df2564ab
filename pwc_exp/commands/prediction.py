"""The configuration of a prediction."""

from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from pwc_exp.checks import check, check_at_most_one_of, check_not_negative, check_positive
from pwc_exp.groups import list_of
from pwc_exp.groups.model import NetworkConfig
from pwc_exp.groups.training import InferencePrecision

STANDARD_INPUT = "-"
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm"}


class Direction(StrEnum):
    """Which flow of a pair."""

    forward = auto()  # from frame 1 to frame 2
    backward = auto()  # from frame 2 to frame 1
    both = auto()


class Output(StrEnum):
    """What is made of a flow. Of each pair, or of all pairs together."""

    flo = auto()  # Middlebury's .flo
    npy = auto()  # NumPy, float32 [H, W, 2]
    kitti = auto()  # KITTI's 16-bit PNG
    flo5 = auto()  # Spring's .flo5
    pfm = auto()
    picture = auto()  # Middlebury's colours
    arrows = auto()  # drawn on the frame
    warped = auto()  # the other frame, brought here by the flow; what is hidden in it is marked
    occlusion = auto()  # white: hidden in the other frame
    confidence = auto()  # white: forward and backward flow agree
    flow_video = auto()  # of all pairs: the pictures
    side_by_side = auto()  # of all pairs: frame and picture


@dataclass(kw_only=True)
class PredictConfig(NetworkConfig):
    """Flow of frames, as files."""

    precision: InferencePrecision = InferencePrecision.auto  # number format of the computation
    frames: Any  # images [a,b,...]; a folder; a pattern; a list, .txt or .csv; a video; - (stdin)
    out: str | None = None  # folder for the results; null: outputs/predict/<time>
    outputs: list[Output] = list_of(Output.flo, Output.picture)
    direction: Direction = Direction.forward
    batch_size: int = 1  # pairs of one size that go through the network together
    resize: list[int] | None = None  # (height, width) at which the network sees the frames
    scale: float | None = None  # the same, as a share of their size
    memory_limit: float | None = None  # GB of the process; larger frames are computed in tiles
    occlusion_relative: float = (
        0.01  # what forward and backward flow may differ: a share of |flow|²
    )
    occlusion_absolute: float = 0.5  # and px² beside it
    max_speed: float | None = None  # px of full colour; null: found in a first pass over few pairs
    legend: bool = False  # a colour wheel in the corner of the pictures
    frame_rate: float | None = None  # of videos, per second; null: that of the input, else 24
    overwrite: bool = False  # make results again that are there already
    xla: bool = False  # let XLA compile the decoder, where that pays: about 10 s per frame size

    def __post_init__(self) -> None:
        check_at_most_one_of(self, "run", "weights")
        self.frames = [str(place) for place in _as_list(self.frames)]
        image = len(self.frames) == 1 and Path(self.frames[0]).suffix.lower() in _IMAGES
        pattern = image and any(sign in self.frames[0] for sign in "*?[")
        requirement = "must name two or more images, a folder, a pattern, a list, a video or -"
        check(bool(self.frames) and (not image or pattern), "frames", requirement, self.frames)
        check(bool(self.outputs), "outputs", "must name at least one", self.outputs)
        check_positive("", self, "batch_size")
        check_not_negative("", self, "occlusion_relative")
        check_positive("", self, "occlusion_absolute")
        for name in ("resize", "scale", "memory_limit", "max_speed", "frame_rate"):
            if getattr(self, name) is not None:
                check_positive("", self, name)
        check(len(self.resize or [1, 1]) == 2, "resize", "must be [height, width]", self.resize)
        both = self.resize is not None and self.scale is not None
        check(not both, "resize", "and scale exclude each other", [self.resize, self.scale])


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
