"""Settings: their ranges, next to the line that explains each, and checks of how they combine.

A setting that everyone wants the same has its default in its dataclass; one that is a choice has
none, and is set in `conf/<group>/`. Sizes are (height, width).
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pwc_exp.errors import ConfigError

INFINITY = float("inf")
# What must hold, as the message says it, and the test of one number. NaN passes none of them.
RANGES: dict[str, Callable[[float], bool]] = {
    "must be positive": lambda number: 0 < number < INFINITY,
    "must be at least 0": lambda number: 0 <= number < INFINITY,
    "must be between 0 and 1": lambda number: 0 <= number <= 1,
}


def list_of(*values: Any) -> Any:
    """A field whose default is a list."""
    return field(default_factory=lambda: list(values))


def positive(*default: Any) -> Any:
    """A field for a finite number above 0, or a list of at least one; None is not checked."""
    return _limited("must be positive", default)


def not_negative(*default: Any) -> Any:
    """A field for a finite number of at least 0; None is not checked."""
    return _limited("must be at least 0", default)


def share(*default: Any) -> Any:
    """A field for a number in [0, 1]; None is not checked."""
    return _limited("must be between 0 and 1", default)


@dataclass(kw_only=True)
class Settings:
    """Settings whose ranges are checked when an object is made.

    prefix: what precedes their names in messages, such as "data.".
    """

    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            if requirement := each.metadata.get("range"):
                value = getattr(self, each.name)
                numbers = value if isinstance(value, list) else [value]
                holds = value is None or (numbers and all(map(RANGES[requirement], numbers)))
                check(bool(holds), self.prefix + each.name, requirement, value)


def _limited(requirement: str, default: tuple[Any, ...]) -> Any:
    metadata = {"range": requirement}
    if not default:
        return field(metadata=metadata)
    (value,) = default
    if isinstance(value, list):
        return field(default_factory=lambda: list(value), metadata=metadata)
    return field(default=value, metadata=metadata)


def check(holds: bool, key: str, requirement: str, received: object) -> None:
    """Refuses the value `received` of `key` unless `holds`."""
    if not holds:
        raise ConfigError(f"{key} {requirement}. Received: {received}")


def check_size(key: str, size: list[int], multiple: int) -> None:
    """Refuses anything but a height and a width that the strides of a pyramid divide."""
    holds = len(size) == 2 and all(length > 0 and length % multiple == 0 for length in size)
    requirement = f"must be a multiple of {multiple} in height and in width, [height, width]"
    check(holds, key, requirement, size)


def check_at_most_one_of(config: object, *names: str) -> None:
    """Refuses several of a command's alternative inputs."""
    given = [name for name in names if getattr(config, name) is not None]
    received = ", ".join(given)
    check(len(given) <= 1, " or ".join(names), "must be given, at most one of them", received)


def check_one_of(config: object, *names: str) -> None:
    """Refuses none, or several, of a command's alternative inputs."""
    given = [name for name in names if getattr(config, name) is not None]
    received = ", ".join(given) or "none"
    check(len(given) == 1, " or ".join(names), "must be given, exactly one of them", received)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message: which known name may be meant; empty if none is similar."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean '{found[0]}'?)" if found else ""
