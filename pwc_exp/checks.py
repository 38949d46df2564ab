"""Checks of configured values: each names the full key, what must hold and what was received."""

import difflib
from collections.abc import Iterable

from pwc_exp.errors import ConfigError


def check(holds: bool, key: str, requirement: str, received: object) -> None:
    """Refuses the value `received` of `key` unless `holds`."""
    if not holds:
        raise ConfigError(f"{key} {requirement}. Received: {received}")


def check_positive(prefix: str, config: object, *names: str) -> None:
    """Refuses numbers, and lists with numbers, that are not above 0 (NaN and infinity included)."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, list) else [value]
        holds = len(numbers) > 0 and all(0 < number < float("inf") for number in numbers)
        check(holds, prefix + name, "must be positive", value)


def check_not_negative(prefix: str, config: object, *names: str) -> None:
    """Refuses numbers below 0 (NaN and infinity included)."""
    for name in names:
        value = getattr(config, name)
        check(0 <= value < float("inf"), prefix + name, "must be at least 0", value)


def check_share(prefix: str, config: object, *names: str) -> None:
    """Refuses numbers outside of [0, 1]."""
    for name in names:
        value = getattr(config, name)
        check(0 <= value <= 1, prefix + name, "must be between 0 and 1", value)


def check_size(key: str, size: list[int], multiple: int) -> None:
    """Refuses what is not a height and a width that the strides of a pyramid divide."""
    holds = len(size) == 2 and all(length > 0 and length % multiple == 0 for length in size)
    requirement = f"must be a multiple of {multiple} in height and in width, [height, width]"
    check(holds, key, requirement, size)


def check_one_of(config: object, *names: str) -> None:
    """Refuses a command that is given none or several of its alternative inputs."""
    given = [name for name in names if getattr(config, name) is not None]
    received = ", ".join(given) or "none"
    check(len(given) == 1, " or ".join(names), "must be given, exactly one of them", received)


def nearest(name: str, known: Iterable[str]) -> str:
    """For the end of a requirement: which known name may be meant; empty if none is like it."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean '{found[0]}'?)" if found else ""
