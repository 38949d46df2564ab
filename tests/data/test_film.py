"""Film effects: each does what it says, and nothing at strength 0."""

import numpy as np
import tensorflow as tf

from pwc_exp.data.scenes.film import (
    FilmLimits,
    add_noise,
    defocus,
    develop,
    draw_strengths,
    flicker,
    fog,
    smear,
)

HEIGHT, WIDTH = 30, 44
SEED = tf.constant([4, 9])
NOTHING = tf.constant(0.0)
LIMITS = FilmLimits(share=0.3, fog=1.0, shutter=0.5, defocus=1.5, noise=0.05, flicker=0.2)


def frames() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((2, HEIGHT, WIDTH, 3)), tf.float32)


def motion(x: float, y: float) -> tf.Tensor:
    return tf.constant(np.broadcast_to(np.array([x, y], np.float32), (HEIGHT, WIDTH, 2)))


def test_strength_0_changes_nothing() -> None:
    clear = frames()
    colours = tf.random.stateless_uniform([5, 6], SEED)
    for changed, same in (
        (smear(clear[0], motion(7, -4), NOTHING), clear[0]),
        (defocus(clear, NOTHING, largest=1.5), clear),
        (add_noise(clear, NOTHING, seed=SEED), clear),
        (flicker(clear, NOTHING, seed=SEED), clear),
        (fog(colours, NOTHING, seed=SEED), colours),
    ):
        np.testing.assert_allclose(changed, same, atol=1e-6)


def test_limits_of_0_leave_no_operation() -> None:
    clear = frames()
    limits = FilmLimits(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    strengths = draw_strengths(SEED, limits)
    assert develop(clear, [], seed=SEED, strengths=strengths, limits=limits) is clear


def test_strengths_are_0_but_in_their_share_of_scenes_and_fill_their_ranges() -> None:
    drawn = [draw_strengths(tf.constant([1, number]), LIMITS) for number in range(300)]
    chosen = np.array([strengths.chosen.numpy() for strengths in drawn])
    assert 0.22 < chosen.mean() < 0.38
    values = np.array([[float(part) for part in strengths[1:]] for strengths in drawn])
    assert (values[~chosen] == 0).all()
    assert (values.max(axis=0) <= LIMITS[1:]).all()
    assert (values.max(axis=0) > 0.9 * np.array(LIMITS[1:])).all()
    assert np.abs(values[chosen].mean(axis=0) / LIMITS[1:] - 0.5).max() < 0.15


def test_noise_has_its_deviation_in_both_frames_and_they_differ() -> None:
    grey = tf.fill([2, 100, 140, 3], 0.5)
    noise = add_noise(grey, tf.constant(0.05), seed=SEED).numpy() - 0.5
    np.testing.assert_allclose(noise.std(axis=(1, 2)), np.full((2, 3), 0.05), rtol=0.05)
    assert abs(noise.mean()) < 0.002
    for channels in (noise.reshape(2, -1), noise.reshape(-1, 3).T):
        assert np.abs(np.corrcoef(channels) - np.eye(len(channels))).max() < 0.05
    bright = add_noise(tf.ones([2, 10, 10, 3]), tf.constant(0.05), seed=SEED).numpy()
    assert bright.max() == 1


def test_a_smear_spreads_a_line_along_the_motion_over_the_time_the_shutter_is_open() -> None:
    line = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    line[:, 22] = 1
    across = smear(tf.constant(line), motion(16, 0), tf.constant(0.5)).numpy()
    profile = across[15, :, 0]
    assert profile.sum() == 1
    assert np.count_nonzero(profile) in (8, 9)
    assert abs((profile * np.arange(WIDTH)).sum() - 22) <= 0.5
    along = smear(tf.constant(line), motion(0, 16), tf.constant(0.5)).numpy()
    np.testing.assert_array_equal(along, line)


def test_defocus_spreads_a_point_by_its_deviation_and_keeps_the_mean() -> None:
    point = np.zeros((2, HEIGHT, WIDTH, 3), np.float32)
    point[:, 15, 22] = 1
    blurred = defocus(tf.constant(point), tf.constant(1.2), largest=2.0).numpy()
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), np.ones((2, 3)), rtol=1e-5)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for spread in ((rows - 15) ** 2, (columns - 22) ** 2):
        assert abs((blurred[0, ..., 0] * spread).sum() - 1.2**2) < 0.05


def test_flicker_scales_the_second_frame_alone_within_its_limit() -> None:
    clear = frames() * 0.5
    gains = []
    for number in range(40):
        changed = flicker(clear, tf.constant(0.2), seed=tf.constant([0, number]))
        np.testing.assert_array_equal(changed[0], clear[0])
        gain = changed[1].numpy() / clear[1].numpy()
        np.testing.assert_allclose(gain, gain[0, 0, 0], rtol=1e-5)
        gains.append(gain[0, 0, 0])
    assert 1 / 1.2 - 1e-5 <= min(gains) < 0.93
    assert 1.08 < max(gains) <= 1.2 + 1e-5


def test_fog_veils_the_far_more_than_the_near_by_one_light() -> None:
    colours = tf.constant([[0.1, 0.2, 0.3, 0.7, 0.6, 0.5]] * 5)
    veiled = fog(colours, tf.constant(1.0), seed=SEED).numpy()
    clear = veiled[:, 3:] / colours.numpy()[:, 3:]
    assert (np.diff(clear.mean(axis=1)) > 0).all()  # the background is first
    np.testing.assert_allclose(clear[0], np.exp(-1), rtol=1e-5)
    light = (veiled[:, :3] - clear * colours.numpy()[:, :3]) / (1 - clear)
    np.testing.assert_allclose(light, light[:1].repeat(5, axis=0), atol=1e-4)
    assert 0.3 < light.min() <= light.max() < 1
