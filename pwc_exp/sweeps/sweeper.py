"""What Hydra gives a sweep; and the sweep over every combination of values: hydra/sweeper=grid."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from pwc_exp.cli import check_places
from pwc_exp.config.composition import FREE_GROUPS, changes, check, in_words, refusals, register
from pwc_exp.config.schema import CONFIG_FILE, SWEEP_FILE, load
from pwc_exp.config.sweeps import AUTO, GridConfig, LocalConfig
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, OutputError, ResumeError, UserError
from pwc_exp.machine import processors
from pwc_exp.stopping import StopSignals, log
from pwc_exp.sweeps.folder import (
    Child,
    Objective,
    Status,
    SweepFolder,
    make_child,
    read_outcome,
    sweeps_in,
)
from pwc_exp.sweeps.launchers import HydraLauncher, Launcher, LocalLauncher, divide, find_gpus
from pwc_exp.sweeps.runner import open_runner


class SweepContext(NamedTuple):
    """A sweep as Hydra starts it.

    config: Hydra's own, of the sweep.
    arguments: of the command line, without Hydra's own.
    resume: the setting `sweep.resume`.
    """

    hydra: HydraContext
    task: TaskFunction
    config: DictConfig
    arguments: Sequence[str]
    resume: str | None

    def parse(self, params: Mapping[str, Any]) -> list[Override]:
        """Parses `params`, of the preset, and the arguments: the last one of each key counts."""
        preset = [f"{k}={'null' if value is None else value}" for k, value in params.items()]
        parser = OverridesParser.create(config_loader=self.hydra.config_loader)
        with refusals("train"):
            parsed = parser.parse_overrides([*preset, *self.arguments])
        return list({override.get_key_element(): override for override in parsed}.values())

    def compose(self, child: Child, sweep: SweepFolder) -> TrainConfig:
        """The configuration of a child.

        Raises:
            UserError: it is refused.
            ResumeError: the child has another one already, by an edited preset for example.
        """
        register(child.overrides)
        with refusals("train", ValueError, AssertionError):
            loader = self.hydra.config_loader
            values = loader.load_sweep_config(self.config, list(child.overrides))
        with open_dict(values):
            del values["hydra"]
        config = cast(TrainConfig, check(values, "train"))
        if config.resume:
            raise ConfigError("resume: names one run; sweep.resume=<folder> continues a sweep")
        check_places(config, sweep.path)  # which may not exist yet
        file = sweep.run_dir(child) / CONFIG_FILE
        if file.is_file():
            refuse_changes("values", sweep, changes(load(file), config))
        return config

    def open_folder(self, overrides: Sequence[Override], *, may_grow: bool) -> SweepFolder:
        """The sweep that `sweep.resume` means: with `auto`, the newest one of these arguments.

        Nothing is written. may_grow: whether a sweep that is named may get more values.

        Raises:
            ResumeError: it has other arguments.
            OutputError: the folder is that of another sweep.
        """
        definition = {o.get_key_element(): str(o.input_line).partition("=")[2] for o in overrides}
        path = Path(self.config.hydra.sweep.dir).absolute()
        new = SweepFolder(path=path, arguments=sorted(self.arguments), definition=definition)
        found = self._find(new)
        if found is None:
            return new
        differ = _changes(found, new)
        if may_grow and self.resume not in (None, AUTO):
            swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
            grown = swept & {key for child in found.children for key in child.values}
            differ = {key: pair for key, pair in differ.items() if key not in grown}
        refuse_changes("arguments", found, differ)
        found.arguments, found.definition = new.arguments, definition
        return found

    def _find(self, new: SweepFolder) -> SweepFolder | None:
        """The sweep to continue, if any."""
        if self.resume not in (None, AUTO):
            return SweepFolder.load(Path(self.resume))
        if (new.path / SWEEP_FILE).exists():
            if self.resume is None:
                raise OutputError(f"{new.path} must be a new folder. Received: that of a sweep")
            return SweepFolder.load(new.path)
        given = self.config.hydra.overrides.hydra  # arguments of the command line
        if self.resume is None or any(text.startswith("hydra.sweep.dir=") for text in given):
            return None
        others = sweeps_in(new.path.parent)
        for sweep in others:
            if sweep.arguments == new.arguments:
                return sweep
        if others and read_outcome(others[0].path, "").status != Status.FINISHED:
            differ = in_words(_changes(others[0], new))
            log(f"note    {others[0].path} has not finished; this is another sweep: {differ}")
        return None

    def make_launcher(
        self, sweep: SweepFolder, signals: StopSignals, *, at_once: int | None
    ) -> Launcher:
        """What runs children. at_once: children in one call of another launcher than ours."""
        chosen = self.config.hydra.launcher
        if chosen.get("_target_") == LocalConfig._target_:
            settings = cast(LocalConfig, OmegaConf.to_object(chosen))
            shares = divide(
                jobs=settings.jobs,
                gpus=settings.gpus,
                gpus_per_job=settings.gpus_per_job,
                found=find_gpus(os.environ),
                processors=processors(),
            )
            return LocalLauncher(sweep, signals, shares)
        with open_dict(self.config):
            self.config.hydra.sweep.dir = str(sweep.path)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra, task_function=self.task, config=self.config
        )
        return HydraLauncher(sweep, signals, launcher, at_once)


def refuse_changes(
    what: str, sweep: SweepFolder, changed: Mapping[str, tuple[object, object]]
) -> None:
    """Refuses to continue with other values, but for those of tracking and devices.

    Raises:
        ResumeError: `changed`, {key: (then, now)}, has others, as a preset was edited for example.
    """
    refused = {key: pair for key, pair in changed.items() if not key.startswith(FREE_GROUPS)}
    if refused:
        raise ResumeError(
            f"{sweep.path} must continue with the {what} that it was started with. Received: "
            f"{in_words(refused)}. sweep.resume=null starts a new sweep"
        )


def _changes(then: SweepFolder, now: SweepFolder) -> dict[str, tuple[object, object]]:
    """The arguments that differ: {key: (then, now)}."""
    keys = {**then.definition, **now.definition}
    pairs = {key: (then.definition.get(key), now.definition.get(key)) for key in keys}
    return {key: (old, new) for key, (old, new) in pairs.items() if old != new}


def sweep_grid(config: GridConfig, context: SweepContext) -> None:
    """Runs a child for each combination of values, except those that have finished already.

    All children are composed and checked before the first one starts.

    Raises:
        UserError: an argument is refused, or children failed.
    """
    overrides = context.parse(config.params)
    swept = {o.get_key_element(): _values(o) for o in overrides if o.is_sweep_override()}
    fixed = [
        f"{o.get_key_element()}={o.get_value_element_as_str()}"
        for o in overrides
        if not o.is_sweep_override()
    ]
    folder = context.open_folder(overrides, may_grow=True)
    children = _children(swept, fixed, folder)
    configs = []
    for child in children:
        try:
            configs.append(context.compose(child, folder))
        except UserError as error:
            raise type(error)(f"{error} (of child {child.number}, {child.name})") from error
    with open_runner(folder, configs[0], [Objective(configs[0].best_metric)]) as runner:
        launcher = context.make_launcher(folder, runner.signals, at_once=None)
        runner.add(zip(children, configs, strict=True))
        left = [c for c in children if runner.outcomes[c.number].status != Status.FINISHED]
        finished = len(children) - len(left)
        if finished:
            log(f"{finished} of {len(children)} children have finished before")
        runner.run(iter(left), launcher, done=finished, total=len(children))
        runner.close()
        runner.finish(all_needed=True)


def _children(
    swept: Mapping[str, Sequence[str]], fixed: Sequence[str], folder: SweepFolder
) -> list[Child]:
    """A child for each combination; those that the folder has keep their number and folder."""
    known = {frozenset(child.values.items()): child for child in folder.children}
    numbers = itertools.count(max((child.number for child in folder.children), default=-1) + 1)
    children = []
    for combination in itertools.product(*swept.values()):
        values = dict(zip(swept, combination, strict=True))
        old = known.get(frozenset(values.items()))
        child = make_child(old.number if old else next(numbers), values, fixed)
        children.append(child._replace(folder=old.folder) if old else child)
    return children


def _values(override: Override) -> list[str]:
    key = override.get_key_element()
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{key}: a grid needs single values; an interval is searched by hydra/sweeper=optuna. "
            f"Received: {override.input_line}"
        )
    values = list(override.sweep_string_iterator())
    if len(set(values)) != len(values) or not values:
        raise ConfigError(f"{key}: values must be different, at least one. Received: {values}")
    return values
