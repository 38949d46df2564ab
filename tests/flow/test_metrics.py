"""Errors as sums, against values worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.metrics import error_sums, mean_of_sums


def rows(estimate: np.ndarray, target: np.ndarray, valid: np.ndarray) -> list[dict[str, float]]:
    sums = error_sums(*(tf.constant(v, tf.float32) for v in (estimate, target, valid)))
    count = len(estimate)
    return [{name: float(values[i]) for name, values in sums.items()} for i in range(count)]


def test_an_outlier_is_off_by_3_px_and_5_percent() -> None:
    target = np.zeros((1, 1, 4, 2))
    target[0, 0, :, 0] = [0, 0, 100, 100]
    estimate = np.add(target, [[[[2.9, 0], [3.1, 0], [4.9, 0], [5.1, 0]]]])
    means = mean_of_sums(rows(estimate, target, np.ones((1, 1, 4))))
    assert means["fl_all"] == pytest.approx(50)
    assert means["outlier_3px"] == pytest.approx(75)
    assert means["aepe"] == pytest.approx(4)


def test_invalid_pixels_count_for_nothing_whatever_they_hold() -> None:
    estimate, target = np.zeros((1, 2, 3, 2)), np.full((1, 2, 3, 2), np.nan)
    valid = np.zeros((1, 2, 3))
    target[0, 1, 2], valid[0, 1, 2] = (3, 4), 1
    means = mean_of_sums(rows(estimate, target, valid))
    assert means["aepe"] == 5
    assert means["valid_pixels"] == 1


def test_batching_does_not_change_the_means() -> None:
    rng = np.random.default_rng(1)
    estimate, target = rng.standard_normal((2, 5, 4, 6, 2)) * 4
    valid = (rng.random((5, 4, 6)) > 0.4).astype(float)
    whole = mean_of_sums(rows(estimate, target, valid))
    single = [
        row
        for i in range(5)
        for row in rows(estimate[i : i + 1], target[i : i + 1], valid[i : i + 1])
    ]
    assert mean_of_sums(single) == pytest.approx(whole)
    known = np.linalg.norm(estimate - target, axis=-1)[valid > 0]
    assert whole["aepe"] == pytest.approx(known.mean())


def test_aepe_weighs_pixels_and_aepe_per_image_weighs_images() -> None:
    target = np.zeros((2, 1, 4, 2))
    estimate = np.zeros((2, 1, 4, 2))
    estimate[0, ..., 0] = 1
    estimate[1, ..., 0] = 6
    valid = np.array([[[1, 1, 1, 1]], [[1, 0, 0, 0]]])
    means = mean_of_sums(rows(estimate, target, valid))
    assert means["aepe"] == pytest.approx((4 * 1 + 6) / 5)
    assert means["aepe_per_image"] == pytest.approx(3.5)


def test_a_split_without_valid_pixels_has_no_error() -> None:
    flow = np.zeros((1, 2, 2, 2))
    means = mean_of_sums(rows(flow, flow, np.zeros((1, 2, 2))))
    assert np.isnan(means["aepe"]) and np.isnan(means["fl_all"])
    assert means["valid_pixels"] == 0
