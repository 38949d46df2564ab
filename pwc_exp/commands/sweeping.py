"""The configurations of sweeps: what is tried, and how its runs share the machine."""

from dataclasses import dataclass, field

from pwc_exp.checks import check, check_positive


@dataclass(kw_only=True)
class GridConfig:
    """Every combination of the values given: hydra/sweeper=grid."""

    _target_: str = "hydra_plugins.pwc_exp_sweeps.GridSweeper"
    params: dict[str, str] = field(
        default_factory=dict
    )  # values by key, as after -m; the command line overrules them
    continued: str | None = None  # sweep.continue: true, or the folder of the sweep to go on with


@dataclass(kw_only=True)
class LocalConfig:
    """Runs side by side on this machine, a process and a share of it for each."""

    _target_: str = "hydra_plugins.pwc_exp_sweeps.LocalLauncher"
    jobs: int | None = None  # runs at once; null: as many as the GPUs allow, without GPUs 1
    gpus: list[int] | None = None  # numbers of the GPUs to use; null: all
    gpus_per_job: int = 1  # GPUs of a run, where there are any

    def __post_init__(self) -> None:
        check_positive("hydra.launcher.", self, "gpus_per_job")
        if self.jobs is not None:
            check_positive("hydra.launcher.", self, "jobs")
        if self.gpus is not None:
            different = len(set(self.gpus)) == len(self.gpus) > 0 and min(self.gpus) >= 0
            check(different, "hydra.launcher.gpus", "must be different numbers, from 0", self.gpus)
