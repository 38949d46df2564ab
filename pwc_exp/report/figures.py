"""Charts as inline SVG: transparent, in colours that are visible on light and dark pages.

The style of a page (templates/style.css) sets the colour of text in a chart to that of the page.
"""

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pwc_exp.report.pages import shortened

COLOURS = ("#3d85d8", "#d9742b", "#2a9d75", "#9a66cf", "#b8912a", "#cf5a86")  # of series
BEST, WORST = COLOURS[1], COLOURS[0]  # the ends of a ramp by rank
NEUTRAL = "#8a8883"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pwc_exp",  # the same chart is the same file
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # what a user names is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": NEUTRAL,
    "axes.labelcolor": NEUTRAL,
    "text.color": NEUTRAL,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_SIZE = (5.6, 2.7)  # inches
_MOST_POINTS = 400  # of a line; more are averaged
_MARKED = 40  # points of a line that are marked, at most
_WIDE = 20  # ratio of positive values above which an axis is logarithmic
_FEW = 6  # different numbers that are shown like categories, where each is frequent

Curve = Sequence[tuple[float, float]]  # points (x, y) in the order of x
Tick = tuple[float, str]  # a place on an axis, and its label


class Mark(NamedTuple):
    """A run in a chart of many."""

    value: float  # NaN: none
    colour: str
    interval: tuple[float, float] = (math.nan, math.nan)
    best: bool = False
    ended_early: bool = False  # or has not ended

    @property
    def has_interval(self) -> bool:
        """Whether both ends are known."""
        return all(map(math.isfinite, self.interval))


def line_chart(
    lines: Sequence[Curve],
    *,
    title: str,
    x: str,
    y: str = "",
    ticks: Sequence[Tick] | None = None,
    logarithmic: bool = False,
) -> Markup:
    """Lines, each in the colour of its place; empty if there is nothing to draw.

    Args:
        lines: an empty one keeps its place, and so the colour of the others.
        title: what a screen reader says.
        x, y: labels of the axes, with units.
        ticks: of the x axis; None: round numbers.
        logarithmic: the y axis; values that are not above 0 are left out.
    """
    shown = [
        _thinned([p for p in line if math.isfinite(p[1]) and (p[1] > 0 or not logarithmic)])
        for line in lines
    ]
    if not any(shown):
        return Markup()
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(x, y)
        for place, points in enumerate(shown):
            if points:
                marker = "o" if len(points) <= _MARKED else ""
                axes.plot(*zip(*points, strict=True), marker, ls="-", c=colour(place))
        _set_scales(axes, y=logarithmic)
        if not logarithmic:
            axes.set_ylim(bottom=min(0, *(b for points in shown for _, b in points)))
        _set_ticks(axes, ticks)
        return _svg(figure, title)


