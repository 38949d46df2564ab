"""Charts: marks lie where the numbers are, and odd numbers break nothing."""

import re

import pytest

from pwc_exp.report.axes import Tick
from pwc_exp.report.charts import Bar, Series, bar_chart, line_chart


def circles(drawing: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawing)
    return [(float(x), float(y)) for x, y in found]


def test_points_of_a_line_are_spaced_as_their_numbers() -> None:
    (x0, y0), (x1, y1), (x2, y2) = circles(
        line_chart([Series("a", [(0, 0), (1, 5), (4, 10)])], x="step", y="px")
    )
    assert (x2 - x1) == pytest.approx(3 * (x1 - x0), abs=0.2)
    assert (y0 - y1) == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2  # up is more


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    line = Series("a", [(0, 0.0), (1, 1.0), (2, 10.0), (3, 100.0), (4, float("nan"))])
    (_, y1), (_, y2), (_, y3) = circles(line_chart([line], x="", y="", logarithmic=True))
    assert (y1 - y2) == pytest.approx(y2 - y3, abs=0.2)


def test_a_long_line_is_thinned_without_losing_its_course() -> None:
    points = [(float(n), float(n)) for n in range(10_000)]
    marks = circles(line_chart([Series("a", points)], x="", y=""))
    assert 100 < len(marks) <= 400
    assert marks == sorted(marks, key=lambda mark: (mark[0], -mark[1]))


@pytest.mark.parametrize("points", [[], [(5.0, 0.0)], [(0.0, 7.0), (1.0, 7.0)], [(1.0, -2.0)]])
def test_few_or_equal_numbers_draw_without_failing(points: list[tuple[float, float]]) -> None:
    drawing = line_chart([Series("a", points)], x="", y="")
    assert len(circles(drawing)) == len(points)
    assert "nan" not in drawing and "inf" not in drawing


def test_bars_are_as_high_as_their_numbers_and_say_them() -> None:
    drawing = bar_chart([Bar(2, "two"), Bar(4, "<four>")], x="", y="%", ticks=[Tick(0, "0")])
    low, high = (float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', drawing))
    assert high == pytest.approx(2 * low, abs=0.2)
    assert "<title>two</title>" in drawing and "&lt;four&gt;" in drawing
