"""Charts of many runs: their results against a knob, their curves, their intervals in a row.

Runs are given best first. The better, the stronger the colour: darker on light, brighter on dark.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pwc_exp.report.axes import (
    Axis,
    Column,
    Scale,
    close,
    grouped,
    linear,
    round_ticks,
    slots,
)
from pwc_exp.report.page import shortened, text

_WIDTH, _HEIGHT = 560, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 44
_STRIP = 20  # px above the horizontal axis, for runs without a value
_CHARACTER = 6.2  # px, of a label
_SHADES = 9
_FEW = 6  # curves whose ends are all marked
_MOST_POINTS = 60  # of a curve among many
BAR_WIDTH = 190  # px, of an interval in a row of a table


class Mark(NamedTuple):
    """A run in a chart."""

    note: str  # what a hover says
    colour: str
    value: float  # nan: none
    lower: float = math.nan
    upper: float = math.nan
    best: bool = False
    early: bool = False  # it ended before its time, or has not ended

    @property
    def whiskers(self) -> bool:
        """Whether it has an interval."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def extent(self) -> list[float]:
        """All that an axis has to show of it."""
        return [v for v in (self.value, self.lower, self.upper) if math.isfinite(v)]


def shade(place: int, count: int) -> str:
    """The colour of the run at `place` of `count`; 0 is the best."""
    return f"var(--r{round(place / max(count - 1, 1) * (_SHADES - 1))})"


def ramp_key(marks: Sequence[Mark]) -> str:
    """What the colours of the marks mean, as HTML."""
    parts = []
    if sum(not mark.early for mark in marks) > 1:
        ramp = "".join(f'<i style="background:var(--r{place})"></i>' for place in range(_SHADES))
        parts.append(f'<span class="key ramp">best {ramp} worst</span>')
    if any(mark.early for mark in marks):
        parts.append(
            '<span class="key"><svg class="dash" viewBox="0 0 26 8"><line x2="26" y1="4" y2="4" '
            'stroke="var(--faint)" stroke-dasharray="4 3"/></svg>ended early, or not ended</span>'
        )
    if any(not math.isfinite(mark.value) for mark in marks):
        sign = f'<svg class="cross" viewBox="0 0 10 10">{cross(5, 5)}</svg>'
        parts.append(f'<span class="key">{sign}without a value</span>')
    return f"<p>{''.join(parts)}</p>" if parts else ""


def scatter(column: Column, marks: Sequence[Mark], *, x: str, y: str) -> str:
    """Values against a knob, or anything else; several best ones are joined by a line.

    Args:
        column: where each of the marks stands.
        x, y: what the axes show, with units.
    """
    values = [value for mark in marks for value in mark.extent]
    if not values or not any(math.isfinite(place) for place in column.values):
        return ""
    column = grouped(column)
    axis = close(values, _HEIGHT - _BOTTOM - _STRIP, _TOP + 10, room=15)
    to_x, labels = _horizontal(column)
    placed = list(zip(_side_by_side(column, to_x), marks, strict=True))
    parts = [_frame(axis, y), labels, _below(x)]
    parts += _front([(at, axis.scale(mark.value)) for at, mark in placed if mark.best])
    parts += [_point(at, mark, axis.scale) for at, mark in reversed(placed) if math.isfinite(at)]
    return _svg(parts)


def curves(
    lines: Sequence[Sequence[tuple[float, float]]],
    marks: Sequence[Mark],
    *,
    x: str,
    y: str,
    start: float = 0,
) -> str:
    """A line for each run from the step `start` on, the best on top."""
    shown = [[(a, b) for a, b in line if a >= start and math.isfinite(b)] for line in lines]
    points = [point for line in shown for point in line]
    if not points:
        return ""
    axis = close([value for _, value in points], _HEIGHT - _BOTTOM, _TOP + 10, room=15)
    steps = [start, *(step for step, _ in points)]
    to_x = linear(start, max(steps), _LEFT, _WIDTH - _RIGHT)
    ticks = [(to_x(tick.place), tick.label) for tick in round_ticks(steps)]
    parts = [_frame(axis, y), _below(x), *(_label(*tick) for tick in ticks)]
    for line, mark in reversed(list(zip(shown, marks, strict=True))):
        places = [(to_x(step), axis.scale(value)) for step, value in _thinned(line)]
        parts.append(_curve(places, mark, dot=mark.best or mark.early or len(lines) <= _FEW))
    return _svg(parts)


