"""Settings: their ranges, next to the line that explains each, and checks of how they combine.

A setting that everyone wants the same has its default in its dataclass; one that is a choice has
none, and is set in `conf/<group>/`. Sizes are (height, width).
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from pwc_exp.errors import ConfigError

INFINITY = float("inf")
# What must hold, as the message says it, and the test of the numbers. NaN passes none.
Limit = tuple[str, Callable[[list[float]], bool]]


def list_of(*values: Any) -> Any:
    """A field whose default is a list."""
    return field(default_factory=lambda: list(values))


def limited(default: tuple[Any, ...], *limits: Limit) -> Any:
    """A field for a number, or for a list of at least one; None is not checked."""
    metadata = {"limits": limits}
    if not default:
        return field(metadata=metadata)
    (value,) = default
    if isinstance(value, list):
        return field(default_factory=lambda: list(value), metadata=metadata)
    return field(default=value, metadata=metadata)


def positive(*default: Any) -> Any:
    """A field for a finite number above 0, or a list of them."""
    return limited(default, ("must be positive", lambda n: all(0 < x < INFINITY for x in n)))


def not_negative(*default: Any) -> Any:
    """A field for a finite number of at least 0, or a list of them."""
    return limited(default, ("must be at least 0", lambda n: all(0 <= x < INFINITY for x in n)))


def share(*default: Any) -> Any:
    """A field for a number in [0, 1]."""
    return limited(default, ("must be between 0 and 1", lambda n: all(0 <= x <= 1 for x in n)))


def tcp_port(default: int) -> Any:
    """A field for the number of a TCP port; 0 means any free one."""
    requirement = "must be between 0 and 65535"
    return limited((default,), (requirement, lambda n: all(0 <= x <= 65535 for x in n)))


def below_one(*default: Any) -> Any:
    """A field for a number in [0, 1)."""
    requirement = "must be at least 0 and below 1"
    return limited(default, (requirement, lambda n: all(0 <= x < 1 for x in n)))


def size(*default: Any) -> Any:
    """A field for a height and a width, in pixels."""
    return limited(
        default,
        ("must be positive", lambda n: all(0 < x < INFINITY for x in n)),
        ("must be [height, width]", lambda n: len(n) == 2),
    )


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
@dataclass(kw_only=True)
class Settings:
    """Settings whose ranges are checked when an object is made; each subclass is a dataclass.

    prefix: what precedes their names in messages, such as "data.".
    """

    prefix: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True)(cls)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            numbers = value if isinstance(value, list) else [value]
            for requirement, test in each.metadata.get("limits", ()):
                holds = value is None or (len(numbers) > 0 and test(numbers))
                self.require(holds, each.name, requirement)

    def require(self, holds: bool, name: str, requirement: str) -> None:
        """Refuses the value of the setting `name` unless `holds`."""
        check(holds, self.prefix + name, requirement, getattr(self, name))


def check(holds: bool, key: str, requirement: str, received: object) -> None:
    """Refuses the value `received` of `key` unless `holds`."""
    if not holds:
        raise ConfigError(f"{key} {requirement}. Received: {received}")


def check_size(key: str, size: list[int], multiple: int) -> None:
    """Refuses anything but a height and a width that the strides of a pyramid divide."""
    holds = len(size) == 2 and all(length > 0 and length % multiple == 0 for length in size)
    requirement = f"must be a multiple of {multiple} in height and in width, [height, width]"
    check(holds, key, requirement, size)


def check_one_of(config: object, *names: str, needed: bool = True) -> None:
    """Refuses several of a command's alternative inputs and, if one is `needed`, none of them."""
    given = [name for name in names if getattr(config, name) is not None]
    requirement = f"must be given, {'exactly' if needed else 'at most'} one of them"
    holds = len(given) == 1 or not (given or needed)
    check(holds, " or ".join(names), requirement, ", ".join(given) or "none")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message: which known name may be meant; empty if none is similar."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean '{found[0]}'?)" if found else ""
