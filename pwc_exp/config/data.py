"""Data sets: a dataclass each, with the settings that only it has; generated scenes; mixtures."""

import math
from collections.abc import Mapping
from dataclasses import field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.config.fields import (
    Settings,
    check,
    list_of,
    nearest,
    not_negative,
    positive,
    share,
    size,
)
from pwc_exp.errors import ConfigError

# Data sets on disk, generated scenes, and mixtures of data sets.
Dataset = StrEnum(
    "Dataset",
    "synthetic flyingchairs flyingchairs2 flyingthings3d flyingthings3d_halfres sintel kitti hd1k "
    "middlebury spring tartanair folder csv mix",
)
# Renderings of Sintel and FlyingThings3D.
RenderPass = StrEnum("RenderPass", ["clean", "final", "both"])
# Ground truth of KITTI: without or with pixels that are occluded in the second frame.
Truth = StrEnum("Truth", ["noc", "occ"])
# Cameras of a stereo rig.
Camera = StrEnum("Camera", ["left", "right", "both"])
# Flow to the next frame, to the previous one, or both as separate pairs.
Direction = StrEnum("Direction", ["forward", "backward", "both"])
# Which samples of a data set to use.
Split = StrEnum("Split", ["train", "val", "all"])
# What to do with a sample that cannot be read.
BadSample = StrEnum("BadSample", ["raise", "skip"])


class DataConfig(Settings):
    """Pairs of frames with ground-truth flow."""

    prefix: ClassVar[str] = "data."

    name: Dataset  # data set
    crop: list[int] = size()  # training window (height, width), in pixels
    workers: int | None = positive(None)  # parallel reads; null: as many as are useful
    cache: str | None = None  # folder on a fast disk for decoded or generated samples; null: none

    def __post_init__(self) -> None:
        super().__post_init__()
        own = getattr(type(self), "name", self.name)  # the default, where a class has one
        self.require(self.name == own, "name", f"must be {own}; choose another with data=")


class FilesConfig(DataConfig):
    """Pairs on disk."""

    first_entries: ClassVar[str]  # what `root` contains, for the message that asks for it
    folder: ClassVar[str] = ""  # usual name of `root` in a folder of data sets

    root: str | None = None  # folder that holds the files
    val_share: float = share(0.05)  # share of the scenes held out where there is no official split
    # A sample that cannot be read ends the run (raise) or is left out (skip).
    on_bad: BadSample = BadSample["raise"]
    quarantine: str | None = None  # list of samples to leave out, as `data check` writes it

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.root:
            held = f"the folder that holds {self.first_entries}"
            raise ConfigError(f"data.root is needed for {self.name}: data.root=... {held}")


class FlyingChairsConfig(FilesConfig):
    """FlyingChairs."""

    first_entries: ClassVar[str] = "data/00001_img1.ppm"
    folder: ClassVar[str] = "FlyingChairs_release"
    name: Dataset = Dataset.flyingchairs


class FlyingChairs2Config(FilesConfig):
    """FlyingChairs2."""

    first_entries: ClassVar[str] = "train/0000000-img_0.png"
    folder: ClassVar[str] = "FlyingChairs2"
    name: Dataset = Dataset.flyingchairs2
    direction: Direction = Direction.forward  # direction of the flow


class FlyingThings3DConfig(FilesConfig):
    """FlyingThings3D: the full data set or its subset for optical flow."""

    first_entries: ClassVar[str] = "frames_cleanpass and optical_flow (subset: train and val)"
    folder: ClassVar[str] = "FlyingThings3D"
    name: Dataset = Dataset.flyingthings3d
    render_pass: RenderPass = RenderPass.clean  # rendering of the frames
    camera: Camera = Camera.left  # camera of the frames
    direction: Direction = Direction.forward  # direction of the flow


class FlyingThings3DHalfResConfig(FlyingThings3DConfig):
    """FlyingThings3D at half resolution, made by `data halfres`."""

    first_entries: ClassVar[str] = "frames_cleanpass and optical_flow, made by `data halfres`"
    folder: ClassVar[str] = "FlyingThings3D_HalfRes"
    name: Dataset = Dataset.flyingthings3d_halfres


