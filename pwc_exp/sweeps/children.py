"""Which runs a sweep has, and what they are called."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_LONGEST = 60  # characters of a folder's name
_DIGITS = 8  # characters of a value that is shown as it is


class Child(NamedTuple):
    """A run of a sweep.

    folder: the name of its folder, in that of the sweep.
    name: what it is called in MLflow: what differs from the other children.
    values: of what differs, in Hydra's grammar.
    overrides: all arguments of the run.
    """

    number: int
    folder: str
    name: str
    values: dict[str, str]
    overrides: list[str]


def make_child(number: int, values: Mapping[str, str], fixed: Sequence[str]) -> Child:
    """The child number `number` with `values`, beside what is the same for all."""
    pairs = [f"{_short(key)}={rounded(value)}" for key, value in values.items()]
    own = [f"{key}={value}" for key, value in values.items()]
    return Child(
        number=number,
        folder=_folder(number, pairs),
        name=" ".join(pairs) or str(number),
        values=dict(values),
        overrides=[*fixed, *own],
    )


def _short(key: str) -> str:
    """`key` without Hydra's marks of what is added."""
    return key.lstrip("+")


def rounded(value: str) -> str:
    """`value`, to four digits if it is a number of many."""
    try:
        return f"{float(value):.4g}" if len(value) > _DIGITS else value
    except ValueError:
        return value


def _folder(number: int, pairs: Sequence[str]) -> str:
    """A name that needs no quotes in a shell, nor in Hydra's grammar."""
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", pair).strip("-") for pair in pairs]
    return "_".join([str(number), *words])[:_LONGEST].rstrip("-_.")
