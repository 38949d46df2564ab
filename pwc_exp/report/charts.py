"""Line and bar charts as inline SVG, in the colours of the page; a hover shows the numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pwc_exp.report.axes import Axis, Scale, Tick, decades, from_zero, linear, round_ticks
from pwc_exp.report.page import text

_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 18, 42
_UPWARDS = (_HEIGHT - _BOTTOM, _TOP + 8)  # from the least to the greatest
_COLOURS = 6
_MOST_POINTS = 400  # of a line; more are averaged


class Series(NamedTuple):
    """A line: points (x, y) in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


class Bar(NamedTuple):
    """A bar, and what a hover says of it."""

    value: float
    note: str


def line_chart(
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    ticks: Sequence[Tick] | None = None,
    logarithmic: bool = False,
) -> str:
    """Lines with their points.

    Args:
        x, y: what the axes show, with units.
        ticks: of the x axis; None: round numbers.
        logarithmic: the y axis; values that are not above 0 are left out.
    """
    lines = [Series(s.name, _thinned(_shown(s.points, logarithmic))) for s in series]
    values = [point for line in lines for point in line.points]
    if not values:
        return '<p class="note">Nothing to show.</p>'
    horizontal = [*(tick.place for tick in ticks or ()), *(point[0] for point in values)]
    to_x = linear(min(horizontal), max(horizontal), _LEFT, _WIDTH - _RIGHT)
    heights = [point[1] for point in values]
    axis = (decades if logarithmic else from_zero)(heights, *_UPWARDS)
    parts = [_frame(axis, y), _x_axis(ticks or round_ticks(horizontal), to_x, x)]
    for place, line in enumerate(lines):
        parts.append(_line(line, colour(place), to_x, axis.scale))
    return _svg(parts)


def bar_chart(bars: Sequence[Bar], *, x: str, y: str, ticks: Sequence[Tick]) -> str:
    """Bars side by side; tick places count bars, 0 is the left edge of the first."""
    to_x = linear(0, len(bars), _LEFT, _WIDTH - _RIGHT)
    axis = from_zero([0.0, *(bar.value for bar in bars)], *_UPWARDS)
    parts = [_frame(axis, y), _x_axis(ticks, to_x, x)]
    bottom = axis.scale(0)
    for place, bar in enumerate(bars):
        left, right, top = to_x(place) + 1, to_x(place + 1) - 1, axis.scale(bar.value)
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1):.1f}" '
            f'height="{bottom - top:.1f}" fill="var(--s0)"><title>{text(bar.note)}</title></rect>'
        )
    return _svg(parts)


def colour(place: int) -> str:
    """Of a series, as CSS; there are six."""
    return f"var(--s{place % _COLOURS})"


def key(names: Sequence[str]) -> str:
    """Which colour is which series, as HTML."""
    return coloured_key([(colour(place), name) for place, name in enumerate(names)])


def coloured_key(names: Sequence[tuple[str, str]]) -> str:
    """Which colour, as CSS, is which name, as HTML."""
    return "".join(
        f'<span class="key"><i style="background:{shown}"></i>{text(name)}</span>'
        for shown, name in names
    )


def _line(line: Series, colour: str, to_x: Scale, to_y: Scale) -> str:
    places = [(to_x(a), to_y(b)) for a, b in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    drawn = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    radius = 3.5 if len(places) <= 40 else 1.2
    for (a, b), (x, y) in zip(places, line.points, strict=True):
        note = text(f"{line.name}: {y:.4g} at {x:,.6g}")
        drawn += (
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="{colour}">'
            f"<title>{note}</title></circle>"
        )
    return drawn


def _frame(axis: Axis, name: str) -> str:
    parts = [f'<text x="{_LEFT - 46}" y="{_TOP - 10}" font-weight="600">{text(name)}</text>']
    for level in axis.ticks:
        y = axis.scale(level.place)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text(level.label)}</text>'
        )
    return "".join(parts)


def _x_axis(ticks: Sequence[Tick], to_x: Scale, name: str) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = [
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{text(name)}</text>",
    ]
    for tick in ticks:
        parts.append(
            f'<text x="{to_x(tick.place):.1f}" y="{bottom + 15}" text-anchor="middle">'
            f"{text(tick.label)}</text>"
        )
    return "".join(parts)


def _svg(parts: Sequence[str]) -> str:
    size = f"0 {-8} {_WIDTH} {_HEIGHT + 8}"
    return f'<svg viewBox="{size}" role="img">{"".join(parts)}</svg>'


def _shown(points: Sequence[tuple[float, float]], positive: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not positive)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS`: means of neighbours."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return points
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]
