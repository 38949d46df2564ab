"""Configuration of sweeps: which runs there are, and how they share the machine."""

from dataclasses import field
from enum import StrEnum
from typing import Any, ClassVar

from pwc_exp.config.fields import Settings, list_of, not_negative, positive

AUTO = "auto"
SECONDS = "seconds"  # an objective that is no key of metrics.jsonl: the time of the training steps


# How values are proposed: tpe models the good and the other trials.
Sampler = StrEnum("Sampler", ["tpe", "random"])
# Which trials are stopped early: those worse than half of the finished ones at the same step; all
# but the best 1 / reduction_factor at each of several steps.
Pruner = StrEnum("Pruner", ["none", "median", "hyperband"])


class GridConfig(Settings):
    """Every combination of the values given: hydra/sweeper=grid."""

    _target_: str = "hydra_plugins.pwc_exp_sweeps.GridSweeper"
    params: dict[str, Any] = field(default_factory=dict)  # arguments, in Hydra's grammar
    resume: str | None = AUTO  # newest sweep of this command, if any; null: a new one; or a folder


class OptunaConfig(Settings):
    """A search: the next run's values depend on what the runs before have reached."""

    prefix: ClassVar[str] = "sweep."

    _target_: str = "hydra_plugins.pwc_exp_sweeps.OptunaSweeper"
    params: dict[str, Any] = field(default_factory=dict)  # arguments, in Hydra's grammar
    trials: int = positive(20)  # runs, those that fail or are stopped early included
    objectives: list[str] = list_of("val/aepe")  # keys of metrics.jsonl (last value), or seconds
    maximize: list[str] = list_of()  # the objectives to maximize; others are minimized
    sampler: Sampler = Sampler.tpe
    seed: int | None = not_negative(0)  # of the proposals; null: different ones each time
    startup_trials: int = not_negative(5)  # with random values, before tpe learns and median prunes
    pruner: Pruner = Pruner.none
    warmup_steps: int = not_negative(1)  # median stops no trial before this step
    min_resource: int | None = positive(None)  # steps of hyperband's first comparison
    reduction_factor: int = 3  # hyperband continues one in so many trials
    storage: str | None = None  # URL of an Optuna storage; null: optuna.journal, in the folder
    at_once: int = positive(1)  # trials in one call of another launcher than ours
    resume: str | None = AUTO  # newest sweep of this command, if any; null: a new one; or a folder

    def __post_init__(self) -> None:
        super().__post_init__()
        keys = self.objectives
        self.require(len(keys) > 0, "objectives", "must name one")
        self.require(len(set(keys)) == len(keys), "objectives", "must differ")
        requirement = f"must be of the objectives, {', '.join(keys)}"
        self.require(set(self.maximize) <= set(keys), "maximize", requirement)
        self.require(self.reduction_factor > 1, "reduction_factor", "must be at least 2")
        single = len(keys) == 1 and keys != [SECONDS]
        requirement = "must be none with several objectives, and with seconds"
        self.require(single or self.pruner == Pruner.none, "pruner", requirement)


class LocalConfig(Settings):
    """Runs side by side on this machine, a process and a share of it for each."""

    prefix: ClassVar[str] = "hydra.launcher."

    _target_: str = "hydra_plugins.pwc_exp_sweeps.LocalLauncher"
    jobs: int | None = positive(None)  # parallel runs; null: as many as the GPUs allow, else 1
    gpus: list[int] | None = None  # numbers of the GPUs to use; null: all
    gpus_per_job: int = positive(1)  # GPUs of a run, where there are any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus is not None:
            different = len(set(self.gpus)) == len(self.gpus) > 0 and min(self.gpus) >= 0
            self.require(different, "gpus", "must be different numbers, from 0")
