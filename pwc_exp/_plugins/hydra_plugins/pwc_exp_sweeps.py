"""What Hydra finds: it takes sweepers and launchers from the package `hydra_plugins` only."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _Sweeper(Sweeper):
    """Keeps what Hydra gives until the sweep."""

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called before `sweep`."""
        from pwc_exp.sweeps.setting import Setting

        self.setting = Setting(hydra_context, task_function, config)


class GridSweeper(_Sweeper):
    """hydra/sweeper=grid: every combination of values."""

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep that `arguments`, of the command line, describe."""
        from pwc_exp.config.sweeps import GridConfig
        from pwc_exp.sweeps import grid

        grid.sweep(GridConfig(**self.knobs), self.setting, arguments)


class OptunaSweeper(_Sweeper):
    """hydra/sweeper=optuna: values that Optuna proposes."""

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search that `arguments`, of the command line, describe."""
        from pwc_exp.config.sweeps import OptunaConfig
        from pwc_exp.sweeps import search

        search.sweep(OptunaConfig(**self.knobs), self.setting, arguments)


class LocalLauncher(Launcher):
    """hydra/launcher=local: its knobs are read by the sweepers above, which start children."""

    def __init__(self, **knobs: Any) -> None:
        pass

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called before `launch`."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Refuses: other sweepers know nothing of folders and shares."""
        from pwc_exp.errors import ConfigError

        raise ConfigError("hydra/launcher=local needs hydra/sweeper=grid or hydra/sweeper=optuna")
