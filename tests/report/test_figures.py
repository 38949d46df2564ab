"""Charts: marks are where the numbers are, odd numbers break nothing, texts stay texts."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from pwc_exp.report.figures import (
    BEST,
    WORST,
    Mark,
    _thinned,
    bar_chart,
    curve_chart,
    line_chart,
    scatter_chart,
    shade,
)


def markers(drawing: str) -> list[tuple[float, float]]:
    """Where the markers of data are; ticks have strokes of 0.8 and 0.6."""
    found = re.findall(r'<use [^>]*x="([-\d.]+)" y="([-\d.]+)" style="([^"]*)"', drawing)
    return [(float(x), float(y)) for x, y, style in found if "stroke-width: 0." not in style]


def lines(points: Sequence[tuple[float, float]], *, logarithmic: bool = False) -> str:
    return line_chart([points], title="t", x="step", y="px", logarithmic=logarithmic)


def test_points_of_a_line_are_spaced_as_their_numbers_or_their_logarithms() -> None:
    (x0, y0), (x1, y1), (x2, y2) = markers(lines([(0, 0), (1, 5), (4, 10)]))
    assert (x2 - x1) == pytest.approx(3 * (x1 - x0), abs=0.2)
    assert (y0 - y1) == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2  # up is more
    points = [(0, 0.0), (1, 1.0), (2, 10.0), (3, 100.0), (4, math.nan)]
    (_, y1), (_, y2), (_, y3) = markers(lines(points, logarithmic=True))  # without 0 and NaN
    assert (y1 - y2) == pytest.approx(y2 - y3, abs=0.2)


def test_a_long_line_is_thinned_without_losing_its_course() -> None:
    points = _thinned([(float(n), float(n)) for n in range(10_000)])
    assert 100 < len(points) <= 400
    assert points == sorted(points) and all(x == y for x, y in points)


@pytest.mark.parametrize("points", [[], [(5.0, 0.0)], [(0.0, 7.0), (1.0, 7.0)], [(1.0, -2.0)]])
def test_few_or_equal_numbers_draw_without_failing(points: list[tuple[float, float]]) -> None:
    drawing = lines(points)
    assert len(markers(drawing)) == len(points)
    assert bool(drawing) == bool(points)


def test_bars_are_as_high_as_their_numbers() -> None:
    drawing = bar_chart([2, 4], title="shares", x="", y="%", ticks=[(0, "0")])
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="fill: #3d85d8"', drawing)
    heights = []
    for path in paths:
        ys = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)]
        heights.append(max(ys) - min(ys))
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)


def test_what_a_user_names_stays_text() -> None:
    name = '<b>&"$x_1$ $'
    drawing = scatter_chart([name, "other"], [Mark(1, "red"), Mark(2, "blue")], x=name, y="y")
    ET.fromstring(re.sub("xlink:", "", drawing))
    assert "&lt;b&gt;&amp;" in drawing and "$x_1$" in drawing and "<b>" not in drawing
    assert "http" not in drawing and "<script" not in drawing


def test_the_same_chart_is_the_same_text() -> None:
    assert lines([(0, 1), (1, 2)]) == lines([(0, 1), (1, 2)])


def test_better_runs_have_colours_nearer_to_that_of_the_best() -> None:
    assert shade(0, 3) == shade(0, 1) == BEST and shade(2, 3) == WORST
    assert len({shade(place, 9) for place in range(9)}) == 9


def test_a_run_without_a_result_is_a_cross_at_the_bottom_and_none_without_results() -> None:
    failed, good = Mark(math.nan, "grey", ended_early=True), Mark(3, "red", (2.5, 3.5), best=True)
    places = markers(scatter_chart(["1", "2"], [good, failed], x="lr", y="px"))
    assert len(places) == 2 and max(y for _, y in places) == places[0][1]
    assert not scatter_chart(["1"], [failed], x="lr", y="px")
    assert not scatter_chart([None], [good], x="lr", y="px")


@pytest.mark.parametrize(
    ("places", "labels"),
    [
        (["sm", "lg", "sm"], ["sm", "lg"]),  # as first met
        (["10", "2", "10"], ["2", "10"]),  # few numbers that repeat are categories, in order
        (["1", "null", "1"], ["1", "null"]),
    ],
)
def test_categories_are_the_ticks(places: list[str | float | None], labels: list[str]) -> None:
    marks = [Mark(value, "red") for value in (1.0, 2.0, 3.0)]
    drawing = scatter_chart(places, marks, x="setting", y="px")
    shown = re.findall(r"<text [^>]*>([^<]*)</text>", drawing)
    assert [text for text in shown if text in labels] == labels


def test_curves_begin_at_the_step_that_is_asked_for() -> None:
    line, mark = [(0.0, 9.0), (10.0, 2.0), (20.0, 1.0)], Mark(1.0, "red", best=True)
    assert "9" not in re.findall(
        r">([\d.]+)</text>", curve_chart([line], [mark], x="s", y="p", start=10)
    )
    assert not curve_chart([[(1.0, math.inf)]], [mark], x="step", y="px")
