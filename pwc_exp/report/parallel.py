"""Parallel coordinates: an axis for each knob, the result at the right, a line for each run."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pwc_exp.report.axes import Axis, Column, Tick, close, slots
from pwc_exp.report.page import shortened, text
from pwc_exp.report.sweep_charts import Mark, cross

_LEAST_WIDTH, _HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 84, 40, 14
_BETWEEN = 122  # px between axes, at least
_CHARACTER = 6.4  # px, of a label
_STRAND = 3.0  # px between lines that have the same value


class _Place(NamedTuple):
    x: float
    y: float


def parallel_coordinates(knobs: Mapping[str, Column], goal: str, marks: Sequence[Mark]) -> str:
    """Lines from knob to knob to the result; a run without a result ends at the last knob.

    Nothing is drawn where there are fewer than two axes.

    Args:
        knobs: {name: the value of each mark}.
        goal: what the last axis shows, with its unit.
        marks: best first.
    """
    known = [mark.value for mark in marks if math.isfinite(mark.value)]
    columns = {**knobs, **({goal: Column([mark.value for mark in marks], [])} if known else {})}
    if len(columns) < 2:
        return ""
    width = max(_LEAST_WIDTH, _LEFT + _RIGHT + _BETWEEN * (len(columns) - 1))
    gap = (width - _LEFT - _RIGHT) / (len(columns) - 1)
    behind, before = [], []
    heights = []
    for place, (name, column) in enumerate(columns.items()):
        x, axis = _LEFT + place * gap, _axis(column)
        behind.append(_axis_line(x, name, int(gap / _CHARACTER)))
        before.append(_labels(x, axis, int(gap / _CHARACTER) - 4))
        heights.append([_Place(x, y) for y in _strands(column, axis)])
    lines = []
    for mark, *places in reversed(list(zip(marks, *heights, strict=True))):
        lines.append(_line([place for place in places if math.isfinite(place.y)], mark))
    size = f"min-width:{round(0.95 * width)}px;max-width:{round(1.3 * width)}px"
    return (
        f'<div class="scroll"><svg viewBox="0 0 {width} {_HEIGHT}" role="img" style="{size}">'
        f"{''.join(behind)}{''.join(lines)}{''.join(before)}</svg></div>"
    )


def _axis(column: Column) -> Axis:
    start, end = _HEIGHT - _BOTTOM - 8, _TOP + 14
    if column.categories:
        scale = slots(len(column.categories), end, start)  # the first at the top
        ticks = [Tick(place, name) for place, name in enumerate(column.categories)]
        return Axis(scale, ticks)
    known = [value for value in column.values if math.isfinite(value)]
    return close(known, start, end, room=15) if known else Axis(lambda _: (start + end) / 2, [])


def _strands(column: Column, axis: Axis) -> list[float]:
    """Heights; lines of the same value lie beside each other in their order, nan: none."""
    places = sorted({axis.scale(value) for value in column.values if math.isfinite(value)})
    room = min((b - a for a, b in pairwise(places)), default=_HEIGHT / 2)
    found = []
    for number, value in enumerate(column.values):
        if not math.isfinite(value):
            found.append(math.nan)
            continue
        count, before = column.values.count(value), column.values[:number].count(value)
        strand = min(_STRAND, 0.6 * room / max(count - 1, 1))
        found.append(axis.scale(value) - (before - (count - 1) / 2) * strand)
    return found


def _line(places: Sequence[_Place], mark: Mark) -> str:
    if not places:
        return ""
    path = f"M{places[0].x:.1f},{places[0].y:.1f}"
    for start, end in pairwise(places):
        middle = (start.x + end.x) / 2
        path += f"C{middle:.1f},{start.y:.1f} {middle:.1f},{end.y:.1f} {end.x:.1f},{end.y:.1f}"
    end = places[-1]
    width = 3.5 if mark.best else 1 if mark.early else 1.6
    dash = ' stroke-dasharray="4 3"' if mark.early else ""
    if not math.isfinite(mark.value):
        stop = cross(end.x, end.y)
    else:
        fill = "var(--paper)" if mark.early else mark.colour
        radius = 5 if mark.best else 3
        stop = (
            f'<circle cx="{end.x:.1f}" cy="{end.y:.1f}" r="{radius}" fill="{fill}" '
            f'stroke="{mark.colour}"/>'
        )
    return (
        f'<g class="mark"><title>{text(mark.note)}</title><path d="{path}" fill="none" '
        f'stroke="{mark.colour}" stroke-width="{width}"{dash}/>'
        f'<path class="reach" d="{path}"/>{stop}</g>'
    )


def _axis_line(x: float, name: str, most: int) -> str:
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text x="{x:.1f}" y="{_TOP - 14}" text-anchor="middle" font-weight="600">'
        f"<title>{text(name)}</title>{text(shortened(name, most))}</text>"
    )


def _labels(x: float, axis: Axis, most: int) -> str:
    return "".join(
        f'<text class="over" x="{x + 7:.1f}" y="{axis.scale(tick.place) + 4:.1f}">'
        f"<title>{text(tick.label)}</title>{text(shortened(tick.label, most))}</text>"
        for tick in axis.ticks
    )