def interval_bar(mark: Mark, axis: Axis, best: float) -> str:
    """A value and its interval in a row of a table; a thin line stands at `best`.

    Args:
        axis: of all rows, in px of a bar.
    """
    if not math.isfinite(mark.value):
        return ""
    at, line = axis.scale(mark.value), axis.scale(best)
    parts = [f'<line class="grid" x1="{line:.1f}" x2="{line:.1f}" y1="0" y2="18"/>']
    if mark.whiskers:
        low, high = axis.scale(mark.lower), axis.scale(mark.upper)
        parts.append(
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9" stroke="{mark.colour}" '
            'stroke-width="2" opacity=".6"/>'
        )
    parts.append(_circle(at, 9, mark))
    return (
        f'<svg class="bar" viewBox="0 0 {BAR_WIDTH} 18"><title>{text(mark.note)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _horizontal(column: Column) -> tuple[Scale, str]:
    """Where the places of a column stand, and their labels."""
    left, right = _LEFT + 12, _WIDTH - _RIGHT - 12
    if not column.categories:
        known = [value for value in column.values if math.isfinite(value)]
        axis = close(known, left, right, room=46)
        labels = [_label(axis.scale(tick.place), tick.label) for tick in axis.ticks]
        return axis.scale, "".join(labels)
    size = (right - left) / len(column.categories)
    to_x = slots(len(column.categories), left, right)
    every = math.ceil(44 / size)  # a label needs about 44 px
    most = max(int(size * every / _CHARACTER), 3)
    labels = [
        _label(to_x(place), category, most)
        for place, category in enumerate(column.categories)
        if place % every == 0
    ]
    return to_x, "".join(labels)


def _side_by_side(column: Column, to_x: Scale) -> list[float]:
    """Where each mark stands; those of one category beside each other, in their order."""
    if not column.categories:
        return [to_x(value) if math.isfinite(value) else math.nan for value in column.values]
    size = abs(to_x(1) - to_x(0))
    found = []
    for number, value in enumerate(column.values):
        count, before = column.values.count(value), column.values[:number].count(value)
        gap = min(14, 0.7 * size / max(count - 1, 1))
        found.append(to_x(value) + (before - (count - 1) / 2) * gap)
    return found


def _point(at: float, mark: Mark, to_y: Scale) -> str:
    bottom = _HEIGHT - _BOTTOM
    title = f"<title>{text(mark.note)}</title>"
    if not math.isfinite(mark.value):
        return f"<g>{title}{cross(at, bottom - 7)}</g>"
    whisker = ""
    if mark.whiskers:
        low, high = to_y(mark.lower), to_y(mark.upper)
        whisker = (
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}" '
            f'stroke="{mark.colour}" stroke-width="1.5" opacity=".5"/>'
        )
    return f"<g>{title}{whisker}{_circle(at, to_y(mark.value), mark)}</g>"


def cross(x: float, y: float) -> str:
    """The sign of a run without a value."""
    path = f"M{x - 3:.1f},{y - 3:.1f}l6,6m0,-6l-6,6"
    return f'<path d="{path}" stroke="var(--faint)" stroke-width="1.3" fill="none"/>'


def _circle(x: float, y: float, mark: Mark) -> str:
    radius = 5.5 if mark.best else 4
    fill = "var(--paper)" if mark.early else mark.colour
    edge = "var(--ink)" if mark.best else mark.colour
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{edge}" '
        'stroke-width="1.5"/>'
    )


def _front(places: Sequence[tuple[float, float]]) -> Iterator[str]:
    known = sorted((x, y) for x, y in places if math.isfinite(x) and math.isfinite(y))
    if len(known) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        yield f'<polyline points="{path}" fill="none" stroke="var(--soft)" stroke-dasharray="2 3"/>'


def _curve(places: Sequence[tuple[float, float]], mark: Mark, *, dot: bool) -> str:
    width = 3 if mark.best else 1.1 if mark.early else 1.6
    dash = ' stroke-dasharray="4 3"' if mark.early else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    ends = "".join(_circle(x, y, mark) for x, y in places[-1:] if dot)
    return (
        f'<g class="mark"><title>{text(mark.note)}</title><polyline points="{path}" fill="none" '
        f'stroke="{mark.colour}" stroke-width="{width}"{dash}/>{ends}</g>'
    )


def _thinned(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MOST_POINTS`, the last among them."""
    every = -(-len(line) // _MOST_POINTS)
    return line[::-1][:: max(every, 1)][::-1]


def _frame(axis: Axis, name: str) -> str:
    parts = [f'<text x="{_LEFT - 46}" y="{_TOP - 14}" font-weight="600">{text(name)}</text>']
    for tick in axis.ticks:
        y = axis.scale(tick.place)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(tick.label)}</text>'
        )
    bottom = _HEIGHT - _BOTTOM
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    )
    return "".join(parts)


def _below(name: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle" font-weight="600">'
        f"<title>{text(name)}</title>{text(shortened(name, 70))}</text>"
    )


def _label(x: float, name: str, most: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">'
        f"<title>{text(name)}</title>{text(shortened(name, most))}</text>"
    )


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'