class SintelConfig(FilesConfig):
    """MPI-Sintel."""

    first_entries: ClassVar[str] = "training/clean and training/flow"
    folder: ClassVar[str] = "MPI-Sintel"
    name: Dataset = Dataset.sintel
    render_pass: RenderPass = RenderPass.clean  # rendering of the frames


class KittiConfig(FilesConfig):
    """KITTI 2012 or 2015."""

    first_entries: ClassVar[str] = "training/image_2 (2012: colored_0) and training/flow_noc"
    folder: ClassVar[str] = "kitti2015"
    name: Dataset = Dataset.kitti
    truth: Truth = Truth.noc  # noc: without pixels that are occluded in frame 2; occ: with them


class Hd1kConfig(FilesConfig):
    """HD1K."""

    first_entries: ClassVar[str] = "hd1k_input and hd1k_flow_gt"
    folder: ClassVar[str] = "HD1K"
    name: Dataset = Dataset.hd1k


class MiddleburyConfig(FilesConfig):
    """Middlebury: the pairs with public ground truth."""

    first_entries: ClassVar[str] = "other-data and other-gt-flow"
    folder: ClassVar[str] = "Middlebury"
    name: Dataset = Dataset.middlebury


class SpringConfig(FilesConfig):
    """Spring."""

    first_entries: ClassVar[str] = "train/0001"
    folder: ClassVar[str] = "spring"
    name: Dataset = Dataset.spring
    camera: Camera = Camera.left  # camera of the frames
    direction: Direction = Direction.forward  # direction of the flow


class TartanAirConfig(FilesConfig):
    """TartanAir."""

    first_entries: ClassVar[str] = "folders of environments, such as abandonedfactory/Easy/P000"
    folder: ClassVar[str] = "TartanAir"
    name: Dataset = Dataset.tartanair


class FolderConfig(FilesConfig):
    """Pairs whose file names follow patterns, in which `*` and `**` must match the same text."""

    first_entries: ClassVar[str] = "what the patterns data.frame1 and data.flow are relative to"
    name: Dataset = Dataset.folder
    frame1: str  # pattern of the first frames, relative to root: "*/*_img1.png"
    frame2: str | None = None  # pattern of the second frames; null: the next of frame1
    flow: str  # pattern of the flow files
    valid: str | None = None  # pattern of masks that are 0 where the flow is invalid


class CsvConfig(FilesConfig):
    """Pairs that a CSV file lists."""

    first_entries: ClassVar[str] = "what the paths in data.manifest are relative to"
    name: Dataset = Dataset.csv
    manifest: str  # CSV file with the columns frame1, frame2, flow; more in docs/datasets.md


# Whether pixels that are occluded in the second frame are valid.
Occluded = StrEnum("Occluded", ["include", "exclude"])


