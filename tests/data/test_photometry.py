"""Colours, noise and patches: neutral is the identity, strengths are what was asked for."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.augmentation import (
    ColourLimits,
    add_noise,
    erase_patches,
    jitter_colours,
)

HEIGHT, WIDTH = 24, 40
LUMA = np.array([0.299, 0.587, 0.114])
NEUTRAL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "gamma": 0.0}


def frame_of(number: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    random = np.random.default_rng(number)
    return tf.constant(random.uniform(low, high, (HEIGHT, WIDTH, 3)).astype(np.float32))


def seed_of(number: int) -> tf.Tensor:
    return tf.constant([7, number], tf.int64)


def jittered(
    number: int, *frames: tf.Tensor, asymmetry: float = 0.0, **ranges: float
) -> list[np.ndarray]:
    options: dict[str, Any] = NEUTRAL | ranges
    changed = jitter_colours(
        frames, seed=seed_of(number), limits=ColourLimits(asymmetry, **options)
    )
    return [frame.numpy() for frame in changed]


def test_no_range_is_the_identity() -> None:
    frame = frame_of(0)
    np.testing.assert_allclose(jittered(1, frame)[0], frame, atol=1e-6)


def test_hue_keeps_luma_and_changes_colours() -> None:
    frame = frame_of(0, 0.4, 0.6).numpy()  # no colour leaves [0, 1]
    for number in range(10):
        changed = jittered(number, frame, hue=90.0)[0]
        np.testing.assert_allclose(changed @ LUMA, frame @ LUMA, atol=1e-5)
    assert np.abs(changed - frame).mean() > 0.01


def test_saturation_keeps_luma_and_scales_the_distance_from_grey() -> None:
    frame = frame_of(0, 0.4, 0.6).numpy()
    changed = jittered(3, frame, saturation=0.5)[0]
    grey = (frame @ LUMA)[..., None]
    factors = (changed - grey)[np.abs(frame - grey) > 0.02] / (frame - grey)[
        np.abs(frame - grey) > 0.02
    ]
    assert factors.std() < 1e-4
    assert 0.01 < abs(factors.mean() - 1) <= 0.5


def test_brightness_is_a_factor() -> None:
    frame = frame_of(0, 0.2, 0.6).numpy()
    factors = [jittered(number, frame, brightness=0.4)[0] / frame for number in range(20)]
    assert max(factor.std() for factor in factors) < 1e-5
    means = [factor.mean() for factor in factors]
    assert 0.6 <= min(means) < 0.8
    assert 1.2 < max(means) <= 1.4


def test_contrast_scales_the_distance_from_the_mean_luma_of_all_frames() -> None:
    frames = [frame_of(0, 0.2, 0.5), frame_of(1, 0.3, 0.7)]
    middle = np.mean([frame.numpy() @ LUMA for frame in frames])
    means = []
    for number in range(20):
        for frame, changed in zip(frames, jittered(number, *frames, contrast=0.4), strict=True):
            far = np.abs(frame.numpy() - middle) > 0.05
            factors = (changed - middle)[far] / (frame.numpy() - middle)[far]
            assert factors.std() < 1e-4
            means.append(factors.mean())
    assert 0.6 <= min(means) < 0.95
    assert 1.05 < max(means) <= 1.4


def test_changes_of_several_kinds_compose() -> None:
    frame = frame_of(0, 0.4, 0.6).numpy()
    tinted = jittered(4, frame, saturation=0.2, hue=40.0)[0]
    bright = (jittered(4, frame, brightness=0.2)[0] / frame).mean() * tinted
    middle = np.mean(bright @ LUMA)
    deviations = [image.std() for image in (jittered(4, frame, contrast=0.2)[0], frame)]
    steep = middle + deviations[0] / deviations[1] * (bright - middle)
    exponent = np.mean(np.log(jittered(4, frame, gamma=0.2)[0]) / np.log(frame))
    all_at_once = jittered(
        4, frame, brightness=0.2, contrast=0.2, saturation=0.2, hue=40.0, gamma=0.2
    )[0]
    np.testing.assert_allclose(all_at_once, steep**exponent, atol=1e-5)


def test_gamma_is_a_power() -> None:
    frame = frame_of(0, 0.1, 0.9).numpy()
    for number in range(5):
        exponents = np.log(jittered(number, frame, gamma=0.3)[0]) / np.log(frame)
        assert exponents.std() < 1e-4
        assert np.exp(-0.3) <= exponents.mean() <= np.exp(0.3)


def test_black_and_white_stay_finite_and_in_range() -> None:
    extremes = tf.constant(np.eye(3, dtype=np.float32)[None].repeat(2, axis=0))
    for number in range(20):
        changed = jittered(
            number, extremes, brightness=0.9, contrast=0.9, saturation=0.9, hue=180.0, gamma=1.0
        )[0]
        assert np.isfinite(changed).all()
        assert changed.min() >= 0
        assert changed.max() <= 1


@pytest.mark.parametrize(("asymmetry", "low", "high"), [(0.0, 0, 0), (0.3, 5, 25), (1.0, 40, 40)])
def test_frames_change_alike_but_for_the_asymmetric_share(
    asymmetry: float, low: int, high: int
) -> None:
    frame = frame_of(0, 0.3, 0.6)
    apart = 0
    for number in range(40):
        one, other = jittered(number, frame, frame, asymmetry=asymmetry, brightness=0.3)
        apart += not np.array_equal(one, other)
    assert low <= apart <= high


def test_noise_has_a_random_deviation_up_to_its_strength_and_no_bias() -> None:
    grey = tf.fill([HEIGHT, WIDTH, 3], 0.5)
    noises = [add_noise(grey, seed=seed_of(n), strength=0.05).numpy() - 0.5 for n in range(100)]
    deviations = np.array([noise.std() for noise in noises])
    assert deviations.min() < 0.01
    assert 0.045 < deviations.max() < 0.052
    assert deviations.mean() == pytest.approx(0.025, abs=0.005)
    assert np.mean(noises) == pytest.approx(0, abs=0.001)
    unit = np.concatenate([noise.ravel() / noise.std() for noise in noises])
    assert np.mean(np.abs(unit) < 1) == pytest.approx(0.6827, abs=0.01)


def erased(number: int, probability: float = 1.0, patches: int = 2) -> np.ndarray:
    changed = erase_patches(
        frame_of(0), seed=seed_of(number), probability=probability, patches=patches, size=12.0
    )
    return changed.numpy()


def test_patches_have_the_mean_colour_and_the_rest_is_untouched() -> None:
    frame = frame_of(0).numpy()
    chosen = sum(not np.array_equal(erased(number, 0.5), frame) for number in range(60))
    assert 18 <= chosen <= 42
    areas = []
    for number in range(40):
        changed = erased(number)
        hidden = (changed != frame).any(axis=-1)
        areas.append(hidden.sum())
        mean = np.broadcast_to(frame.mean(axis=(0, 1)), (hidden.sum(), 3))
        np.testing.assert_allclose(changed[hidden], mean, atol=1e-5)
    assert max(areas) <= 2 * 13 * 13
    assert min(areas) >= 9  # a centre may lie in a corner of the frame
    assert np.mean(areas) > 60


def test_one_patch_is_a_rectangle_of_the_asked_size() -> None:
    frame = frame_of(0).numpy()
    whole = 0
    for number in range(40):
        hidden = (erased(number, patches=1) != frame).any(axis=-1)
        rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
        assert hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        ends = (rows[0], HEIGHT - 1 - rows[-1], columns[0], WIDTH - 1 - columns[-1])
        if min(ends) > 0:  # not cut off by the frame
            whole += 1
            assert 6 <= len(rows) <= 12
            assert 6 <= len(columns) <= 12
    assert whole > 5
