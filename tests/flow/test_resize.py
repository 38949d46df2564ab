"""Padding, and changing the resolution of flows."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.resize import (
    ALIGNMENTS,
    pad,
    padded_size,
    resize_flow,
    target_pyramid,
    unpad,
    upsample,
)

rng = np.random.default_rng(9)


def random_flow(*shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, 2)).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 128), (65, 127), (436, 1024)])
def test_padding_reaches_the_next_multiple_and_comes_off_exactly(height: int, width: int) -> None:
    flow = random_flow(1, height, width)
    padded = pad(flow, 64)
    assert tuple(padded.shape[1:3]) == padded_size(height, width, 64)
    assert padded.shape[1] % 64 == padded.shape[2] % 64 == 0
    assert padded.shape[1] - height < 64
    np.testing.assert_array_equal(unpad(padded, height, width), flow)
    assert not np.asarray(padded)[:, height:].any()


def test_upsampling_is_tensorflow_1s_or_keeps_the_mean_of_a_ramp() -> None:
    flow = random_flow(2, 5, 7)
    legacy = tf.compat.v1.image.resize_bilinear(flow, (20, 28), half_pixel_centers=False)
    np.testing.assert_allclose(upsample(flow, 4, alignment="corner"), legacy, atol=1e-6)
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[None, None, :, None], (1, 4, 6, 2))
    large = np.asarray(upsample(tf.constant(ramp), 4, alignment="center"))
    np.testing.assert_allclose(large[0, 5, 4:8, 0], [0.625, 0.875, 1.125, 1.375])
    with pytest.raises(ValueError, match="corner.*center.*middle"):
        upsample(flow, 2, alignment="middle")


def test_corner_downsampling_picks_pixels() -> None:
    target, valid = random_flow(1, 8, 12), np.ones((1, 8, 12), np.float32)
    valid[0, 4, 8] = 0
    small, small_valid = target_pyramid(target, valid, [2], alignment="corner")[2]
    np.testing.assert_array_equal(small[0, 0], target[0, 0, ::4])
    assert np.asarray(small_valid)[0, 1, 2] == 0
    assert not np.asarray(small)[0, 1, 2].any()


def test_center_downsampling_averages_valid_pixels_only() -> None:
    target = np.full((1, 4, 8, 2), np.nan, np.float32)
    valid = np.zeros((1, 4, 8), np.float32)
    for x, value in ((0, 1.0), (3, 5.0)):
        target[0, 1, x], valid[0, 1, x] = value, 1
    for levels in ([2], [1, 2], [0, 1, 2]):  # whichever finer ones are asked for as well
        small, small_valid = target_pyramid(target, valid, levels, alignment="center")[2]
        np.testing.assert_array_equal(small, [[[[3, 3], [0, 0]]]])
        np.testing.assert_array_equal(small_valid, [[[1, 0]]])


def test_a_resized_flow_still_leads_to_the_same_places() -> None:
    y, x = np.mgrid[:24, :40].astype(np.float32)
    flow = np.stack([0.1 * x + 2, 0.2 * y - 1], axis=-1)[None]
    resized = np.asarray(resize_flow(flow, 12, 60))
    # The centre of pixel (i, j) lies at (j + ½, i + ½), in both.
    at_x, at_y = (np.arange(60) + 0.5) * 40 / 60 - 0.5, (np.arange(12) + 0.5) * 24 / 12 - 0.5
    expected = np.empty((12, 60, 2))
    expected[..., 0] = (0.1 * at_x + 2) * 1.5
    expected[..., 1] = (0.2 * at_y[:, None] - 1) / 2
    np.testing.assert_allclose(resized[0, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-3)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("factor", [2, 4])
def test_a_size_that_is_known_only_later_changes_nothing(alignment: str, factor: int) -> None:
    flow = tf.constant(np.random.default_rng(4).standard_normal((2, 5, 7, 2)), tf.float32)
    any_size = [tf.TensorSpec([None, None, None, 2], tf.float32)]
    later = tf.function(lambda f: upsample(f, factor, alignment=alignment), any_size)
    known = upsample(flow, factor, alignment=alignment)
    np.testing.assert_allclose(later(flow), known, atol=1e-6)
    padded = tf.function(lambda frame: pad(frame, 4), any_size)
    np.testing.assert_array_equal(padded(flow), pad(flow, 4))
