"""Normalization of features: what it promises, and that the fast version is the portable one."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.cost_volume import normalize, portable_normalize

rng = np.random.default_rng(6)


def test_each_channel_of_each_frame_gets_mean_0_and_variance_1() -> None:
    features = rng.standard_normal((2, 7, 11, 3)) * [1e-1, 1, 30] + [5, -2, 100]
    result = np.asarray(normalize(tf.constant(features, tf.float32)))
    np.testing.assert_allclose(result.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(result.var((1, 2)), 1, atol=1e-3)


def test_a_channel_that_does_not_vary_is_zero() -> None:
    assert not np.asarray(normalize(tf.fill([1, 4, 5, 2], 3.0))).any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float32, 1e-5), (tf.bfloat16, 0.02)])
def test_value_and_gradient_are_those_of_the_portable_version(
    dtype: tf.DType, tolerance: float
) -> None:
    features = tf.cast(rng.standard_normal((2, 7, 11, 5)) + 1, dtype)
    upstream = tf.cast(rng.standard_normal(features.shape), dtype)

    def with_gradient(version: Callable[[tf.Tensor], tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(features)
            result = version(features)
        return [result, tape.gradient(result, features, upstream)]

    pairs = zip(with_gradient(normalize), with_gradient(portable_normalize), strict=True)
    for fast, portable in pairs:
        assert fast.dtype == portable.dtype == dtype
        difference = tf.cast(fast, tf.float32) - tf.cast(portable, tf.float32)
        assert float(tf.reduce_max(tf.abs(difference))) < tolerance