class SceneConfig(Settings):
    """Generated scenes of one kind."""

    prefix: ClassVar[str] = "data."

    # Appearance
    layers: int = positive(8)  # objects in front of the background, each with its own motion
    min_layers: int | None = None  # fewest objects of a scene; null: data.layers
    radius: list[float] = positive([0.04, 0.22])  # smallest and largest object, in frame diagonals
    concave: float = share(0.5)  # share of objects that are stars or blobs
    thin: float = share(0.2)  # share of objects that are strands of 2 to 8 pixels
    holes: float = share(0.0)  # share of objects with a lattice of round holes
    edge: float = positive(1.5)  # width of the transition at an outline, in pixels
    soft: float = share(0.0)  # share of objects with soft outlines
    soft_edge: float = positive(16.0)  # largest width of a soft outline, in pixels
    procedural: float = share(0.0)  # share of layers with procedural textures, not photographs
    flat: float = share(0.0)  # share of layers with almost no texture
    tint: float = share(0.5)  # change of a layer's contrast and colour: 0 none, 1 full
    shading: float = share(0.0)  # brightness from a layer's centre to its edge: 0.2 is 20 percent
    # Motion
    speed_shares: list[float] = list_of(0.69, 0.22, 0.09)  # slow, medium, fast layers
    speed_bounds: list[float] = positive([0.009, 0.036, 0.18])  # their top speeds, frame diagonals
    background_speed: float = not_negative(1.0)  # factor of the background's speed: 0.3 is slow
    coherence: float = share(0.6)  # 0: independent layers; 1: all layers move like the background
    max_rotation: float = not_negative(12.0)  # degrees, in either direction
    max_zoom: float = not_negative(0.12)  # change of scale: 0.12 is up to 12 percent more or less
    max_shear: float = not_negative(0.08)  # largest shear, in either direction
    max_perspective: float = not_negative(0.1)  # change of scale over a diagonal of the frame
    max_expansion: float = not_negative(0.0)  # expansion of the nearest layer: 0.2 is 20 %
    bending: float = share(0.3)  # share of layers that are deformed by waves
    max_strain: float = not_negative(0.15)  # largest change of length by these waves
    driving: float = share(0.0)  # share of scenes seen from a car: road, walls, objects
    max_advance: float = not_negative(0.35)  # way of the car, as a share of the smallest distance
    max_yaw: float = not_negative(3.0)  # rotation of the car, degrees, in either direction
    # Camera effects, in film_share of the scenes, each up to its limit
    film_share: float = share(0.5)  # share of scenes with camera effects
    effects: float = share(1.0)  # share of the effects in such a scene, each chosen independently
    fog: float = not_negative(0.8)  # optical depth of the background; less for nearer layers
    shutter: float = share(0.5)  # motion blur: 0.5 is that of half the time between frames
    defocus: float = not_negative(1.0)  # standard deviation of the blur, in pixels
    noise: float = share(0.02)  # standard deviation, of the range [0, 1]
    flicker: float = share(0.1)  # brightness of frame 2: 0.1 is up to 10 percent more or less
    gamma: float = not_negative(0.0)  # gamma of frame 2: 0.1 is up to 10 percent more or less
    light: float = share(0.0)  # illumination falloff: 0.3 is 30 percent at the corners
    highlights: float = share(0.0)  # strength of highlights and shadows that move on their own
    jpeg: int = 100  # lowest quality of JPEG compression, of 100; 100: none

    def __post_init__(self) -> None:
        super().__post_init__()
        # Beyond these, a map would fold over itself, or the car would hit an object.
        most = {"max_shear": 0.5, "max_perspective": 0.3, "max_strain": 0.4, "max_advance": 0.5}
        for name, value in (most | {"max_yaw": 10.0, "defocus": 1.5, "max_expansion": 1.0}).items():
            self.require(getattr(self, name) <= value, name, f"must be at most {value}")
        fewest = self.layers if self.min_layers is None else self.min_layers
        self.require(0 <= fewest <= self.layers, "min_layers", "must be 0 to data.layers")
        ordered = len(self.radius) == 2 and self.radius[0] <= self.radius[1] <= 1
        self.require(ordered, "radius", "must be two ascending numbers up to 1")
        self.require(1 <= self.jpeg <= 100, "jpeg", "must be 1 to 100")
        shares, bounds = self.speed_shares, self.speed_bounds
        whole = len(shares) == 3 and min(shares) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-3)
        self.require(whole, "speed_shares", "must be three shares that sum to 1")
        ascending = len(bounds) == 3 and bounds == sorted(set(bounds))
        self.require(ascending, "speed_bounds", "must be three increasing numbers")


