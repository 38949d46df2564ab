"""The generated data set: what its scenes are made of, how they move, how they are filmed."""

import math
from dataclasses import dataclass

from pwc_exp.checks import check, check_not_negative, check_positive, check_share
from pwc_exp.groups import list_of
from pwc_exp.groups.data import DataConfig, Dataset


@dataclass(kw_only=True)
class SyntheticConfig(DataConfig):
    """Generated pairs of frames with exact flow."""

    name: Dataset = Dataset.synthetic
    train_size: int = 20_000  # samples of the split train
    val_size: int = 64  # samples of the split val
    frame_size: list[int] | None = None  # (height, width), in pixels; null: data.crop
    # What is seen
    layers: int = 8  # things in front of the background, each with its own motion
    concave: float = 0.5  # share of them that are stars or blobs; the rest ellipses and polygons
    thin: float = 0.2  # share of them that are strands, 2 to 8 pixels wide
    edge: float = 1.5  # pixels over which an outline becomes opaque
    tint: float = 0.5  # how far a layer's contrast and colour change: 0 not at all, 1 wholly
    textures: str | None = None  # folder of pictures, beside those that come with scikit-image
    # How it moves
    speed_shares: list[float] = list_of(0.69, 0.22, 0.09)  # slow, medium, fast: Sintel's pixels
    speed_bounds: list[float] = list_of(0.009, 0.036, 0.18)  # top speed of each, frame diagonals
    coherence: float = 0.6  # 0: each layer moves on its own, 1: all as the background
    max_rotation: float = 12.0  # degrees, either way
    max_zoom: float = 0.12  # growth: 0.12 is 12 percent, either way
    max_shear: float = 0.08  # either way
    max_perspective: float = 0.1  # change of scale over a diagonal of the frame
    bending: float = 0.3  # share of the layers that waves bend
    max_strain: float = 0.15  # largest change of length by these waves
    # How it is filmed, in film_share of the scenes, each effect at up to its limit
    film_share: float = 0.5  # share of the scenes
    fog: float = 0.8  # optical depth before the background; less before nearer layers
    shutter: float = 0.5  # blur along the motion: 0.5 is that of half the time between frames
    defocus: float = 1.0  # standard deviation of the blur, in pixels
    noise: float = 0.02  # standard deviation, of the range [0, 1]
    flicker: float = 0.1  # brightness of frame 2: 0.1 is up to 10 percent more or less

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("data.", self, "train_size", "val_size", "layers", "edge", "speed_bounds")
        shares = ("concave", "thin", "tint", "coherence", "bending", "film_share", "shutter")
        check_share("data.", self, *shares, "noise", "flicker")
        limits = ("max_rotation", "max_zoom", "max_shear", "max_perspective", "max_strain")
        check_not_negative("data.", self, *limits, "fog", "defocus")
        # Beyond, a map would fold over itself.
        for name, most in (("max_shear", 0.5), ("max_perspective", 0.3), ("max_strain", 0.4)):
            value = getattr(self, name)
            check(value <= most, f"data.{name}", f"must be at most {most}", value)
        if self.frame_size is not None:
            check_positive("data.", self, "frame_size")
            size = self.frame_size
            fits = len(size) == 2 and all(f >= c for f, c in zip(size, self.crop, strict=True))
            check(fits, "data.frame_size", f"must be at least data.crop ({self.crop})", size)
        self._check_speeds()

    def _check_speeds(self) -> None:
        shares, bounds = self.speed_shares, self.speed_bounds
        whole = len(shares) == 3 and min(shares) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-3)
        check(whole, "data.speed_shares", "must be three shares that sum to 1", shares)
        ascending = len(bounds) == 3 and bounds == sorted(set(bounds))
        check(ascending, "data.speed_bounds", "must be three increasing numbers", bounds)
