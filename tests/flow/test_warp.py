"""Backward warping: where it reads, and that the fast version is the portable one."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.warp import BORDERS, backward_warp, portable_backward_warp

rng = np.random.default_rng(3)


def random_pair(spread: float) -> tuple[tf.Tensor, tf.Tensor]:
    features = rng.standard_normal((2, 7, 11, 5)).astype(np.float32)
    flow = (spread * rng.standard_normal((2, 7, 11, 2))).astype(np.float32)
    return tf.constant(features), tf.constant(flow)


@pytest.mark.parametrize("border", BORDERS)
def test_it_reads_right_of_the_pixel_for_a_flow_to_the_right(border: str) -> None:
    features, _ = random_pair(0)
    flow = tf.broadcast_to(tf.constant([3.0, -1.0]), [2, 7, 11, 2])
    warped = backward_warp(features, flow, border=border).numpy()
    np.testing.assert_allclose(warped[:, 1:, :-3], features.numpy()[:, :-1, 3:], atol=1e-6)


def test_it_interpolates_bilinearly() -> None:
    features = tf.constant(np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1))
    flow = tf.broadcast_to(tf.constant([0.25, 0.5]), [1, 2, 3, 2])
    warped = backward_warp(features, flow, border="edge").numpy()
    np.testing.assert_allclose(warped[0, 0, :2, 0], [1.75, 2.75])


def test_outside_is_zero_or_the_nearest_pixel() -> None:
    features = tf.constant(np.arange(1, 7, dtype=np.float32).reshape(1, 2, 3, 1))
    flow = tf.broadcast_to(tf.constant([5.0, -5.0]), [1, 2, 3, 2])
    assert not backward_warp(features, flow, border="zero").numpy().any()
    assert (backward_warp(features, flow, border="edge").numpy() == 3).all()


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("spread", [0.5, 6.0])
def test_value_and_gradients_are_those_of_the_portable_version(border: str, spread: float) -> None:
    features, flow = random_pair(spread)
    upstream = tf.constant(rng.standard_normal(features.shape).astype(np.float32))
    results = []
    for warp in (backward_warp, portable_backward_warp):
        with tf.GradientTape() as tape:
            tape.watch([features, flow])
            warped = warp(features, flow, border=border)
        results.append([warped, *tape.gradient(warped, [features, flow], upstream)])
    for fast, portable in zip(*results, strict=True):
        np.testing.assert_allclose(fast, portable, atol=2e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_an_absurd_flow_is_no_address(value: float) -> None:
    features, flow = random_pair(1)
    absurd = flow.numpy()
    absurd[0, 2, 3] = value
    warped = backward_warp(features, tf.constant(absurd), border="edge").numpy()
    expected = backward_warp(features, flow, border="edge").numpy()
    np.testing.assert_array_equal(warped[1], expected[1])


def test_half_precision_features_are_sampled_at_float32_coordinates() -> None:
    width = 600  # float16 cannot tell 512.25 from 512
    features = tf.cast(tf.tile(tf.range(width)[None, None, :, None] % 2, [1, 2, 1, 1]), tf.float16)
    flow = tf.broadcast_to(tf.constant([0.25, 0.0]), [1, 2, width, 2])
    warped = backward_warp(features, flow, border="edge").numpy()
    assert warped.dtype == np.float16
    np.testing.assert_allclose(warped[0, 0, 512:516, 0], [0.25, 0.75, 0.25, 0.75])


def test_an_unknown_border_is_refused_with_the_known_ones() -> None:
    features, flow = random_pair(1)
    with pytest.raises(ValueError, match="edge.*zero.*wrap"):
        backward_warp(features, flow, border="wrap")
