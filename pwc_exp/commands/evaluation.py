"""The configuration of an evaluation."""

from dataclasses import dataclass, field
from enum import StrEnum, auto

from pwc_exp.checks import check, check_not_negative, check_one_of, check_positive
from pwc_exp.groups.data import DataConfig, Split
from pwc_exp.groups.model import NetworkConfig
from pwc_exp.groups.tracking import TrackingConfig
from pwc_exp.groups.training import InferencePrecision


class Baseline(StrEnum):
    """A flow that needs no network."""

    zero = auto()


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
    """Errors of a run's, weights' or files' flow on a data set."""

    data: DataConfig | None = None  # null: that of the run
    precision: InferencePrecision | None = None  # null: that of the run, else float32
    tracking: TrackingConfig  # whether MLflow and TensorBoard get metrics, pictures and the report
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    predictions: str | None = None  # folder with flow files named by sample
    estimate: Baseline | None = None  # zero: a flow of zero, to compare with
    split: Split = Split.all  # samples to evaluate
    batch_size: int = 1  # samples in one step
    dialect: Dialect | None = None  # by whose definitions to score as well; all: side by side
    pictures: int = 10  # worst samples, and best ones, that the report draws
    out: str | None = None  # folder for the tables and the report; null: <outputs>/evaluate/<time>
    outputs: str = "outputs"  # folder of all runs
    xla: bool = True  # let XLA compile the decoder, where that pays

    def __post_init__(self) -> None:
        check_positive("", self, "batch_size")
        check_not_negative("", self, "pictures")
        check_one_of(self, "run", "weights", "predictions", "estimate")
        known = self.data is not None or self.run is not None
        check(known, "data", "must be chosen if no run says which data", self.data)

    @property
    def uses_network(self) -> bool:
        """Not if files or a baseline are evaluated."""
        return self.run is not None or self.weights is not None
