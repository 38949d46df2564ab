"""Where a run computes, and what it does when something goes wrong."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_positive


class OnNonFinite(StrEnum):
    """What happens when a loss or gradient is not finite. Its update is never applied."""

    stop = auto()
    skip = auto()


class OnStuck(StrEnum):
    """What happens when training does not start."""

    warn = auto()
    reseed = auto()


@dataclass(kw_only=True)
class DevicesConfig:
    """The devices that share the work; the batch is cut into a part for each."""

    gpus: list[int] | None = None  # numbers of the GPUs to use; null: all
    cpus: int = 1  # devices that the processor stands for, to try out several without GPUs
    cluster: bool = True  # join the cluster that TF_CONFIG or Slurm describe, if they do

    def __post_init__(self) -> None:
        check_positive("devices.", self, "cpus")
        if self.gpus is not None:
            holds = all(number >= 0 for number in self.gpus) and len(set(self.gpus)) == len(
                self.gpus
            )
            check(holds, "devices.gpus", "must be different numbers, from 0", self.gpus)
