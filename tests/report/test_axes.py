"""Axes: numbers stand as far apart as they are, and labels do not run into each other."""

import math
from itertools import pairwise

import pytest

from pwc_exp.report.axes import close, column, grouped


def test_values_far_apart_stand_on_a_logarithmic_axis() -> None:
    near, far = close([1, 2, 3], 0, 100, room=0), close([1, 10, 100], 0, 100, room=0)
    assert near.scale(2) == pytest.approx(50) and far.scale(10) == pytest.approx(50)
    assert close([-1, 10, 100], 0, 101, room=0).scale(0) == pytest.approx(1)


@pytest.mark.parametrize(
    "values", [[1.0], [1e-5, 3e-5, 0.9], [5.0, 5.001, 9.0], list(range(1, 1000)), [0.0, 1e9]]
)
def test_ticks_lie_within_the_values_with_room_between_them(values: list[float]) -> None:
    axis = close(values, 300, 0, room=15)
    places = sorted(axis.scale(tick.place) for tick in axis.ticks)
    assert places and places[0] >= -1e-6 and places[-1] <= 300 + 1e-6
    assert all(b - a >= 15 for a, b in pairwise(places))


def test_few_values_are_all_named() -> None:
    axis = close([0.001, 0.003, 0.01], 0, 300, room=40)
    assert [tick.label for tick in axis.ticks] == ["0.001", "0.003", "0.01"]


def test_texts_are_numbers_only_if_all_are() -> None:
    assert column(["1e-4", "2", None]).values[:2] == [1e-4, 2.0]
    assert math.isnan(column(["1", None]).values[1])
    assert column(["2", "null", "2"]).categories == ["2", "null"]
    assert column(["1", "nan"]).categories == ["1", "nan"]


def test_few_numbers_that_come_again_are_grouped_in_their_order() -> None:
    assert grouped(column(["10", "2", "10"])) == ([1.0, 0.0, 1.0], ["2", "10"])
    assert not grouped(column(["10", "2"])).categories
