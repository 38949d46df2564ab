"""A sweep over all combinations of values."""

import itertools
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from pwc_exp.config.sweeps import GridConfig
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, UserError
from pwc_exp.stopping import log
from pwc_exp.sweeps.children import Child, make_child
from pwc_exp.sweeps.conduct import conducted
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.objective import Objective
from pwc_exp.sweeps.outcome import FINISHED
from pwc_exp.sweeps.setting import Setting, definition


def sweep(config: GridConfig, setting: Setting, arguments: Sequence[str]) -> None:
    """Runs a child for each combination, but those that have finished before.

    All children are composed and checked before the first one starts.

    Raises:
        UserError: an argument is refused, or children failed.
    """
    overrides = setting.parse(config.params, arguments)
    folder = setting.folder(definition(overrides), config.continued)
    children = _children(overrides, folder)
    configs = {child.number: _compose(setting, folder, child) for child in children}
    first = configs[children[0].number]
    with conducted(folder, first, Objective(first.best_metric)) as conductor:
        outcomes = [conductor.add(child, configs[child.number]) for child in children]
        left = [c for c, o in zip(children, outcomes, strict=True) if o.status != FINISHED]
        if before := len(children) - len(left):
            log(f"{before} of {len(children)} children have finished before")
        launcher = setting.launcher(folder, conductor.signals, at_once=None)
        conductor.run(left, launcher.launch, before=before, total=len(children))
        conductor.close(conductor.summary())
        conductor.require_all()


def _compose(setting: Setting, folder: SweepFolder, child: Child) -> TrainConfig:
    try:
        return setting.compose(child.overrides, folder.run_dir(child))
    except UserError as error:
        raise type(error)(f"{error} (of child {child.number}, {child.name})") from error


def _children(overrides: Sequence[Override], folder: SweepFolder) -> list[Child]:
    """A child for each combination; those that the folder knows keep their number and place."""
    swept = {o.get_key_element(): _values(o) for o in overrides if o.is_sweep_override()}
    fixed = [
        f"{o.get_key_element()}={o.get_value_element_as_str()}"
        for o in overrides
        if not o.is_sweep_override()
    ]
    known = {frozenset(child.overrides): child for child in folder.children}
    number = max((child.number for child in folder.children), default=-1) + 1
    children = []
    for combination in itertools.product(*swept.values()):
        child = make_child(number, dict(zip(swept, combination, strict=True)), fixed)
        if old := known.get(frozenset(child.overrides)):
            child = child._replace(number=old.number, folder=old.folder)
        else:
            number += 1
        children.append(child)
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
