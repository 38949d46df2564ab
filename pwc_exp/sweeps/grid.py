"""A sweep over every combination of values: hydra/sweeper=grid."""

import itertools
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from pwc_exp.config.sweeps import GridConfig
from pwc_exp.errors import ConfigError, UserError
from pwc_exp.stopping import log
from pwc_exp.sweeps.context import SweepContext
from pwc_exp.sweeps.folder import Child, SweepFolder, make_child
from pwc_exp.sweeps.results import Objective, Status
from pwc_exp.sweeps.runner import open_runner


def sweep(config: GridConfig, context: SweepContext) -> None:
    """Runs a child for each combination of values, except those that have finished already.

    All children are composed and checked before the first one starts.

    Raises:
        UserError: an argument is refused, or children failed.
    """
    overrides = context.parse(config.params)
    swept = {o.get_key_element(): _values(o) for o in overrides if o.is_sweep_override()}
    folder = context.open_folder(overrides, may_grow=True)
    fixed = [
        f"{o.get_key_element()}={o.get_value_element_as_str()}"
        for o in overrides
        if not o.is_sweep_override()
    ]
    children = _children(swept, fixed, folder)
    configs = []
    for child in children:
        try:
            configs.append(context.compose(child, folder))
        except UserError as error:
            raise type(error)(f"{error} (of child {child.number}, {child.name})") from error
    objective = Objective(configs[0].best_metric)
    with open_runner(folder, configs[0], objective) as runner:
        launcher = context.make_launcher(folder, runner.signals, at_once=None)
        runner.add(zip(children, configs, strict=True))
        left = [c for c in children if runner.outcomes[c.number].status != Status.FINISHED]
        finished = len(children) - len(left)
        if finished:
            log(f"{finished} of {len(children)} children have finished before")
        runner.run(iter(left), launcher, done=finished, total=len(children))
        runner.close(runner.summary())
        runner.finish(all_needed=True)


def _children(
    swept: dict[str, list[str]], fixed: Sequence[str], folder: SweepFolder
) -> list[Child]:
    """A child for each combination; those that the folder has keep their number and folder."""
    known = {frozenset(child.values.items()): child for child in folder.children}
    number = max((child.number for child in folder.children), default=-1) + 1
    children = []
    for combination in itertools.product(*swept.values()):
        values = dict(zip(swept, combination, strict=True))
        if old := known.get(frozenset(values.items())):
            child = make_child(old.number, values, fixed)._replace(folder=old.folder)
        else:
            child = make_child(number, values, fixed)
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