def bar_chart(
    values: Sequence[float], *, title: str, x: str, y: str, ticks: Sequence[Tick]
) -> Markup:
    """Bars side by side; the places of ticks count bars, 0 is the left edge of the first."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(x, y)
        axes.bar(np.arange(len(values)) + 0.5, values, width=0.92, color=COLOURS[0])
        axes.set_xlim(0, len(values))
        _set_ticks(axes, ticks)
        return _svg(figure, title)


def scatter_chart(
    places: Sequence[str | float | None],
    marks: Sequence[Mark],
    *,
    x: str,
    y: str,
    joined: bool = False,
) -> Markup:
    """Results and their intervals against a setting; runs without a result are crosses below.

    Nothing is drawn without a result.

    Args:
        places: the value of each mark on the x axis: numbers if all are, else categories; None
            leaves the mark out.
        marks: best first.
        joined: whether a line joins the best.
    """
    values = [mark.value for mark in marks if math.isfinite(mark.value)]
    xs, ticks, positive = _axis_of(places)
    if not values or not any(map(math.isfinite, xs)):
        return Markup()
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(x, y)
        _set_scales(axes, x=positive, y=_far_apart(values))
        best = sorted((at, m.value) for at, m in zip(xs, marks, strict=True) if m.best)
        if joined and len(best) > 1:
            axes.plot(*zip(*best, strict=True), ls=":", c=NEUTRAL)
        for at, mark in reversed(list(zip(xs, marks, strict=True))):
            if math.isfinite(at):
                _draw_mark(axes, at, mark)
        _set_ticks(axes, ticks)
        return _svg(figure, f"{y} against {x}")


def curve_chart(
    lines: Sequence[Curve], marks: Sequence[Mark], *, x: str, y: str, start: float = 0
) -> Markup:
    """The curve of each run from the step `start` on, the best on top; best first."""
    shown = [[(a, b) for a, b in line if a >= start and math.isfinite(b)] for line in lines]
    if not any(shown):
        return Markup()
    with matplotlib.rc_context(_STYLE):
        figure, axes = _new(x, y)
        for line, mark in reversed(list(zip(shown, marks, strict=True))):
            if line:
                width = 2.6 if mark.best else 1.2
                style = "--" if mark.ended_early else "-"
                axes.plot(*zip(*_thinned(line), strict=True), c=mark.colour, lw=width, ls=style)
                axes.plot(*line[-1], "o", c=mark.colour, ms=3 + mark.best)
        _set_scales(axes, y=_far_apart([b for line in shown for _, b in line]))
        return _svg(figure, f"{y} against {x}")


def colour(place: int) -> str:
    """Of a series; there are six."""
    return COLOURS[place % len(COLOURS)]


def shade(place: int, count: int) -> str:
    """The colour of the run at `place` of `count`; 0 is the best."""
    ramp = LinearSegmentedColormap.from_list("rank", [BEST, "#a06ab4", WORST])
    return to_hex(ramp(place / max(count - 1, 1)))


def _new(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_title(y, loc="left", fontsize=9)
    return figure, axes


def _svg(figure: Figure, title: str) -> Markup:
    """The SVG element, with nothing in it that leads out of the page."""
    file = io.StringIO()
    with warnings.catch_warnings():  # of letters that its font lacks: the browser has others
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    made = file.getvalue()
    body = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", made[made.index("<svg") :], count=2)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)  # names that every figure has, and none uses
    # matplotlib escapes the texts that it draws.
    return Markup(f'<svg role="img" aria-label="{escape(title)}"{body[len("<svg") :]}')


def _set_scales(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Makes an axis logarithmic, with few and plain labels."""
    for name, axis in [("x", axes.xaxis)] * x + [("y", axes.yaxis)] * y:
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        axis.set_minor_formatter(NullFormatter())


def _set_ticks(axes: Axes, ticks: Sequence[Tick] | None) -> None:
    if ticks is not None:
        axes.set_xticks([at for at, _ in ticks], [label for _, label in ticks])
        axes.minorticks_off()


def _draw_mark(axes: Axes, at: float, mark: Mark) -> None:
    if not math.isfinite(mark.value):
        axes.plot(at, 0.02, "x", c=NEUTRAL, ms=5, transform=axes.get_xaxis_transform())
        return
    if mark.has_interval:
        axes.plot([at, at], mark.interval, c=mark.colour, lw=1.2, alpha=0.6)
    fill = "none" if mark.ended_early else mark.colour
    axes.plot(at, mark.value, "o", mec=mark.colour, mfc=fill, ms=8 if mark.best else 5)


def _axis_of(places: Sequence[str | float | None]) -> tuple[list[float], list[Tick] | None, bool]:
    """Where marks are on the x axis, its ticks if it has categories, and if it is logarithmic."""
    numbers = [_number(place) for place in places]
    known = [value for value in numbers if math.isfinite(value)]
    categories = list(dict.fromkeys(str(place) for place in places if place is not None))
    if len(known) == sum(place is not None for place in places):
        if len(set(known)) > _FEW or len(set(known)) == len(known):
            return numbers, None, _far_apart(known)
        categories.sort(key=_number)
    found = []
    for number, place in enumerate(places):
        if place is None:
            found.append(math.nan)
            continue
        # Marks of one category beside each other, in their order.
        count, before = places.count(place), places[:number].count(place)
        gap = min(0.08, 0.7 / count)
        found.append(categories.index(str(place)) + (before - (count - 1) / 2) * gap)
    most = max(60 // max(len(categories), 1), 4)
    return found, [(n, shortened(name, most)) for n, name in enumerate(categories)], False


def _number(value: str | float | None) -> float:
    """NaN for what is no finite number."""
    try:
        found = math.nan if value is None else float(value)
    except ValueError:
        return math.nan
    return found if math.isfinite(found) else math.nan


def _far_apart(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE


def _thinned(points: Curve) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS`: means of neighbours."""
    size = max(-(-len(points) // _MOST_POINTS), 1)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]
