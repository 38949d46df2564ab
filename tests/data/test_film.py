"""Film effects: each does what it says, and nothing at strength 0."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.synthetic import film
from pwc_exp.data.synthetic.film import Film, FilmLimits, develop, draw_film, make_noise

SIZE = Size(30, 44)
HEIGHT, WIDTH = SIZE
LIMITS = FilmLimits(
    share=0.3,
    effects=1.0,
    fog=1.0,
    shutter=0.5,
    defocus=1.5,
    noise=0.05,
    flicker=0.2,
    gamma=0.3,
    light=0.4,
    highlights=0.5,
    jpeg=40,
)


def frame() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((3, HEIGHT, WIDTH)), tf.float32)


def motion(x: float, y: float) -> tf.Tensor:
    plane = np.ones((HEIGHT, WIDTH), np.float32)
    return tf.constant(np.stack([x * plane, y * plane]))


def drawn(number: int, **limits: Any) -> Film:
    return draw_film(np.random.default_rng([1, number]), LIMITS._replace(**limits), SIZE)


def scalar(value: float) -> tf.Tensor:
    return tf.constant(value, tf.float32)


def test_strength_0_changes_nothing() -> None:
    clear = frame()
    nothing = drawn(0, share=0.0)
    for changed in (
        film.smear(clear, motion(7, -4), scalar(0)),
        film.defocus(clear, scalar(0)),
        film.shine(clear, tf.constant(nothing.light[0], tf.float32)),
        film.highlight(clear, tf.constant(nothing.highlights[0], tf.float32)),
        film.change_tones(clear, scalar(1), scalar(1)),
        film.add_noise(clear, scalar(0), make_noise(SIZE), nothing.noise_starts[0]),
    ):
        np.testing.assert_allclose(changed, clear, atol=1e-4)
    np.testing.assert_array_equal(film.compress(clear, tf.constant(100)), clear)


def test_without_film_there_is_no_operation() -> None:
    frames = [frame(), frame()]
    limits = LIMITS._replace(share=0.0)
    same = develop(frames, [], drawn(0, share=0.0), make_noise(SIZE), limits=limits)
    assert all(one is other for one, other in zip(same, frames, strict=True))


def test_effects_are_in_their_share_of_scenes_and_fill_their_ranges() -> None:
    films = [drawn(number) for number in range(400)]
    for name in ("fog", "shutter", "defocus", "noise"):
        values = np.array([getattr(film, name) for film in films])
        limit = getattr(LIMITS, name)
        assert 0.2 < (values > 0).mean() < 0.4
        assert 0.9 * limit < values.max() <= limit
        assert abs(values[values > 0].mean() / limit - 0.5) < 0.12
    for name, limit in (("gain", LIMITS.flicker), ("gamma", LIMITS.gamma)):
        values = np.log([getattr(film, name) for film in films]) / np.log1p(limit)
        assert 0.9 < values.max() <= 1 + 1e-9
        assert -1 - 1e-9 <= values.min() < -0.9
    qualities = np.array([film.jpeg for film in films])
    assert 0.2 < (qualities < 100).mean() < 0.4
    assert 40 <= qualities.min() < 46


def test_a_filmed_scene_has_its_share_of_the_effects() -> None:
    films = [drawn(number, share=1.0, effects=0.25) for number in range(400)]
    fogged, blurred = (np.array([getattr(f, n) for f in films]) > 0 for n in ("fog", "shutter"))
    assert 0.18 < fogged.mean() < 0.32
    assert 0.02 < (fogged & blurred).mean() < 0.12


def test_noise_has_its_deviation_and_differs_between_planes_and_frames() -> None:
    size = Size(100, 140)
    grey, table = tf.fill([3, *size], 0.5), make_noise(size)
    starts = np.random.default_rng(0).integers(2**18, size=(2, 3))
    noise = np.stack([film.add_noise(grey, scalar(0.05), table, part) - 0.5 for part in starts])
    np.testing.assert_allclose(noise.std(axis=(2, 3)), np.full((2, 3), 0.05), rtol=0.05)
    assert abs(noise.mean()) < 0.002
    planes = noise.reshape(6, -1)
    assert np.abs(np.corrcoef(planes) - np.eye(6)).max() < 0.05
    bright = film.add_noise(tf.ones([3, *size]), scalar(0.05), table, starts[0]).numpy()
    assert bright.max() == 1


def test_a_smear_spreads_a_line_along_the_motion_over_the_time_the_shutter_is_open() -> None:
    line = np.zeros((3, HEIGHT, WIDTH), np.float32)
    line[:, :, 22] = 1
    across = film.smear(tf.constant(line), motion(16, 0), scalar(0.5)).numpy()
    profile = across[0, 15]
    assert profile.sum() == pytest.approx(1)
    assert np.count_nonzero(profile) in (8, 9)
    assert abs((profile * np.arange(WIDTH)).sum() - 22) <= 0.5
    along = film.smear(tf.constant(line), motion(0, 16), scalar(0.5)).numpy()
    np.testing.assert_allclose(along, line, atol=1e-4)


def test_defocus_spreads_a_point_by_its_deviation_and_keeps_the_mean() -> None:
    point = np.zeros((3, HEIGHT, WIDTH), np.float32)
    point[:, 15, 22] = 1
    blurred = film.defocus(tf.constant(point), scalar(1.0)).numpy()
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), np.ones(3), rtol=1e-5)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for spread in ((rows - 15) ** 2, (columns - 22) ** 2):
        assert abs((blurred[0] * spread).sum() - 1) < 0.05


def test_tones_change_by_a_factor_and_a_power() -> None:
    clear = frame()
    changed = film.change_tones(clear, scalar(0.9), scalar(1.2))
    np.testing.assert_allclose(changed, 0.9 * clear.numpy() ** 1.2, atol=1e-4)


def test_light_falls_off_across_a_frame_by_its_strength() -> None:
    light = tf.constant(drawn(3, share=1.0).light[0], tf.float32)
    shone = film.shine(tf.fill([3, HEIGHT, WIDTH], 0.5), light).numpy() / 0.5
    assert abs(shone.mean() - 1) < 0.02
    assert 1 < shone.max() <= 1 + LIMITS.light + 0.01


def test_highlights_brighten_and_shadows_darken_around_their_places() -> None:
    lights = np.zeros((3, 6), np.float32)
    lights[0] = [10, 8, 0.02, 0, 0.02, 0.5]
    lights[1] = [34, 20, 0.02, 0, 0.02, -0.5]
    lit = film.highlight(tf.fill([3, HEIGHT, WIDTH], 0.4), tf.constant(lights)).numpy()[0]
    assert lit[8, 10] == pytest.approx(0.4 + 0.5 * 0.6, abs=1e-3)
    assert lit[20, 34] == pytest.approx(0.4 * 0.5, abs=1e-3)
    assert lit[8, 34] == pytest.approx(0.4, abs=0.05)


def test_compression_changes_a_frame_the_more_the_lower_its_quality() -> None:
    smooth = np.linspace(0, 1, HEIGHT * WIDTH * 3, dtype=np.float32).reshape(HEIGHT, WIDTH, 3)
    rough = tf.constant(0.7 * smooth + 0.3 * np.transpose(frame(), [1, 2, 0]))
    errors = [
        float(np.abs(film.compress(rough, tf.constant(quality)) - rough).mean())
        for quality in (95, 60, 20)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.2
