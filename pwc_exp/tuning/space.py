"""Which values a search may take, in the grammar of Hydra's sweeps, with or without Optuna.

    schedule.peak=tag(log, interval(1e-4, 1e-2))    model=tiny,sm    batch_size=range(2, 17, step=2)

The same text stands on the command line and in `hydra.sweeper.params`. An interval has real
numbers, `int(interval(1, 8))` whole ones, both ends included. A range ends before its stop, as in
Hydra's grids (hydra-optuna-sweeper 1.3 includes it). What comes back is text that Hydra reads as
the same value: https://hydra.cc/docs/1.3/advanced/override_grammar/extended
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    ParsedElementType,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException

from pwc_exp.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`; log: each order of magnitude as likely as any other."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def count(self) -> float:
        """How many values there are."""
        return self.high - self.low + 1 if self.integer else math.inf

    def texts(self) -> Iterator[str]:
        """All values, if they can be counted."""
        return (str(number) for number in range(int(self.low), int(self.high) + 1))

    def text(self, value: float) -> str:
        """`value` in Hydra's grammar."""
        return str(round(value)) if self.integer else repr(float(value))

    def value(self, text: str) -> float:
        """What `text` means."""
        return int(text) if self.integer else float(text)


@dataclass(frozen=True)
class Steps:
    """The numbers low, low + step, … high; whole ones if low and step are."""

    low: float
    high: float
    step: float

    @property
    def integer(self) -> bool:
        """Whether all of them are whole numbers by type."""
        return isinstance(self.low, int) and isinstance(self.step, int)

    @property
    def count(self) -> float:
        """How many values there are."""
        return round((self.high - self.low) / self.step) + 1

    def texts(self) -> Iterator[str]:
        """All values."""
        return (self._at(place) for place in range(int(self.count)))

    def text(self, value: float) -> str:
        """`value` in Hydra's grammar: 0.3, where a sum of floats may be 0.30000000000000004."""
        return self._at(round((value - self.low) / self.step))

    def value(self, text: str) -> float:
        """What `text` means."""
        return int(text) if self.integer else float(text)

    def _at(self, place: int) -> str:
        value = _exact(self.low) + place * _exact(self.step)
        return str(int(value)) if self.integer else repr(float(value))


@dataclass(frozen=True)
class Choices:
    """Values as Hydra's text, quotes included."""

    values: tuple[str, ...]

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)

    def texts(self) -> Iterator[str]:
        """All values."""
        return iter(self.values)

    def text(self, value: str) -> str:
        """`value`, which is such text already."""
        return value

    def value(self, text: str) -> str:
        """`text`: what it means is for Hydra to say."""
        return text


Part = Interval | Steps | Choices


@dataclass(frozen=True)
class Space:
    """What each searched key may be, and the overrides that every run has."""

    parts: Mapping[str, Part]
    fixed: tuple[str, ...] = ()

    @property
    def count(self) -> float:
        """How many different runs there can be; infinite if any key has an interval of reals."""
        return math.prod(part.count for part in self.parts.values())

    def all(self) -> Iterator[dict[str, str]]:
        """Every combination of values, if they can be counted."""
        for values in itertools.product(*(part.texts() for part in self.parts.values())):
            yield dict(zip(self.parts, values, strict=True))

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """The arguments of the run that has these values."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]


def parse(params: Mapping[str, object], arguments: Sequence[str] = ()) -> Space:
    """Reads `params`, then `arguments`, of which a key replaces that of `params`.

    Raises:
        ConfigError: something is not of the grammar, or cannot be searched.
    """
    lines = [f"{key}={_value_text(str(key), value)}" for key, value in params.items()]
    overrides: dict[str, Override] = {}
    for line in [*lines, *arguments]:
        override = _parse_line(line)
        overrides.pop(override.get_key_element(), None)
        overrides[override.get_key_element()] = override
    searched = {key: item for key, item in overrides.items() if item.is_sweep_override()}
    fixed = (str(item.input_line) for key, item in overrides.items() if key not in searched)
    return Space({key: _part(key, item) for key, item in searched.items()}, tuple(fixed))


def _value_text(key: str, value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
    raise ConfigError(
        f"{key}: must be one value or text such as choice(a, b), interval(0, 1) or '[64, 64]'. "
        f"Received: {value}"
    )


def _parse_line(line: str) -> Override:
    key = line.partition("=")[0]
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException as error:
        reason = str(error).splitlines()[0].rpartition("': ")[2]
        raise ConfigError(f"{key}: not in Hydra's grammar; {reason}. Received: {line}") from error


def _part(key: str, override: Override) -> Part:
    sweep = override.value()
    received = override.get_value_string()
    if override.is_hydra_override():
        raise ConfigError(f"{key}: Hydra's own keys cannot be searched. Received: {received}")
    match sweep:
        case IntervalSweep(start=float() | int() as low, end=float() | int() as high):
            _check_tags(key, sweep.tags, {"log"}, received)
            return _interval(key, Interval(low, high, "log" in sweep.tags, isinstance(low, int)))
        case RangeSweep(start=float() | int() as low, stop=float() | int() as stop, shuffle=False):
            _check_tags(key, sweep.tags, set(), received)
            return _steps(key, low, stop, sweep.step)
        case ChoiceSweep(shuffle=False):
            _check_tags(key, sweep.tags, set(), received)
            return _choices(key, tuple(map(_choice_text, sweep.list)))
    requirement = "must be an interval, a range or choices, not shuffled and no pattern"
    raise ConfigError(f"{key} {requirement}. Received: {received}")


def _check_tags(key: str, tags: set[str], known: set[str], received: str) -> None:
    for tag in sorted(tags - known):
        raise ConfigError(
            f"{key}: tag '{tag}' means nothing here; log does, of an interval. Received: {received}"
        )


def _interval(key: str, part: Interval) -> Interval:
    received = f"interval({part.low}, {part.high})"
    if not (math.isfinite(part.low) and math.isfinite(part.high) and part.low < part.high):
        raise ConfigError(f"{key}: an interval must go from low to high. Received: {received}")
    if part.log and part.low <= 0:
        raise ConfigError(f"{key}: a log interval must be above 0. Received: {received}")
    return part


def _steps(key: str, low: float, stop: float, step: float) -> Steps:
    received = f"range({low}, {stop}, step={step})"
    if not (all(map(math.isfinite, (low, stop, step))) and low < stop and step > 0):
        raise ConfigError(f"{key}: a range must go up, by a positive step. Received: {received}")
    places = math.ceil((_exact(stop) - _exact(low)) / _exact(step)) - 1
    high = _exact(low) + places * _exact(step)
    whole = isinstance(low, int) and isinstance(step, int)
    return Steps(low, int(high) if whole else float(high), step)


def _choices(key: str, values: tuple[str, ...]) -> Choices:
    if len(set(values)) < len(values):
        raise ConfigError(f"{key}: choices must differ. Received: {', '.join(values)}")
    return Choices(values)


def _choice_text(value: ParsedElementType) -> str:
    """As Hydra writes it; in quotes, which choice('1') has lost, if it were read as another."""
    if not isinstance(value, str):
        return Transformer.str(value)
    plain = re.fullmatch(r"[\w./+-]+", value) and _parse_line(f"key={value}").value() == value
    return value if plain else QuotedString(value, Quote.single).with_quotes()


def _exact(number: float) -> Decimal:
    """The number that was written: 0.1, not the binary fraction next to it."""
    return Decimal(repr(number))
