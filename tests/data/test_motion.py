"""Motions: closed forms as numpy evaluates them, inverses, speeds, coherence."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.synthetic.motion import (
    Motion,
    MotionLimits,
    draw_motion,
    move,
    move_points,
    rounds_of,
    speed_at,
    trace,
)

SIZE = Size(256, 448)
DIAGONAL = math.hypot(*SIZE)
LAYERS = 6
STILL = MotionLimits(
    speed_shares=(0.0, 0.0, 1.0),
    speed_bounds=(0.009, 0.036, 0.18),
    background_speed=1.0,
    coherence=0.0,
    max_rotation=0.0,
    max_zoom=0.0,
    max_shear=0.0,
    max_perspective=0.0,
    max_expansion=0.0,
    bending=0.0,
    max_strain=0.0,
)
KINDS: dict[str, dict[str, Any]] = {
    "shift": {},
    "rotation": {"max_rotation": 10.0},
    "zoom": {"max_zoom": 0.1},
    "shear": {"max_shear": 0.1},
    "perspective": {"max_perspective": 0.2},
    "expansion": {"max_expansion": 0.3},
    "waves": {"bending": 0.6, "max_strain": 0.3},
}
KINDS["all"] = {key: value for kind in KINDS.values() for key, value in kind.items()}


def centres(count: int = LAYERS) -> np.ndarray:
    inside = np.random.default_rng(0).uniform(0, [SIZE.width, SIZE.height], (count, 2))
    inside[0] = [SIZE.width / 2, SIZE.height / 2]
    return inside


def drawn(limits: MotionLimits, seed: int = 1, count: int = LAYERS) -> Motion:
    rng = np.random.default_rng([3, seed])
    return draw_motion(rng, centres(count), size=SIZE, limits=limits)


def layer_of(motion: Motion, number: int) -> Motion:
    forward, back, waves = (tf.constant(part[number], tf.float32) for part in motion[:3])
    return Motion(forward, back, waves, bends=tf.constant(bool(motion.bends[number])))


def frame_points() -> np.ndarray:
    return np.random.default_rng(1).uniform(-50, [SIZE.width + 50, SIZE.height + 50], (500, 2))


def linear_parts(motion: Motion) -> np.ndarray:
    """Derivatives of maps without perspective, [L, 2, 2]."""
    return motion.to_frame2[:, :2, :2]


@pytest.mark.parametrize("kind", KINDS)
def test_flow_is_the_closed_form_as_numpy_evaluates_it(kind: str) -> None:
    motion, points = drawn(STILL._replace(**KINDS[kind])), frame_points()
    expected = move_points(motion, np.tile(points, (LAYERS, 1, 1)))
    x, y = tf.constant(points.T, tf.float32)
    for layer in range(LAYERS):
        place = points.copy()
        for wave in motion.waves[layer]:
            height = np.sin(2 * np.pi * (points @ wave[:2] + wave[2]))
            place += wave[3:] * height[:, None]
        moved = np.concatenate([place, np.ones((500, 1))], axis=1) @ motion.to_frame2[layer].T
        # The waves are sines to a few thousandths.
        np.testing.assert_allclose(expected[layer], moved[:, :2] / moved[:, 2:], atol=0.02)
        target = move(layer_of(motion, layer), x, y)
        np.testing.assert_allclose(np.stack([target.x, target.y], 1), expected[layer], atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_leads_back_to_two_thousandths_of_a_pixel(kind: str) -> None:
    limits = STILL._replace(**KINDS[kind])
    motion = drawn(limits)
    rounds = rounds_of(limits.max_strain, DIAGONAL)
    x, y = tf.constant(frame_points().T, tf.float32)
    for layer in range(LAYERS):
        one = layer_of(motion, layer)
        target = move(one, x, y)
        back = trace(one, target.x, target.y, rounds=rounds)
        assert np.abs(back.x - x).max() < 2e-3
        assert np.abs(back.y - y).max() < 2e-3


def test_a_shift_alone_keeps_directions_and_lengths() -> None:
    motion = drawn(STILL)
    np.testing.assert_allclose(linear_parts(motion), np.tile(np.eye(2), (LAYERS, 1, 1)))
    shift = np.linalg.norm(motion.to_frame2[:, :2, 2], axis=1)
    assert ((shift > 0.0359 * DIAGONAL) & (shift < 0.1801 * DIAGONAL)).all()
    assert len(np.unique(shift)) == LAYERS
    slow = drawn(STILL._replace(background_speed=0.2)).to_frame2[:, :2, 2]
    ratios = np.linalg.norm(slow, axis=1) / shift
    np.testing.assert_allclose(ratios, [0.2] + [1.0] * (LAYERS - 1))  # the background comes first


def test_perspective_changes_the_scale_over_a_diagonal_by_its_limit_at_most() -> None:
    rows = drawn(STILL._replace(max_perspective=0.2)).to_frame2[:, 2]
    at_centre = np.sum(rows[:, :2] * centres(), axis=1) + rows[:, 2]
    slant = np.abs(rows[:, :2] / at_centre[:, None] * DIAGONAL)
    assert 0.02 < slant.max() <= 0.2


def test_rotation_zoom_and_shear_are_what_they_are_called_and_keep_their_limits() -> None:
    for linear in linear_parts(drawn(STILL._replace(max_rotation=10.0))):
        np.testing.assert_allclose(linear.T @ linear, np.eye(2), atol=1e-6)
        assert 0 < abs(math.degrees(math.atan2(linear[1, 0], linear[0, 0]))) <= 10
    for linear in linear_parts(drawn(STILL._replace(max_zoom=0.1))):
        np.testing.assert_allclose(linear, linear[0, 0] * np.eye(2), atol=1e-6)
        assert 1 / 1.1 <= linear[0, 0] <= 1.1
        assert linear[0, 0] != 1
    for linear in linear_parts(drawn(STILL._replace(max_shear=0.1))):
        assert linear[0, 1] == pytest.approx(linear[1, 0], abs=1e-6)
        assert 0 < abs(linear[0, 1]) <= 0.1


def test_layers_expand_about_one_focus_inside_the_frame_the_nearer_the_more() -> None:
    slow = STILL._replace(speed_bounds=(1e-9, 2e-9, 3e-9), max_expansion=0.3)
    for seed in range(10):
        motion = drawn(slow, seed)
        growth = linear_parts(motion)[:, 0, 0]
        focus = motion.to_frame2[:, :2, 2] / (1 - growth[:, None])
        np.testing.assert_allclose(focus, np.tile(focus[:1], (LAYERS, 1)), rtol=1e-3)
        assert (focus[0] > 0).all()
        assert (focus[0] < [SIZE.width, SIZE.height]).all()
        assert (np.diff(np.abs(growth - 1)) > 0).all()
        assert np.abs(growth - 1).max() <= 0.3


def test_waves_bend_their_share_of_layers_within_their_strain() -> None:
    motion = drawn(STILL._replace(bending=0.6, max_strain=0.3), count=40)
    bends = motion.bends
    assert 0.4 < bends.mean() < 0.8
    vectors, amplitudes = motion.waves[..., :2], motion.waves[..., 3:]
    steepness = np.linalg.norm(vectors, axis=2) * np.linalg.norm(amplitudes, axis=2)
    strain = 2 * np.pi * steepness.sum(axis=1)
    assert (strain <= 0.3 + 1e-6).all()
    assert strain[bends].min() > 0.1
    assert (strain[~bends] == 0).all()


def test_ranks_become_speeds_by_their_shares() -> None:
    limits = STILL._replace(speed_shares=(0.69, 0.22, 0.09))
    speed = speed_at(np.linspace(0.0, 1.0, 10_001), limits)
    assert (np.diff(speed) >= 0).all()
    counted = np.histogram(speed, [0, 0.009, 0.036, 0.181])[0] / len(speed)
    np.testing.assert_allclose(counted, [0.69, 0.22, 0.09], atol=1e-3)
    np.testing.assert_allclose(speed[[0, -1]], [0, 0.18], rtol=1e-5)
    # A long tail: of the fast, more lie below the middle of their range than above.
    assert np.median(speed[speed > 0.036]) < 0.1


@pytest.mark.parametrize("coherence", [0.0, 0.8])
def test_coherence_leaves_the_shares_of_speeds(coherence: float) -> None:
    limits = STILL._replace(speed_shares=(0.5, 0.3, 0.2), coherence=coherence)
    shift = np.stack([drawn(limits, seed).to_frame2[:, :2, 2] for seed in range(500)])
    speed = np.linalg.norm(shift, axis=2) / DIAGONAL
    counted = np.histogram(speed, [0, 0.009, 0.036, 0.181])[0] / speed.size
    np.testing.assert_allclose(counted, [0.5, 0.3, 0.2], atol=0.06)
    # Directions are even, too: no mean motion.
    assert np.abs(shift.mean(axis=(0, 1))).max() < 0.15 * speed.mean() * DIAGONAL


def test_layers_move_like_the_background_as_far_as_they_are_coherent() -> None:
    def apart(coherence: float) -> float:
        limits = STILL._replace(coherence=coherence, max_rotation=5.0)
        maps = np.stack([drawn(limits, seed).to_frame2 for seed in range(10)])
        points = np.concatenate([centres(), np.ones((LAYERS, 1))], axis=1)
        own = np.einsum("slij,lj->sli", maps, points)
        along = np.einsum("sij,lj->sli", maps[:, 0], points)  # as the background moves there
        return float(np.linalg.norm(own - along, axis=2).mean())

    assert apart(1.0) < 1e-6
    assert apart(0.8) < 0.7 * apart(0.0)
