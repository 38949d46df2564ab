"""What Hydra gives a sweep: how a child is composed, where the sweep lies, who runs children."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from pwc_exp.config.composition import check, refusals, register
from pwc_exp.config.resume import identity_changes, in_words
from pwc_exp.config.schema import CONFIG_FILE, load
from pwc_exp.config.sweeps import LocalConfig
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, OutputError, ResumeError
from pwc_exp.inputs import check_places
from pwc_exp.machine import processors
from pwc_exp.stopping import StopSignals, log
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import FILE, SweepFolder, newest_alike
from pwc_exp.sweeps.foreign import run_foreign
from pwc_exp.sweeps.launch import Ended, Launcher
from pwc_exp.sweeps.local import run_local
from pwc_exp.sweeps.shares import divide, find_gpus


class Setting(NamedTuple):
    """A sweep as Hydra starts it. config: Hydra's own, of the sweep."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig

    def parse(self, params: Mapping[str, Any], arguments: Sequence[str]) -> list[Override]:
        """Reads `params`, then arguments, in Hydra's grammar: the last of each key."""
        overrides = [*(f"{key}={values}" for key, values in params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        with refusals("train"):
            parsed = parser.parse_overrides(overrides)
        return list({override.get_key_element(): override for override in parsed}.values())

    def compose(self, overrides: Sequence[str], run_dir: Path) -> TrainConfig:
        """The configuration of a run of the sweep.

        Raises:
            UserError: it is refused.
            ResumeError: the run has begun, with other values.
        """
        register(overrides)
        with refusals("train", ValueError, AssertionError):
            loader = self.context.config_loader
            values = loader.load_sweep_config(self.config, list(overrides))
        with open_dict(values):
            del values["hydra"]
        config = cast(TrainConfig, check(values, "train"))
        if config.resume:
            raise ConfigError("resume: cannot be given to a sweep, it names one run")
        check_places(config, run_dir.parent)  # the folder of the sweep is not made yet
        file = run_dir / CONFIG_FILE
        if file.is_file() and (others := identity_changes(load(file), config)):
            raise ResumeError(
                f"sweep.continue: {run_dir} must go on with the values it began with. Received: "
                f"{in_words(others)}"
            )
        return config

    def folder(self, definition: dict[str, str], continued: str | None) -> SweepFolder:
        """The folder of the sweep: a new one, or that of the sweep to go on with."""
        new = Path(self.config.hydra.sweep.dir).absolute()
        which = (continued or "false").lower()
        if which == "true":
            if found := newest_alike(new.parent, definition):
                return found
            log(f"sweep.continue: no sweep in {new.parent} has this definition; a new one begins")
        elif which != "false":
            return SweepFolder.load(Path(continued or ""))
        if (new / FILE).exists():
            raise OutputError(f"{new} must be a new folder. Received: that of another sweep")
        return SweepFolder(path=new, definition=definition)

    def launcher(
        self, sweep: SweepFolder, signals: StopSignals, *, at_once: int | None
    ) -> Launcher:
        """What runs children. at_once: given to another launcher than ours in one call."""
        chosen = self.config.hydra.launcher
        if chosen.get("_target_") == LocalConfig._target_:
            knobs = cast(LocalConfig, OmegaConf.to_object(chosen))
            shares = divide(
                jobs=knobs.jobs,
                gpus=knobs.gpus,
                gpus_per_job=knobs.gpus_per_job,
                found=find_gpus(os.environ),
                processors=processors(),
            )

            def launch_local(
                children: Iterator[Child], on_start: Callable[[Child], None]
            ) -> Iterator[Ended]:
                return run_local(sweep, children, shares, signals=signals, on_start=on_start)

            return Launcher(launch_local, len(shares))
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(sweep.path)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )

        def launch_foreign(
            children: Iterator[Child], on_start: Callable[[Child], None]
        ) -> Iterator[Ended]:
            return run_foreign(
                launcher, sweep, children, at_once=at_once, signals=signals, on_start=on_start
            )

        return Launcher(launch_foreign, at_once)


def definition(overrides: Sequence[Override]) -> dict[str, str]:
    """What a sweep is: its arguments by key, in Hydra's grammar."""
    return {o.get_key_element(): str(o.input_line).partition("=")[2] for o in overrides}
