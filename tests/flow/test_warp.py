"""Backward warping: where it reads; occlusion and confidence where both flows are known."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.warp import BORDERS, backward_warp, confidence, occlusion

rng = np.random.default_rng(3)
BOUND = {"relative": 0.01, "absolute": 0.5}


def uniform(x: float, y: float, *shape: int) -> tf.Tensor:
    return tf.broadcast_to(tf.constant([x, y]), [*shape, 2])


@pytest.mark.parametrize("border", BORDERS)
def test_it_reads_right_of_the_pixel_for_a_flow_to_the_right(border: str) -> None:
    features = rng.standard_normal((2, 7, 11, 5)).astype(np.float32)
    warped = backward_warp(features, uniform(3.0, -1.0, 2, 7, 11), border=border).numpy()
    np.testing.assert_allclose(warped[:, 1:, :-3], features[:, :-1, 3:], atol=1e-6)


def test_it_interpolates_bilinearly_and_outside_is_zero_or_the_nearest_pixel() -> None:
    features = tf.constant(np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)) + 1
    warped = backward_warp(features, uniform(0.25, 0.5, 1, 2, 3), border="edge").numpy()
    np.testing.assert_allclose(warped[0, 0, :2, 0], [2.75, 3.75])
    outside = uniform(5.0, -5.0, 1, 2, 3)
    assert not backward_warp(features, outside, border="zero").numpy().any()
    assert (backward_warp(features, outside, border="edge").numpy() == 3).all()
    with pytest.raises(ValueError, match="edge.*zero.*wrap"):
        backward_warp(features, outside, border="wrap")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_an_absurd_flow_is_no_address(value: float) -> None:
    features = rng.standard_normal((2, 7, 11, 5)).astype(np.float32)
    flow, absurd = rng.standard_normal((2, 1, 2, 7, 11, 2)).astype(np.float32)[:, 0]
    absurd[1] = flow[1]
    absurd[0, 2, 3] = value
    found, expected = (
        backward_warp(features, tf.constant(each), border="edge").numpy()[1]
        for each in (absurd, flow)
    )
    np.testing.assert_array_equal(found, expected)


def test_half_precision_features_are_sampled_at_float32_coordinates() -> None:
    width = 600  # float16 cannot tell 512.25 from 512
    features = tf.cast(tf.tile(tf.range(width)[None, None, :, None] % 2, [1, 2, 1, 1]), tf.float16)
    warped = backward_warp(features, uniform(0.25, 0.0, 1, 2, width), border="edge").numpy()
    assert warped.dtype == np.float16
    np.testing.assert_allclose(warped[0, 0, 512:516, 0], [0.25, 0.75, 0.25, 0.75])


def test_what_a_moving_square_hides_is_occluded_and_nothing_else() -> None:
    flow, backward = np.zeros((2, 1, 30, 40, 2), np.float32)  # a square of 8 x 8 moves by (5, -2)
    flow[0, 12:20, 10:18] = (5, -2)
    backward[0, 10:18, 15:23] = (-5, 2)
    hidden = np.zeros((30, 40), bool)
    hidden[10:18, 15:23] = True
    hidden[12:20, 10:18] = False
    np.testing.assert_array_equal(np.asarray(occlusion(flow, backward, **BOUND))[0] > 0, hidden)
    values = np.asarray(confidence(flow, backward, **BOUND))[0]
    assert (values[~hidden] == 1).all() and (values[hidden] < 0.5).all()


def test_what_leaves_the_frame_is_occluded() -> None:
    flow = uniform(3.0, 0.0, 1, 6, 10)
    hidden = np.asarray(occlusion(flow, -flow, **BOUND))[0]
    np.testing.assert_array_equal(hidden, np.broadcast_to(np.arange(10) > 6, (6, 10)))
    assert (np.asarray(confidence(flow, -flow, **BOUND))[0][:, 7:] == 0).all()


def test_the_bound_is_that_of_sundaram_brox_and_keutzer() -> None:
    # |flow|² = 4, |back|² = 4 (1 + d/2)², deviation² = d²; equal at the bound for this d.
    d = float(max(np.roots([1 - 0.01, -0.04, -0.01 * 8 - 0.5])))
    flow = uniform(2.0, 0.0, 1, 4, 12)
    for factor, hidden in ((0.99, False), (1.01, True)):
        backward = -flow * (1 + factor * d / 2)
        assert np.asarray(occlusion(flow, backward, **BOUND))[0, 1, 3] == hidden
        seen = np.asarray(confidence(flow, backward, **BOUND))[0, 1, 3]
        assert seen == pytest.approx(0.5, abs=0.02) and (seen < 0.5) == hidden
