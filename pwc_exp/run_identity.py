"""Which runs are the same experiment, up to the seed; the settings in which runs differ."""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from pwc_exp.config.resume import FREE, FREE_GROUPS
from pwc_exp.config.schema import CHOICE
from pwc_exp.tracking.search import Found

SEED = "seed"
_APART = (FREE - {"steps"}) | {SEED, "name"}  # settings that do not change the experiment


def settings_of(found: Found) -> dict[str, str]:
    """The values that define the experiment of a run, and the choice of each group."""
    own = {key: value for key, value in found.params.items() if not _is_apart(key)}
    return {**_choices(found.params, own), **own}


def experiment_of(found: Found, metric: str) -> Hashable:
    """A key that is equal for runs that differ only in their seed, at a step, on the same data."""
    values = {key: value for key, value in settings_of(found).items() if key != "steps"}
    return (
        frozenset(values.items()),
        found.steps[metric],
        frozenset(found.digests.items()),
    )


def differing(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Settings that all runs have and that differ, apart from those that follow from a name.

    A setting of a model that its name determines is left out, such as the channels of sm and tiny;
    likewise for data. Choices of groups come first, settings of the data last.
    """
    shared = [key for key in runs[0] if all(key in run for run in runs)]
    differ = [key for key in shared if len({run[key] for run in runs}) > 1]
    return sorted((key for key in differ if not _follows(key, runs)), key=_prominence)


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Short names: the last part of each key, unless another key has the same."""
    short = {key: _short(key) for key in keys}
    taken = list(short.values())
    return {key: key if taken.count(label) > 1 else label for key, label in short.items()}


def _short(key: str) -> str:
    group, _, last = key.rpartition(".")
    return group if group and last == "name" else last


def _prominence(key: str) -> tuple[bool, bool, str]:
    return key.startswith("data."), "." in key and not key.endswith(".name"), key


def _follows(key: str, runs: Sequence[Mapping[str, str]]) -> bool:
    """Whether runs with the same name of the setting's group have the same value of the setting."""
    name = f"{key.partition('.')[0]}.name"
    if name == key or not all(name in run for run in runs):
        return False
    values: dict[str, str] = {}
    return all(values.setdefault(run[name], run[key]) == run[key] for run in runs)


def _is_apart(key: str) -> bool:
    return key in _APART or key.startswith((*FREE_GROUPS, CHOICE))


def _choices(params: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """{group: choice}, of groups that have no name among their settings."""
    found = {key.removeprefix(CHOICE): v for key, v in params.items() if key.startswith(CHOICE)}
    named = {group for group in found if f"{group}.name" in own} | {"experiment", "tracking"}
    return {group: choice for group, choice in found.items() if group not in named}
