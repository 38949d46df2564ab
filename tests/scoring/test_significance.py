"""Paired comparisons: known answers of the tests, and corrections for many runs."""

import numpy as np
import pytest

from pwc_exp.scoring import Truth, score
from pwc_exp.scoring.significance import contrast, holm


def samples(errors: np.ndarray) -> list[dict[str, float]]:
    zero = np.zeros((1, 1, 2))
    right = np.array([1, 0])
    return [score(zero + error * right, Truth(zero, np.ones((1, 1)))) for error in errors]


def test_a_run_that_is_better_in_each_of_8_samples_has_the_p_of_8_equal_coins() -> None:
    errors = np.arange(8) / 4 + 5
    gains = 0.1 * np.arange(1, 9)
    found = contrast(samples(errors), samples(errors - gains), list("abcdefgh"), draws=200, seed=0)
    assert (found.wins, found.losses, found.samples) == (8, 0, 8)
    assert found.rank_p == pytest.approx(2 * 0.5**8)
    assert found.differences["aepe"].value == pytest.approx(-gains.mean())
    assert "fl_fg" not in found.differences  # no masks


def test_the_same_estimates_are_neither_better_nor_worse() -> None:
    rows = samples(np.arange(1.0, 6))
    found = contrast(rows, rows, list("abcde"), draws=50, seed=0)
    assert (found.wins, found.losses) == (0, 0)
    assert np.isnan(found.rank_p)
    assert found.differences["aepe"].p == 1


def test_holm_multiplies_the_smallest_p_most_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    adjusted = holm([float("nan"), 0.02])
    assert np.isnan(adjusted[0]) and adjusted[1] == 0.02
