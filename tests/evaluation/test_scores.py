"""The sums of a sample and the metrics made of them, against values worked out by hand."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.evaluation import METRICS, Field, GroundTruth, means, score
from pwc_exp.evaluation.metrics import CURVES, ERROR_EDGES, SPEED_EDGES, total
from pwc_exp.flow.metrics import error_sums, mean_of_sums


def row(*vectors: tuple[float, float]) -> np.ndarray:
    """A flow of one row, [1, W, 2]."""
    return np.array([vectors], np.float32)


def of(estimate: np.ndarray, flow: np.ndarray, **masks: Any) -> dict[str, float]:
    masks = {"valid": np.ones(flow.shape[:2]), **masks}
    return means([score(estimate, GroundTruth(flow, **masks))])


def test_errors_of_0_2_4_and_6_px() -> None:
    truth = row((0, 0), (10, 0), (100, 0), (0, 41))
    found = of(truth + row((0, 0), (0, 2), (-4, 0), (0, 6)), truth)
    assert found["aepe"] == found["aepe_per_image"] == 3
    assert [found[f"outlier_{n}px"] for n in (1, 3, 5)] == [75, 50, 25]
    assert found["fl_all"] == 25  # 4 px of 100 are within 5 percent
    assert [found[f"aepe_{part}"] for part in ("s0_10", "s10_40", "s40_plus")] == [0, 2, 5]
    assert (found["valid_pixels"], found["samples"]) == (4, 1)


def test_a_pixel_exactly_at_a_threshold_is_within_it() -> None:
    truth = row((0, 0), (0, 0), (0, 0), (10, 0), (40, 0))
    found = of(truth + row((1, 0), (3, 0), (5, 0), (0, 0), (0, 0)), truth)
    assert [found[f"outlier_{n}px"] for n in (1, 3, 5)] == [40, 20, 0]
    assert found["aepe_s10_40"] == 0  # both 10 and 40 px


@pytest.mark.parametrize(
    ("estimate", "truth", "angle"),
    [
        ((0, 0), (1, 0), 45),
        ((0, 0), (0, 0), 0),
        ((0, 1), (0, -1), 90),
        ((1e-6, 0), (0, 0), np.degrees(1e-6)),
    ],
)
def test_the_angular_error_is_that_of_vectors_with_a_third_component_of_1(
    estimate: tuple[float, float], truth: tuple[float, float], angle: float
) -> None:
    assert of(row(estimate), row(truth))["aae"] == pytest.approx(angle)


def test_wauc_gives_early_thresholds_more_weight() -> None:
    weights = 1 - np.arange(100) / 100
    for error, first in ((0.0, 0), (0.049, 0), (0.06, 1), (2.5, 49), (5.0, 99), (5.01, 100)):
        expected = 100 * weights[first:].sum() / weights.sum()
        assert of(row((error, 0)), row((0, 0)))["wauc"] == pytest.approx(expected)
    assert of(row((0, 0), (9, 9)), row((0, 0), (0, 0)))["wauc"] == 50


def test_masks_divide_the_valid_pixels() -> None:
    truth = row(*[(0, 0)] * 4)
    found = of(
        row((1, 0), (2, 0), (4, 0), (9, 0)),
        truth,
        valid=np.array([[1, 1, 1, 0]]),
        occlusion=np.array([[0, 0, 255, 255]]),
    )
    assert (found["aepe_matched"], found["aepe_unmatched"]) == (1.5, 4)
    assert found["aepe"] == pytest.approx(7 / 3)
    estimate = row((4, 0), (0, 0), (4, 0), (4, 0))
    found = of(estimate, truth, foreground=np.array([[0, 0, 3, 1]]))
    assert (found["fl_bg"], found["fl_fg"], found["fl_all"]) == (50, 100, 75)


@pytest.mark.parametrize("upright", [False, True])
def test_errors_by_distance_to_a_motion_boundary(upright: bool) -> None:
    truth = np.zeros((3, 200, 2), np.float32)
    truth[:, 50:, 0] = 5  # columns 49 and 50 differ, the boundary is in column 49
    near = np.abs(np.arange(200) - 49)
    estimate = truth.copy()
    estimate[..., 1] += near  # its distance is each pixel's error
    if upright:
        truth, estimate = truth.transpose(1, 0, 2), estimate.transpose(1, 0, 2)
    found = of(estimate, truth)
    for name, lower, upper in (("d0_10", 0, 10), ("d10_60", 10, 60), ("d60_140", 60, 140)):
        expected = near[(near >= lower) & (near < upper)].mean()
        assert found[f"aepe_{name}"] == pytest.approx(expected), name


def test_a_still_or_sparse_truth_has_no_motion_boundary() -> None:
    flow = np.zeros((8, 12, 2))
    assert np.isnan(of(flow + 1, flow)["aepe_d0_10"])
    moving, valid = flow.copy(), np.zeros((8, 12))
    moving[:, 6:] = 9
    assert of(flow, moving)["aepe_d0_10"] > 0
    valid[:, ::3] = 1
    assert np.isnan(of(flow, moving, valid=valid)["aepe_d0_10"])


def test_unknown_truth_counts_for_nothing_whatever_it_holds() -> None:
    truth = row((np.nan, np.nan), (1e10, 0), (0, 0))
    found = of(row((5, 5), (5, 5), (3, 4)), truth, valid=np.array([[0, 0, 1]]))
    assert (found["aepe"], found["valid_pixels"]) == (5, 1)
    masks = {"occlusion": np.ones((1, 3)), "foreground": np.ones((1, 3))}
    found = of(np.zeros((1, 3, 2)), truth, valid=np.zeros((1, 3)), **masks)
    assert all(np.isnan(found[metric.name]) for metric in METRICS)
    assert (found["valid_pixels"], found["samples"]) == (0, 1)


def test_masks_that_are_not_there_leave_their_metrics_unknown_and_no_other() -> None:
    truth = np.zeros((4, 6, 2))
    truth[:, 3:] = [20, 30]
    unknown = {name for name, value in of(truth + 1, truth).items() if np.isnan(value)}
    assert unknown == {
        *("fl_bg", "fl_fg", "aepe_matched", "aepe_unmatched"),
        *("aepe_s40_plus", "aepe_d10_60", "aepe_d60_140"),
    }


def test_an_estimate_that_is_not_finite_is_infinitely_wrong() -> None:
    found = of(row((np.nan, 0), (0, 0)), row((0, 0), (0, 0)))
    assert found["aepe"] == np.inf
    assert (found["outlier_5px"], found["fl_all"], found["wauc"], found["aae"]) == (50, 50, 50, 90)


def test_means_pool_pixels_and_average_images_apart() -> None:
    small, large, right = np.zeros((1, 1, 2)), np.zeros((2, 2, 2)), np.array([1, 0])
    rows = [
        score(small + 6 * right, GroundTruth(small, np.ones((1, 1)))),
        score(large + right, GroundTruth(large, np.ones((2, 2)))),
        score(large, GroundTruth(large, np.zeros((2, 2)))),  # nothing known
    ]
    found = means(rows)
    assert (found["aepe"], found["aepe_per_image"]) == pytest.approx((2, 3.5))


def test_they_are_those_of_training_s_validation() -> None:
    random = np.random.default_rng(3)
    estimate, truth = random.standard_normal((2, 3, 5, 9, 2)).astype(np.float32) * 4
    valid = (random.random((3, 5, 9)) > 0.4).astype(np.float32)
    sums = error_sums(tf.constant(estimate), tf.constant(truth), tf.constant(valid))
    cheap = mean_of_sums([{name: float(v[i]) for name, v in sums.items()} for i in range(3)])
    found = means([score(estimate[i], GroundTruth(truth[i], valid[i])) for i in range(3)])
    assert {name: found[name] for name in cheap} == pytest.approx(cheap, rel=1e-5)


def test_tensors_are_scored_like_arrays_and_another_size_is_refused() -> None:
    flow = row((1, 2), (3, 4), (5, 6))
    arrays = score(flow + 1, GroundTruth(flow, np.ones((1, 3))))
    assert score(tf.constant(flow + 1), GroundTruth(tf.constant(flow), tf.ones((1, 3)))) == arrays
    with pytest.raises(ValueError, match=r"same size. Received: \(2, 3, 2\), \(3, 2, 2\)"):
        score(np.zeros((2, 3, 2)), GroundTruth(np.zeros((3, 2, 2)), np.ones((3, 2))))


def test_curves_hold_each_valid_pixel_once_by_its_speed_and_by_its_error() -> None:
    truth = row((0, 0), (0.6, 0), (300, 0), (3, 0))
    totals = total([score(truth + 0.75, GroundTruth(truth, np.array([[1, 1, 1, 0]])))])
    curves = {name: np.array([totals[key] for key in keys]) for name, keys in CURVES.items()}
    speeds = dict(zip(SPEED_EDGES, curves["speed_pixels"], strict=False))
    assert {edge for edge, count in speeds.items() if count} == {0, 0.5, 256}
    error = np.hypot(0.75, 0.75)
    assert curves["speed_error"].sum() == pytest.approx(3 * error)
    errors = curves["error_pixels"]
    assert errors[np.searchsorted(ERROR_EDGES, error) - 1] == errors.sum() == 3


def test_a_finer_truth_meets_the_estimate_it_lies_in_and_changes_no_other_metric() -> None:
    truth = np.zeros((2, 3, 2))
    fine = np.zeros((4, 6, 2))
    fine[0, 1] = [8, 0]  # of the estimate's first pixel
    sums = score(truth, GroundTruth(truth, np.ones((2, 3)), fine=Field(fine, np.ones((4, 6)))))
    assert (sums["fine_pixels"], sums["fine_aepe"]) == (24, 8)
    assert (sums["plain_pixels"], sums["plain_aepe"], sums["aepe"]) == (6, 0, 0)