class SyntheticConfig(SceneConfig, DataConfig):
    """Generated pairs of frames with exact flow."""

    name: Dataset = Dataset.synthetic
    train_size: int = positive(20_000)  # samples of the split train
    val_size: int = positive(64)  # samples of the split val
    frame_size: list[int] | None = size(None)  # (height, width), in pixels; null: data.crop
    textures: str | None = None  # folder of photographs, in addition to those of scikit-image
    occluded: Occluded = Occluded.include  # exclude: pixels occluded in frame 2 are invalid
    # Kinds of scenes, by name: a weight (relative frequency) and the settings of SceneConfig that
    # differ from those of data; empty: one kind
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        frame = self.frame_size or self.crop
        fits = frame[0] >= self.crop[0] and frame[1] >= self.crop[1]
        self.require(fits, "frame_size", f"must be at least data.crop ({self.crop})")
        self.kind_configs()

    def kind_configs(self) -> dict[str, tuple[SceneConfig, float]]:
        """The settings and weight of each kind. Kinds of weight 0 are left out.

        Raises:
            ConfigError: a kind has an unknown setting or an invalid value.
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


class MixConfig(FilesConfig):
    """A mixture of data sets."""

    first_entries: ClassVar[str] = "the folders of the parts"
    name: Dataset = Dataset.mix
    # A mapping for each part: name, root (relative to root), settings of that data set, weight, and
    # label, its name in results. Parts of one label are reported as one data set.
    parts: list[Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(len(self.parts) > 0, "parts", "must name at least one data set")
        self.part_configs()
        weights = [part.get("weight") for part in self.parts]
        given = all(isinstance(weight, int | float) and weight > 0 for weight in weights)
        requirement = "need a positive weight each, or none at all"
        check(given or set(weights) == {None}, "data.parts", requirement, weights)
        for label in self.labels:
            named = label is None or (isinstance(label, str) and label != "" and "/" not in label)
            check(named, "data.parts", "need labels that are text without /", label)

    @property
    def weights(self) -> list[float] | None:
        """How many examples are drawn from each part, relative to the others."""
        weights = [part.get("weight") for part in self.parts]
        return None if None in weights else weights

    @property
    def labels(self) -> list[str | None]:
        """What each part is called in results; None: as its data set."""
        return [part.get("label") for part in self.parts]

    def part_configs(self) -> list[DataConfig]:
        """The data set of each part; what a part must share with the others is the mix's."""
        return [self._part(f"data.parts[{n}]", part) for n, part in enumerate(self.parts)]

    def _part(self, key: str, part: Any) -> DataConfig:
        check_dataset(key, part)
        own = {setting.name for setting in fields(DATASETS[part["name"]])}
        shared = {setting.name for setting in fields(FilesConfig)} - {"name", "root", "quarantine"}
        for name, value in part.items():
            check(name not in shared, f"{key}.{name}", "must be stated for the whole mix", value)
        values = {name: getattr(self, name) for name in shared & own} | part
        values.pop("weight", None)
        values.pop("label", None)
        return part_config(key, values, root=self.root)


def check_dataset(key: str, part: Any) -> None:
    """Refuses a part, one of several data sets, unless its name is that of a single one."""
    known = [name for name in DATASETS if name != Dataset.mix]
    name = part.get("name") if isinstance(part, dict) else part
    requirement = f"must be one of {', '.join(known)}{nearest(str(name), known)}"
    check(isinstance(part, dict) and name in known, f"{key}.name", requirement, part)


def part_config(key: str, values: Mapping[str, Any], *, root: str | None) -> DataConfig:
    """The configuration of a part, from its name and settings; its root is within `root`."""
    if "root" in values:
        values = {**values, "root": str(Path(root or "") / values["root"])}
    try:
        merged = OmegaConf.merge(OmegaConf.structured(DATASETS[values["name"]]), values)
        return cast(DataConfig, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, ConfigError) as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error


DATASETS: dict[str, type[DataConfig]] = {
    schema.name: schema
    for schema in (
        SyntheticConfig,
        FlyingChairsConfig,
        FlyingChairs2Config,
        FlyingThings3DConfig,
        FlyingThings3DHalfResConfig,
        SintelConfig,
        KittiConfig,
        Hd1kConfig,
        MiddleburyConfig,
        SpringConfig,
        TartanAirConfig,
        FolderConfig,
        CsvConfig,
        MixConfig,
    )
}


def name_of(data: DataConfig) -> str:
    """The data set; of a mix, those that it has, with + between."""
    parts = data.part_configs() if isinstance(data, MixConfig) else [data]
    return "+".join(dict.fromkeys(str(part.name) for part in parts))
