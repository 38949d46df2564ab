"""The configuration of an evaluation."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from pwc_exp.checks import check, check_not_negative, check_positive
from pwc_exp.groups.data import DataConfig, Split
from pwc_exp.groups.model import NetworkChoice, NetworkConfig
from pwc_exp.groups.tracking import TrackingConfig
from pwc_exp.groups.training import InferencePrecision


class Baseline(StrEnum):
    """Optical flow without training, to compare networks with."""

    zero = auto()
    dis = auto()
    farneback = auto()

    @property
    def needs_opencv(self) -> bool:
        """Whether OpenCV computes it."""
        return self is not Baseline.zero


class Dialect(StrEnum):
    """Whose definitions of the figures; `all` means every one, side by side."""

    sintel = auto()
    kitti = auto()
    raft = auto()
    torchvision = auto()
    mmflow = auto()
    ptlflow = auto()
    spring = auto()
    all = auto()

    @property
    def names(self) -> list[str]:
        """The single ones that it stands for."""
        every = [str(member) for member in Dialect if member is not Dialect.all]
        return every if self is Dialect.all else [str(self)]


class Unit(StrEnum):
    """What a bootstrap draws: frames of one scene are alike, and so no evidence of their own."""

    scenes = auto()
    samples = auto()


@dataclass(kw_only=True)
class BootstrapConfig:
    """How the intervals of an evaluation are made."""

    unit: Unit = Unit.scenes  # what is drawn with replacement
    draws: int = 2000  # how often
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        check_positive("bootstrap.", self, "draws")
        check_not_negative("bootstrap.", self, "seed")


@dataclass(kw_only=True)
class EvaluateConfig(NetworkConfig):
    """Errors of networks, flow files and baselines on a data set.

    run, weights, predictions and estimate: at least one of them, each with one value or a list.
    With several values in all, a table compares them.
    """

    data: DataConfig | None = None  # null: that of the run
    precision: InferencePrecision | None = None  # null: that of the run, else float32
    tracking: TrackingConfig  # whether MLflow and TensorBoard get metrics, pictures and the report
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    run: Any = None  # folder of a training run: its model and best checkpoint
    weights: Any = None  # name of shipped weights, a run, a checkpoint or a file
    predictions: Any = None  # folder with flow files named by sample
    estimate: Any = None  # baseline: zero, or dis or farneback of OpenCV
    split: Split = Split.all  # samples to evaluate
    batch_size: int = 1  # samples in one step
    dialect: Dialect | None = None  # by whose definitions to score as well; all: side by side
    pictures: int = 10  # worst samples, and best ones, that the report draws
    out: str | None = None  # folder for tables and reports; null: <outputs>/evaluate/<time>
    outputs: str = "outputs"  # folder of all runs
    xla: bool = True  # let XLA compile the decoder, where that pays

    def __post_init__(self) -> None:
        check_positive("", self, "batch_size")
        check_not_negative("", self, "pictures")
        inputs = ("run", "weights", "predictions", "estimate")
        for name in inputs:
            setattr(self, name, _texts(name, getattr(self, name)))
        every = ", ".join(Baseline)
        for name in self.estimate:
            check(name in list(Baseline), "estimate", f"must be one or more of {every}", name)
        self.estimate = [Baseline(name) for name in self.estimate]
        given = [name for name in inputs if getattr(self, name)]
        check(bool(given), " or ".join(inputs), "must be given", "none")
        known = self.data is not None or bool(self.run)
        check(known, "data", "must be chosen if no run says which data", self.data)

    @property
    def networks(self) -> list[NetworkChoice]:
        """The networks, one for each run and each of the weights."""
        runs = [NetworkChoice(run, None) for run in self.run]
        return runs + [NetworkChoice(None, weights) for weights in self.weights]


def _texts(key: str, value: object) -> list[str]:
    """The values of an input that takes none, one, or a list."""
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    for item in values:
        check(isinstance(item, str | int), key, "must be text, or a list of texts", value)
    return [str(item) for item in values]
