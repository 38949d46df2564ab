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

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called before `sweep`."""
        self.hydra = (hydra_context, task_function, config)

    def context(self, arguments: list[str]) -> Any:
        """The sweep with the `arguments` of the command line."""
        from pwc_exp.sweeps.sweeper import SweepContext

        return SweepContext(*self.hydra, arguments, self.settings["resume"])


class GridSweeper(_Sweeper):
    """hydra/sweeper=grid: every combination of values."""

    def sweep(self, arguments: list[str]) -> None:
        """Runs the sweep that `arguments`, of the command line, describe."""
        from pwc_exp.config.sweeps import GridConfig
        from pwc_exp.sweeps.sweeper import sweep_grid

        sweep_grid(GridConfig(**self.settings), self.context(arguments))


class OptunaSweeper(_Sweeper):
    """hydra/sweeper=optuna: values that Optuna proposes."""

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search that `arguments`, of the command line, describe."""
        from pwc_exp.config.sweeps import OptunaConfig
        from pwc_exp.machine import needed

        config = OptunaConfig(**self.settings)
        needed("optuna", "tune")
        from pwc_exp.sweeps.search import sweep_search

        sweep_search(config, self.context(arguments))


class LocalLauncher(Launcher):
    """hydra/launcher=local: the sweepers above read its settings, and start children."""

    def __init__(self, **settings: Any) -> None:
        pass

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called before `launch`."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Refuses: other sweepers have no folders and shares."""
        from pwc_exp.errors import ConfigError

        raise ConfigError("hydra/launcher=local needs hydra/sweeper=grid or hydra/sweeper=optuna")
