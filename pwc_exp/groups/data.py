"""The data sets: one class for each, with the knobs that only it has."""

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar

from pwc_exp.checks import check, check_positive, check_share
from pwc_exp.errors import ConfigError


class Dataset(StrEnum):
    """Data sets that can be read, the generated one, and mixes of them."""

    synthetic = auto()
    flyingchairs = auto()
    flyingchairs2 = auto()
    flyingthings3d = auto()
    flyingthings3d_halfres = auto()
    sintel = auto()
    kitti = auto()
    hd1k = auto()
    middlebury = auto()
    spring = auto()
    tartanair = auto()
    folder = auto()
    csv = auto()
    mix = auto()


class RenderPass(StrEnum):
    """Renderings of Sintel and FlyingThings3D."""

    clean = auto()
    final = auto()
    both = auto()


class Truth(StrEnum):
    """Ground truths of KITTI: without or with the pixels that are occluded in the second frame."""

    noc = auto()
    occ = auto()


class Camera(StrEnum):
    """Cameras of a stereo rig."""

    left = auto()
    right = auto()
    both = auto()


class Direction(StrEnum):
    """Flow to the next frame, to the one before, or both, as pairs of their own."""

    forward = auto()
    backward = auto()
    both = auto()


class Split(StrEnum):
    """Which samples of a data set are taken."""

    train = auto()
    val = auto()
    all = auto()


BadSample = StrEnum("BadSample", ["raise", "skip"])
BadSample.__doc__ = "What happens with a sample that cannot be read."


@dataclass(kw_only=True)
class DataConfig:
    """Pairs of frames with ground-truth flow."""

    name: Dataset  # which data set
    crop: list[int]  # training window (height, width), in pixels
    workers: int | None = None  # parallel reads; null: as many as pay

    def __post_init__(self) -> None:
        own = getattr(type(self), "name", self.name)  # the default, where a class has one
        check(self.name == own, "data.name", f"must be {own}; choose another with data=", self.name)
        check_positive("data.", self, "crop")
        check(len(self.crop) == 2, "data.crop", "must be [height, width]", self.crop)
        if self.workers is not None:
            check_positive("data.", self, "workers")


@dataclass(kw_only=True)
class FilesConfig(DataConfig):
    """Pairs on disk."""

    first_entries: ClassVar[str]  # what lies directly in `root`, for the message that asks for it
    folder: ClassVar[str] = ""  # usual name of `root` in a folder of data sets

    root: str | None = None  # folder that holds the files
    val_share: float = 0.05  # share of the scenes held out where there is no official split
    on_bad: BadSample = BadSample[
        "raise"
    ]  # a sample that cannot be read: raise ends the run, skip goes on
    quarantine: str | None = None  # list of samples to leave out, as `data check` writes it
    cache: str | None = None  # folder on a fast disk for a decoded copy; null: read the files

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("data.", self, "val_share")
        if not self.root:
            held = f"the folder that holds {self.first_entries}"
            raise ConfigError(f"data.root is needed for {self.name}: data.root=... {held}")


@dataclass(kw_only=True)
class FlyingChairsConfig(FilesConfig):
    """FlyingChairs."""

    first_entries: ClassVar[str] = "data/00001_img1.ppm"
    folder: ClassVar[str] = "FlyingChairs_release"
    name: Dataset = Dataset.flyingchairs


@dataclass(kw_only=True)
class FlyingChairs2Config(FilesConfig):
    """FlyingChairs2."""

    first_entries: ClassVar[str] = "train/0000000-img_0.png"
    folder: ClassVar[str] = "FlyingChairs2"
    name: Dataset = Dataset.flyingchairs2
    direction: Direction = Direction.forward  # of the flow


@dataclass(kw_only=True)
class FlyingThings3DConfig(FilesConfig):
    """FlyingThings3D, whole or the subset that was chosen for flow."""

    first_entries: ClassVar[str] = "frames_cleanpass and optical_flow (subset: train and val)"
    folder: ClassVar[str] = "FlyingThings3D"
    name: Dataset = Dataset.flyingthings3d
    render_pass: RenderPass = RenderPass.clean  # of the frames
    camera: Camera = Camera.left  # whose frames
    direction: Direction = Direction.forward  # of the flow


@dataclass(kw_only=True)
class FlyingThings3DHalfResConfig(FlyingThings3DConfig):
    """FlyingThings3D at half its size, as `data halfres` makes it."""

    first_entries: ClassVar[str] = "frames_cleanpass and optical_flow, made by `data halfres`"
    folder: ClassVar[str] = "FlyingThings3D_HalfRes"
    name: Dataset = Dataset.flyingthings3d_halfres


@dataclass(kw_only=True)
class SintelConfig(FilesConfig):
    """MPI-Sintel."""

    first_entries: ClassVar[str] = "training/clean and training/flow"
    folder: ClassVar[str] = "MPI-Sintel"
    name: Dataset = Dataset.sintel
    render_pass: RenderPass = RenderPass.clean  # of the frames


@dataclass(kw_only=True)
class KittiConfig(FilesConfig):
    """KITTI 2012 or 2015."""

    first_entries: ClassVar[str] = "training/image_2 (2012: colored_0) and training/flow_noc"
    folder: ClassVar[str] = "kitti2015"
    name: Dataset = Dataset.kitti
    truth: Truth = Truth.noc  # without or with pixels that are occluded in the second frame


@dataclass(kw_only=True)
class Hd1kConfig(FilesConfig):
    """HD1K."""

    first_entries: ClassVar[str] = "hd1k_input and hd1k_flow_gt"
    folder: ClassVar[str] = "HD1K"
    name: Dataset = Dataset.hd1k


@dataclass(kw_only=True)
class MiddleburyConfig(FilesConfig):
    """Middlebury, the pairs with public truth."""

    first_entries: ClassVar[str] = "other-data and other-gt-flow"
    folder: ClassVar[str] = "Middlebury"
    name: Dataset = Dataset.middlebury


@dataclass(kw_only=True)
class SpringConfig(FilesConfig):
    """Spring."""

    first_entries: ClassVar[str] = "train/0001"
    folder: ClassVar[str] = "spring"
    name: Dataset = Dataset.spring
    camera: Camera = Camera.left  # whose frames
    direction: Direction = Direction.forward  # of the flow


@dataclass(kw_only=True)
class TartanAirConfig(FilesConfig):
    """TartanAir."""

    first_entries: ClassVar[str] = "folders of environments, such as abandonedfactory/Easy/P000"
    folder: ClassVar[str] = "TartanAir"
    name: Dataset = Dataset.tartanair


@dataclass(kw_only=True)
class FolderConfig(FilesConfig):
    """Any pairs whose file names follow a pattern. `*` and `**` must match the same in all."""

    first_entries: ClassVar[str] = "what the patterns data.frame1 and data.flow are relative to"
    name: Dataset = Dataset.folder
    frame1: str  # pattern of the first frames, relative to root: "*/*_img1.png"
    frame2: str | None = None  # pattern of the second; null: the next file that frame1 matches
    flow: str  # pattern of the flow files
    valid: str | None = None  # pattern of masks: zero where the flow is not to be used


@dataclass(kw_only=True)
class CsvConfig(FilesConfig):
    """The pairs that a CSV file lists."""

    first_entries: ClassVar[str] = "what the paths in data.manifest are relative to"
    name: Dataset = Dataset.csv
    manifest: str  # CSV file with the columns frame1, frame2, flow; docs/datasets.md has the others
