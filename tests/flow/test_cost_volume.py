"""The cost volume, against its definition written as loops; and the features it compares."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.cost_volume import BLOCK, cost_volume, normalize

rng = np.random.default_rng(5)


def by_definition(features1: np.ndarray, warped2: np.ndarray, r: int) -> np.ndarray:
    batch, height, width, _ = features1.shape
    padded = np.pad(warped2, ((0, 0), (r, r), (r, r), (0, 0)))
    costs = np.zeros((batch, height, width, (2 * r + 1) ** 2), np.float64)
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            shifted = padded[:, r + dy : r + dy + height, r + dx : r + dx + width]
            costs[..., (dy + r) * (2 * r + 1) + dx + r] = (features1 * shifted).mean(-1)
    return costs


@pytest.mark.parametrize("search_range", [1, 4])
@pytest.mark.parametrize("width", [5, BLOCK, 2 * BLOCK + 3])
def test_it_is_the_mean_correlation_in_row_major_order(search_range: int, width: int) -> None:
    first, second = rng.standard_normal((2, 2, 6, width, 7)).astype(np.float32)
    costs = cost_volume(first, second, search_range=search_range)
    np.testing.assert_allclose(costs, by_definition(first, second, search_range), atol=1e-5)


def test_the_best_match_is_where_the_content_went() -> None:
    first = rng.standard_normal((1, 12, 20, 32)).astype(np.float32)
    moved = np.roll(first, (1, -2), axis=(1, 2))  # down 1, left 2
    costs = cost_volume(first, moved, search_range=4).numpy()[0, 5:7, 8:12]
    assert (costs.argmax(-1) == (1 + 4) * 9 + (-2 + 4)).all()


def test_half_precision_features_are_summed_in_float32() -> None:
    ones = tf.fill([1, 4, 4, 4096], tf.constant(3.0, tf.float16))  # the sum, 36864, has few bits
    costs = cost_volume(ones, ones, search_range=1)
    assert costs.dtype == tf.float16
    assert costs.numpy()[0, 1, 1, 4] == 9


def test_normalized_features_have_mean_0_and_variance_1_unless_they_do_not_vary() -> None:
    features = rng.standard_normal((2, 7, 11, 4)) * [1e-1, 1, 30, 0] + [5, -2, 100, 3]
    result = np.asarray(normalize(tf.constant(features, tf.float32)))
    np.testing.assert_allclose(result.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(result.var((1, 2)), [[1, 1, 1, 0]] * 2, atol=1e-3)
