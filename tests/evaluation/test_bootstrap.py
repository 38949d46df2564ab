"""Bootstrap intervals are seeded, by groups, as wide as the evidence; tests have known answers."""

import numpy as np
import pytest

from pwc_exp.evaluation import GroundTruth, score
from pwc_exp.evaluation.bootstrap import compare_samples, difference, holm, intervals
from pwc_exp.evaluation.metrics import BY_NAME


def samples(errors: np.ndarray) -> list[dict[str, float]]:
    """Frames of one pixel that is off by each error."""
    zero = np.zeros((1, 1, 2))
    return [
        score(zero + error * np.array([1, 0]), GroundTruth(zero, np.ones((1, 1))))
        for error in errors
    ]


def test_an_interval_of_many_samples_is_that_of_the_normal_distribution() -> None:
    errors = np.random.default_rng(1).gamma(4.0, size=400)
    found = intervals(samples(errors), [str(n) for n in range(400)], draws=4000, seed=0)["aepe"]
    half = 1.96 * errors.std() / np.sqrt(400)
    assert found.lower == pytest.approx(errors.mean() - half, abs=0.1 * half)
    assert found.upper == pytest.approx(errors.mean() + half, abs=0.1 * half)


def test_samples_of_one_group_are_one_piece_of_evidence() -> None:
    errors = np.repeat([1.0, 2.0, 3.0, 4.0], 25)
    rows = samples(errors)
    apart = intervals(rows, [str(n) for n in range(100)], draws=2000, seed=0)["aepe"]
    grouped = intervals(rows, [str(error) for error in errors], draws=2000, seed=0)["aepe"]
    assert grouped.upper - grouped.lower > 3 * (apart.upper - apart.lower)


def test_one_group_has_no_interval() -> None:
    assert np.isnan(intervals(samples(np.arange(5.0)), ["a"] * 5, draws=10, seed=0)["aepe"]).all()


def test_what_only_one_group_has_has_no_interval_either() -> None:
    rows = samples(np.arange(4.0))
    fast = np.array([[[50.0, 0.0]]])
    rows.append(score(fast, GroundTruth(fast, np.ones((1, 1)))))
    found = intervals(rows, list("abcde"), draws=50, seed=0)
    assert np.isnan(found["aepe_s40_plus"]).all() and not np.isnan(found["aepe_s0_10"]).any()


def test_few_groups_are_never_sure_of_a_difference() -> None:
    aepe = BY_NAME["aepe"]
    for count in (2, 4, 6):
        worse, better = samples(np.full(count, 9.0)), samples(np.full(count, 1.0))
        groups = [str(n) for n in range(count)]
        found = difference(aepe, worse, better, groups, draws=999, seed=0)
        assert found.p == pytest.approx(2 / 2**count)


def test_it_depends_on_the_seed_alone() -> None:
    rows, groups = samples(np.arange(9.0)), list("abcdefghi")
    first, again, other = (intervals(rows, groups, draws=50, seed=seed) for seed in (3, 3, 4))
    assert first["aepe"] == again["aepe"] != other["aepe"]


def test_what_no_sample_has_has_no_interval() -> None:
    found = intervals(samples(np.arange(9.0)), list("abcdefghi"), draws=50, seed=0)
    assert np.isnan(found["fl_fg"]).all()


def test_a_small_but_constant_difference_is_told_from_chance_because_samples_are_paired() -> None:
    random = np.random.default_rng(2)
    errors = random.gamma(4.0, size=60)
    groups = [str(n) for n in range(60)]
    aepe = BY_NAME["aepe"]
    same = difference(aepe, samples(errors), samples(errors), groups, draws=999, seed=0)
    assert (same.value, same.p) == (0, 1)
    better = samples(errors - 0.1)
    found = difference(aepe, samples(errors), better, groups, draws=999, seed=0)
    assert found.value == pytest.approx(-0.1)
    assert found.interval.upper < 0 and found.p < 0.01
    noise = samples(errors + random.normal(0, 0.5, 60))
    assert difference(aepe, samples(errors), noise, groups, draws=999, seed=0).p > 0.01


def test_a_run_that_is_better_in_each_of_8_samples_has_the_p_of_8_equal_coins() -> None:
    errors = np.arange(8) / 4 + 5
    gains = 0.1 * np.arange(1, 9)
    found = compare_samples(
        samples(errors), samples(errors - gains), list("abcdefgh"), draws=200, seed=0
    )
    assert (found.wins, found.losses, found.samples) == (8, 0, 8)
    assert found.rank_p == pytest.approx(2 * 0.5**8)
    assert found.differences["aepe"].value == pytest.approx(-gains.mean())
    assert "fl_fg" not in found.differences  # no masks


def test_the_same_estimates_are_neither_better_nor_worse() -> None:
    rows = samples(np.arange(1.0, 6))
    found = compare_samples(rows, rows, list("abcde"), draws=50, seed=0)
    assert (found.wins, found.losses) == (0, 0)
    assert np.isnan(found.rank_p)
    assert found.differences["aepe"].p == 1


def test_holm_multiplies_the_smallest_p_most_and_never_turns_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    adjusted = holm([float("nan"), 0.02])
    assert np.isnan(adjusted[0]) and adjusted[1] == 0.02
