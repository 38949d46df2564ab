"""Axes of charts: where a value stands, and which values are named beside an axis."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

_WIDE = 20  # ratio of positive values above which an axis is logarithmic
_FEW = 6  # different numbers that are all named, where there is room

Scale = Callable[[float], float]  # a value -> its place on the page


class Tick(NamedTuple):
    """A value on an axis and what stands there."""

    place: float
    label: str


class Axis(NamedTuple):
    """Where values stand, and those that are named."""

    scale: Scale
    ticks: list[Tick]


class Column(NamedTuple):
    """What a chart shows along an axis: numbers, or places in a list of categories."""

    values: list[float]  # nan: none
    categories: list[str]  # empty: the values are numbers


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """From low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def from_zero(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with 0 on it."""
    low, high = min(0.0, *values), max(values)
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step), max(math.ceil(high / step), 1)
    ticks = [Tick(n * step, plain(n * step)) for n in range(first, last + 1)]
    return Axis(linear(first * step, last * step, start, end), ticks)


def decades(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis of whole powers of ten; values are above 0."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    ticks = [Tick(10.0**n, plain(10.0**n)) for n in range(first, last + 1)]
    return Axis(_logarithmic(10.0**first, 10.0**last, start, end), ticks)


def close(values: Sequence[float], start: float, end: float, *, room: float) -> Axis:
    """An axis no longer than the values, logarithmic if they are positive and far apart.

    Args:
        start, end: in px.
        room: px between ticks, at least.
    """
    low, high = min(values), max(values)
    if low == high:
        return Axis(lambda _: (start + end) / 2, [Tick(low, plain(low))])
    if low > 0 and high / low > _WIDE:
        scale, ticks = _logarithmic(low, high, start, end), _log_ticks(low, high)
    else:
        scale, ticks = linear(low, high, start, end), round_ticks(values, 7)
    different = sorted(set(values))
    named = [Tick(value, plain(value)) for value in different[: _FEW + 1]]
    fits = len(named) <= _FEW and _spaced(named, scale, room) == named
    return Axis(scale, named if fits else _spaced(ticks, scale, room))


def slots(count: int, start: float, end: float) -> Scale:
    """Places 0, 1, … in the middle of parts of equal size."""
    return linear(-0.5, count - 0.5, start, end)


def round_ticks(values: Sequence[float], count: int = 5) -> list[Tick]:
    """About `count` round numbers within the values."""
    low, high = min(values), max(values)
    step = _round_step((high - low) / count)
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [Tick(n * step, plain(n * step)) for n in places]


def column(texts: Sequence[str | None]) -> Column:
    """Numbers if all texts are; else categories in the order in which they are met."""
    known = [value for value in texts if value is not None]
    numbers = [_number(value) for value in known]
    if all(math.isfinite(value) for value in numbers):
        return Column([math.nan if value is None else _number(value) for value in texts], [])
    categories = list(dict.fromkeys(known))
    places = {category: float(place) for place, category in enumerate(categories)}
    return Column([math.nan if v is None else places[v] for v in texts], categories)


def grouped(values: Column) -> Column:
    """Numbers of which there are few, each often, as categories in their order."""
    known = [value for value in values.values if math.isfinite(value)]
    different = sorted(set(known))
    if values.categories or len(different) > _FEW or len(different) == len(known):
        return values
    places = {value: float(place) for place, value in enumerate(different)}
    found = [places.get(value, math.nan) for value in values.values]
    return Column(found, [plain(value) for value in different])


def plain(value: float) -> str:
    """A number as short as it can be read."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _number(value: str) -> float:
    """nan for a text that is no number."""
    try:
        return float(value)
    except ValueError:
        return math.nan


def _logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    place = linear(math.log10(low), math.log10(high), start, end)
    return lambda value: place(math.log10(value))


def _log_ticks(low: float, high: float) -> list[Tick]:
    """Powers of ten, and multiples of them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    parts = (1, 2, 5) if span < 2 else (1, 3) if span < 3.5 else (1,)
    places = [part * 10.0**power for power in powers for part in parts]
    return [Tick(place, plain(place)) for place in places if low <= place <= high]


def _spaced(ticks: Sequence[Tick], scale: Scale, least: float) -> list[Tick]:
    """Only as many as keep `least` px between neighbours."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or abs(scale(tick.place) - scale(kept[-1].place)) >= least:
            kept.append(tick)
    return kept


def _round_step(size: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten."""
    if size <= 0 or not math.isfinite(size):
        return 1.0
    power = 10.0 ** math.floor(math.log10(size))
    return power * next(step for step in (1, 2, 5, 10) if step * power >= size * (1 - 1e-9))
