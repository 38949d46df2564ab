"""The configurations of `python -m pwc_exp.data`."""

from dataclasses import dataclass

from pwc_exp.checks import check_not_negative, check_positive
from pwc_exp.groups.augment import AugmentConfig
from pwc_exp.groups.data import DataConfig, Split


@dataclass(kw_only=True)
class DataCheckConfig:
    """What is wrong with a data set."""

    data: DataConfig
    split: Split = Split.all  # samples to check
    decode: bool = False  # decode every file too; else headers are compared with file sizes
    convention_samples: int = 8  # samples that tell which way the flow points
    out: str | None = None  # folder for report.json and quarantine.txt

    def __post_init__(self) -> None:
        check_not_negative("", self, "convention_samples")


@dataclass(kw_only=True)
class DataStatsConfig:
    """How large the motion in a data set is, and how much of it is known."""

    data: DataConfig
    split: Split = Split.all  # samples to count
    samples: int | None = None  # at most so many, evenly spread; null: all
    out: str | None = None  # folder for stats.json

    def __post_init__(self) -> None:
        if self.samples is not None:
            check_positive("", self, "samples")


@dataclass(kw_only=True)
class DataIndexConfig:
    """The samples of a data set, as a CSV file that `data=csv` reads."""

    data: DataConfig
    split: Split = Split.all  # samples to list
    out: str | None = None  # CSV file; null: a table on the terminal


@dataclass(kw_only=True)
class DataShowConfig:
    """Samples of a data set, drawn: what training sees of it."""

    data: DataConfig
    augment: AugmentConfig
    split: Split = Split.train  # samples to draw
    samples: int = 8  # how many
    seed: int = 0  # of the order of the samples and the augmentation
    out: str = "samples.png"  # picture

    def __post_init__(self) -> None:
        check_positive("", self, "samples")
        check_not_negative("", self, "seed")


@dataclass(kw_only=True)
class DataHalfresConfig:
    """FlyingThings3D at half its size."""

    root: str  # folder of the whole FlyingThings3D
    out: str  # folder for the small one
    workers: int | None = None  # parallel processes; null: one for each processor

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_positive("", self, "workers")


@dataclass(kw_only=True)
class DataFetchConfig:
    """A data set from its authors' server."""

    data: DataConfig  # data.root is the folder to unpack into
    entry: str | None = None  # of the catalogue, where a data set has several: kitti2012, kitti2015
    accept_licence: bool = False  # false: only show what would be downloaded, and on what terms
    keep_archives: bool = False  # false: delete each archive once it is unpacked
