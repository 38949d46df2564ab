"""Bootstrap intervals are seeded, by groups, as wide as the evidence; tests have known answers."""

import numpy as np
import pytest

from pwc_exp.evaluation import GroundTruth, score
from pwc_exp.evaluation.bootstrap import Comparison, compare_samples, holm, intervals


def samples(errors: np.ndarray) -> list[dict[str, float]]:
    """Frames of one pixel that is off by each error."""
    zero = np.zeros((1, 1, 2))
    return [
        score(zero + error * np.array([1, 0]), GroundTruth(zero, np.ones((1, 1))))
        for error in errors
    ]


def compared(first: np.ndarray, second: np.ndarray) -> Comparison:
    groups = [str(n) for n in range(len(first))]
    return compare_samples(samples(first), samples(second), groups, draws=999, seed=0)


def test_an_interval_of_many_samples_is_that_of_the_normal_distribution() -> None:
    errors = np.random.default_rng(1).gamma(4.0, size=400)
    found = intervals(samples(errors), [str(n) for n in range(400)], draws=4000, seed=0)["aepe"]
    half = 1.96 * errors.std() / np.sqrt(400)
    assert found == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.1 * half)


def test_samples_of_one_group_are_one_piece_of_evidence() -> None:
    errors = np.repeat([1.0, 2.0, 3.0, 4.0], 25)
    rows = samples(errors)
    apart = intervals(rows, [str(n) for n in range(100)], draws=2000, seed=0)["aepe"]
    grouped = intervals(rows, [str(error) for error in errors], draws=2000, seed=0)["aepe"]
    assert grouped.upper - grouped.lower > 3 * (apart.upper - apart.lower)


def test_what_fewer_than_two_groups_have_has_no_interval() -> None:
    rows = samples(np.arange(4.0))
    fast = np.array([[[50.0, 0.0]]])
    rows.append(score(fast, GroundTruth(fast, np.ones((1, 1)))))
    found = intervals(rows, list("abcde"), draws=50, seed=0)
    assert np.isnan([*found["aepe_s40_plus"], *found["fl_fg"]]).all()
    assert not np.isnan(found["aepe_s0_10"]).any()
    assert np.isnan(intervals(rows, ["a"] * 5, draws=10, seed=0)["aepe"]).all()
    assert np.isnan(intervals([], [], draws=10, seed=0)["aepe"]).all()


def test_it_depends_on_the_seed_alone() -> None:
    rows, groups = samples(np.arange(9.0)), list("abcdefghi")
    first, again, other = (intervals(rows, groups, draws=50, seed=seed) for seed in (3, 3, 4))
    assert first["aepe"] == again["aepe"] != other["aepe"]


@pytest.mark.parametrize("count", [2, 4, 6])
def test_few_groups_are_never_sure_of_a_difference(count: int) -> None:
    found = compared(np.full(count, 9.0), np.full(count, 1.0))
    assert found.differences["aepe"].p == pytest.approx(2 / 2**count)


def test_a_small_but_constant_difference_is_told_from_chance_because_samples_are_paired() -> None:
    random = np.random.default_rng(2)
    errors = random.gamma(4.0, size=60)
    same = compared(errors, errors)
    assert (same.wins, same.losses) == (0, 0) and np.isnan(same.rank_p)
    assert (same.differences["aepe"].value, same.differences["aepe"].p) == (0, 1)
    found = compared(errors, errors - 0.1).differences["aepe"]
    assert found.value == pytest.approx(-0.1)
    assert found.interval.upper < 0 and found.p < 0.01
    noise = compared(errors, errors + random.normal(0, 0.5, 60))
    assert noise.differences["aepe"].p > 0.01


def test_a_run_that_is_better_in_each_of_8_samples_has_the_p_of_8_equal_coins() -> None:
    errors, gains = np.arange(8) / 4 + 5, 0.1 * np.arange(1, 9)
    found = compared(errors, errors - gains)
    assert (found.wins, found.losses, found.samples) == (8, 0, 8)
    assert found.rank_p == pytest.approx(2 * 0.5**8)
    assert found.differences["aepe"].value == pytest.approx(-gains.mean())
    assert "fl_fg" not in found.differences  # no masks


def test_holm_multiplies_the_smallest_p_most_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []
    assert holm([float("nan"), 0.02]) == pytest.approx([float("nan"), 0.02], nan_ok=True)
