"""The configuration of a submission to a benchmark."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_one_of
from pwc_exp.groups.model import NetworkConfig
from pwc_exp.groups.training import InferencePrecision


class BenchmarkName(StrEnum):
    """Benchmarks with a server that scores estimates."""

    sintel = auto()
    kitti2012 = auto()
    kitti2015 = auto()
    spring = auto()


@dataclass(kw_only=True)
class SubmitConfig(NetworkConfig):
    """Estimates for a benchmark's test split, as its server takes them."""

    precision: InferencePrecision | None = None  # null: that of the run, else float32
    benchmark: BenchmarkName
    root: str | None = None  # folder of the data set; to check it is needed for sizes only
    predictions: str | None = None  # folder with flow files named as in the bundle, or by sample
    check: str | None = None  # folder or zip, made before, that is only checked
    dry_run: bool = False  # of the training split, and scored by reading it back
    clip: bool = False  # cut what KITTI's format cannot hold (512 px), in place of refusing it
    zip: bool | None = None  # write a zip too; null: where the server takes one
    out: str | None = None  # folder for the bundle, which must be new
    xla: bool = False  # let XLA compile the decoder, where that pays: about 10 s per frame size

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights", "predictions", "check")
        needed = self.check is None or self.dry_run
        check(self.root is not None or not needed, "root", "must name the data set", self.root)

    @property
    def uses_network(self) -> bool:
        """Not if files are packed, or a bundle is only checked."""
        return self.run is not None or self.weights is not None
