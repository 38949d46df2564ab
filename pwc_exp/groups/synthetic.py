"""The generated data set: what its scenes are made of, how they move, how they are filmed."""

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum, auto
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.checks import check, check_not_negative, check_positive, check_share
from pwc_exp.errors import ConfigError
from pwc_exp.groups import list_of
from pwc_exp.groups.data import DataConfig, Dataset


class Occluded(StrEnum):
    """Whether the flow of points that are hidden in the second frame is learned."""

    include = auto()
    exclude = auto()


@dataclass(kw_only=True)
class SceneConfig:
    """What generated scenes of one kind are made of."""

    # What is seen
    layers: int = 8  # things in front of the background, each with its own motion
    min_layers: int | None = None  # fewest things, other in each scene; null: data.layers
    radius: list[float] = list_of(0.04, 0.22)  # smallest and largest thing, in frame diagonals
    concave: float = 0.5  # share of them that are stars or blobs; the rest ellipses and polygons
    thin: float = 0.2  # share of them that are strands, 2 to 8 pixels wide
    holes: float = 0.0  # share of them with a lattice of round holes
    edge: float = 1.5  # pixels over which an outline becomes opaque
    soft: float = 0.0  # share of the things with softer edges
    soft_edge: float = 16.0  # pixels over which the softest of these become opaque
    procedural: float = 0.0  # share of the layers with procedural textures instead of photographs
    flat: float = 0.0  # share of the layers with next to no texture
    tint: float = 0.5  # how far a layer's contrast and colour change: 0 not at all, 1 wholly
    shading: float = (
        0.0  # change of brightness from a layer's centre to its edge: 0.2 is 20 percent
    )
    # How it moves
    speed_shares: list[float] = list_of(0.69, 0.22, 0.09)  # slow, medium, fast: Sintel's pixels
    speed_bounds: list[float] = list_of(0.009, 0.036, 0.18)  # top speed of each, frame diagonals
    background_speed: float = (
        1.0  # factor of the background's speed: 0.3 is slow behind fast things
    )
    coherence: float = 0.6  # 0: each layer moves on its own, 1: all as the background
    max_rotation: float = 12.0  # degrees, either way
    max_zoom: float = 0.12  # growth: 0.12 is 12 percent, either way
    max_shear: float = 0.08  # either way
    max_perspective: float = 0.1  # change of scale over a diagonal of the frame
    max_expansion: float = (
        0.0  # growth of the nearest layer about a focus in the frame: 0.2 is 20 %
    )
    bending: float = 0.3  # share of the layers that waves bend
    max_strain: float = 0.15  # largest change of length by these waves
    driving: float = 0.0  # share of the scenes seen from a car: road, walls, things; other motions
    max_advance: float = 0.35  # way of the car, as a share of the distance to what is nearest
    max_yaw: float = 3.0  # turn of the car, degrees, either way
    # How it is filmed, in film_share of the scenes, each effect at up to its limit
    film_share: float = 0.5  # share of the scenes
    effects: float = 1.0  # share of the effects that such a scene has, each chosen on its own
    fog: float = 0.8  # optical depth before the background; less before nearer layers
    shutter: float = 0.5  # blur along the motion: 0.5 is that of half the time between frames
    defocus: float = 1.0  # standard deviation of the blur, in pixels
    noise: float = 0.02  # standard deviation, of the range [0, 1]
    flicker: float = 0.1  # brightness of frame 2: 0.1 is up to 10 percent more or less
    gamma: float = 0.0  # exponent of the tones of frame 2: 0.1 is up to 10 percent more or less
    light: float = 0.0  # light that falls off across the frame: 0.3 is 30 percent at the corners
    highlights: float = 0.0  # strength of highlights and shadows that move by themselves, 0 to 1
    jpeg: int = 100  # lowest quality of JPEG compression, of 100; 100: none

    def __post_init__(self) -> None:
        check_positive("data.", self, "layers", "edge", "soft_edge", "speed_bounds", "radius")
        shares = ("concave", "thin", "holes", "soft", "procedural", "flat", "tint", "shading")
        check_share("data.", self, *shares, "coherence", "bending", "driving", "film_share")
        check_share("data.", self, "effects", "shutter", "noise", "flicker", "light", "highlights")
        limits = ("max_rotation", "max_zoom", "max_shear", "max_perspective", "max_strain")
        check_not_negative("data.", self, *limits, "background_speed", "fog", "defocus", "gamma")
        check_not_negative("data.", self, "max_expansion", "max_advance", "max_yaw")
        # Beyond, a map would fold over itself, or the car would run into something.
        most = {"max_shear": 0.5, "max_perspective": 0.3, "max_strain": 0.4, "max_advance": 0.5}
        for name, value in (most | {"max_yaw": 10.0, "defocus": 1.5, "max_expansion": 1.0}).items():
            given = getattr(self, name)
            check(given <= value, f"data.{name}", f"must be at most {value}", given)
        fewest = self.layers if self.min_layers is None else self.min_layers
        check(0 <= fewest <= self.layers, "data.min_layers", "must be 0 to data.layers", fewest)
        ordered = len(self.radius) == 2 and self.radius[0] <= self.radius[1] <= 1
        check(ordered, "data.radius", "must be two ascending numbers up to 1", self.radius)
        check(1 <= self.jpeg <= 100, "data.jpeg", "must be 1 to 100", self.jpeg)
        self._check_speeds()

    def _check_speeds(self) -> None:
        shares, bounds = self.speed_shares, self.speed_bounds
        whole = len(shares) == 3 and min(shares) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-3)
        check(whole, "data.speed_shares", "must be three shares that sum to 1", shares)
        ascending = len(bounds) == 3 and bounds == sorted(set(bounds))
        check(ascending, "data.speed_bounds", "must be three increasing numbers", bounds)


@dataclass(kw_only=True)
class SyntheticConfig(SceneConfig, DataConfig):
    """Generated pairs of frames with exact flow."""

    name: Dataset = Dataset.synthetic
    train_size: int = 20_000  # samples of the split train
    val_size: int = 64  # samples of the split val
    frame_size: list[int] | None = None  # (height, width), in pixels; null: data.crop
    textures: str | None = None  # folder of pictures, beside those that come with scikit-image
    occluded: Occluded = Occluded.include  # include or exclude (valid=0) points hidden in frame 2
    # kinds of scenes by name: a weight (how often, relative to the others) and settings of
    # SceneConfig that differ from those of data; empty: all scenes are as data says
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        SceneConfig.__post_init__(self)
        check_positive("data.", self, "train_size", "val_size")
        if self.frame_size is not None:
            check_positive("data.", self, "frame_size")
            size = self.frame_size
            fits = len(size) == 2 and all(f >= c for f, c in zip(size, self.crop, strict=True))
            check(fits, "data.frame_size", f"must be at least data.crop ({self.crop})", size)
        self.kind_configs()

    def kind_configs(self) -> dict[str, tuple[SceneConfig, float]]:
        """What scenes of each kind are made of, and its weight. Kinds of weight 0 are left out.

        Raises:
            ConfigError: a kind has an unknown setting, or a value that does not fit.
        """
        shared = {setting.name: getattr(self, setting.name) for setting in fields(SceneConfig)}
        if not self.kinds:
            return {"all": (SceneConfig(**shared), 1.0)}
        kinds = {}
        for name, settings in self.kinds.items():
            values = dict(settings)
            weight = values.pop("weight", None)
            valid = isinstance(weight, int | float) and 0 <= weight < math.inf
            check(valid, f"data.kinds.{name}.weight", "must be at least 0", weight)
            if weight > 0:
                kinds[name] = (self._kind(name, shared, values), float(weight))
        check(len(kinds) > 0, "data.kinds", "must have a weight above 0", list(self.kinds))
        return kinds

    def _kind(self, name: str, shared: dict[str, Any], values: dict[str, Any]) -> SceneConfig:
        try:
            merged = OmegaConf.merge(OmegaConf.structured(SceneConfig), shared, values)
            return cast(SceneConfig, OmegaConf.to_object(merged))
        except (OmegaConfBaseException, ConfigError) as error:
            reason = str(error).splitlines()[0].removeprefix("data.")
            raise ConfigError(f"data.kinds.{name}: {reason}") from error
