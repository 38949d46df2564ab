"""Motions: closed forms as numpy evaluates them, inverses, speeds, coherence."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.formats.image_headers import Size
from pwc_exp.data.scenes.motion import (
    Motion,
    MotionLimits,
    Points,
    draw_motion,
    from_frame2,
    speed_at,
    to_frame2,
)

SIZE = Size(256, 448)
DIAGONAL = math.hypot(*SIZE)
LAYERS = 6
STILL = MotionLimits(
    speed_shares=(0.0, 0.0, 1.0),
    speed_bounds=(0.009, 0.036, 0.18),
    coherence=0.0,
    max_rotation=0.0,
    max_zoom=0.0,
    max_shear=0.0,
    max_perspective=0.0,
    bending=0.0,
    max_strain=0.0,
)
KINDS: dict[str, dict[str, Any]] = {
    "shift": {},
    "rotation": {"max_rotation": 10.0},
    "zoom": {"max_zoom": 0.1},
    "shear": {"max_shear": 0.1},
    "perspective": {"max_perspective": 0.2},
    "waves": {"bending": 0.6, "max_strain": 0.3},
}
KINDS["all"] = {key: value for kind in KINDS.values() for key, value in kind.items()}


def centres(count: int = LAYERS) -> np.ndarray:
    inside = np.random.default_rng(0).uniform(0, [SIZE.width, SIZE.height], (count, 2))
    inside[0] = [SIZE.width / 2, SIZE.height / 2]
    return inside.astype(np.float32)


def drawn(limits: MotionLimits, seed: int | tf.Tensor = 1, count: int = LAYERS) -> Motion:
    centre = tf.constant(centres(count))
    return draw_motion(tf.stack([3, seed]), centre, size=SIZE, limits=limits)


def object_points(per_layer: int = 500) -> Points:
    generator = np.random.default_rng(1)
    x, y = generator.uniform(-DIAGONAL / 2, DIAGONAL / 2, (2, LAYERS * per_layer))
    layer = np.repeat(np.arange(LAYERS, dtype=np.int32), per_layer)
    return Points(tf.constant(layer), *(tf.constant(part, tf.float32) for part in (x, y)))


def homographies(motion: Motion) -> np.ndarray:
    rows = motion.to_frame2.numpy().astype(np.float64)
    full = np.tile(np.eye(3).reshape(1, 9), (len(rows), 1))
    full[:, : rows.shape[1]] = rows
    return full.reshape(-1, 3, 3)


def linear_parts(motion: Motion) -> np.ndarray:
    """The maps without their shift and perspective, [L, 2, 2]."""
    full = homographies(motion)
    return full[:, :2, :2] - full[:, :2, 2:] * full[:, 2:, :2]


@pytest.mark.parametrize("kind", KINDS)
def test_flow_is_the_closed_form_as_numpy_evaluates_it(kind: str) -> None:
    motion, points = drawn(STILL._replace(**KINDS[kind])), object_points()
    layer = points.layer.numpy()
    place = np.stack([points.x.numpy(), points.y.numpy()]).astype(np.float64)
    if motion.waves is not None:
        waves = motion.waves.numpy().astype(np.float64).reshape(LAYERS, -1, 5)
        moved = place.copy()
        for wave in np.moveaxis(waves[layer] * motion.bends.numpy()[layer, None, None], 1, 0):
            moved += wave[:, 3:].T * np.sin((wave[:, :2].T * place).sum(axis=0) + wave[:, 2])
        place = moved
    mapped = np.einsum("nij,jn->in", homographies(motion)[layer], [*place, np.ones_like(layer)])
    target = to_frame2(motion, points)
    np.testing.assert_allclose([target.x, target.y], mapped[:2] / mapped[2], atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_leads_back_to_a_thousandth_of_a_pixel(kind: str) -> None:
    motion, points = drawn(STILL._replace(**KINDS[kind])), object_points()
    back = from_frame2(motion, to_frame2(motion, points))
    assert np.abs(back.x - points.x).max() < 1e-3
    assert np.abs(back.y - points.y).max() < 1e-3


def test_a_shift_alone_keeps_directions_and_lengths() -> None:
    motion = drawn(STILL)
    np.testing.assert_allclose(linear_parts(motion), np.tile(np.eye(2), (LAYERS, 1, 1)))
    shift = np.linalg.norm(homographies(motion)[:, :2, 2] - centres(), axis=1) / DIAGONAL
    assert (shift > 0.036 * 0.999).all()
    assert (shift < 0.18 * 1.001).all()
    assert len(np.unique(shift)) == LAYERS


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


def test_perspective_changes_the_scale_over_a_diagonal_by_its_limit_at_most() -> None:
    slant = homographies(drawn(STILL._replace(max_perspective=0.2)))[:, 2, :2] * DIAGONAL
    assert (np.abs(slant) <= 0.2).all()
    assert np.abs(slant).max() > 0.02


def test_waves_bend_their_share_of_layers_within_their_strain() -> None:
    motion = drawn(STILL._replace(bending=0.6, max_strain=0.3), count=40)
    bends = motion.bends.numpy()
    assert 0.4 < bends.mean() < 0.8
    assert motion.waves is not None
    waves = motion.waves.numpy().reshape(40, -1, 5)
    steepness = np.linalg.norm(waves[..., :2], axis=2) * np.linalg.norm(waves[..., 3:], axis=2)
    strain = steepness.sum(axis=1)
    assert (strain <= 0.3 + 1e-6).all()
    assert strain[bends].min() > 0.1
    x = tf.linspace(-200.0, 200.0, 50)
    moved = [
        np.ptp(to_frame2(motion, Points(tf.fill([50], layer), x, x)).x - x) for layer in range(40)
    ]
    assert (np.array(moved)[bends] > 0.2).all()
    assert (np.array(moved)[~bends] < 1e-3).all()


def test_ranks_become_speeds_by_their_shares() -> None:
    limits = STILL._replace(speed_shares=(0.69, 0.22, 0.09))
    rank = tf.linspace(0.0, 1.0, 10_001)
    speed = speed_at(rank, limits).numpy()
    assert (np.diff(speed) >= 0).all()
    counted = np.histogram(speed, [0, 0.009, 0.036, 0.181])[0] / len(speed)
    np.testing.assert_allclose(counted, [0.69, 0.22, 0.09], atol=1e-3)
    np.testing.assert_allclose(speed[[0, -1]], [0, 0.18], rtol=1e-5)
    # A long tail: of the fast, more lie below the middle of their range than above.
    assert np.median(speed[speed > 0.036]) < 0.1


@pytest.mark.parametrize("coherence", [0.0, 0.8])
def test_coherence_leaves_the_shares_of_speeds(coherence: float) -> None:
    limits = STILL._replace(speed_shares=(0.5, 0.3, 0.2), coherence=coherence)
    seeds = tf.data.Dataset.range(500)
    maps = np.stack(list(seeds.map(lambda seed: drawn(limits, seed).to_frame2)))
    shift = maps[..., [2, 5]] - centres()
    speed = np.linalg.norm(shift, axis=2) / DIAGONAL
    counted = np.histogram(speed, [0, 0.009, 0.036, 0.181])[0] / speed.size
    np.testing.assert_allclose(counted, [0.5, 0.3, 0.2], atol=0.06)
    # Directions are even, too: no mean motion.
    assert np.abs(shift.mean(axis=(0, 1))).max() < 0.15 * speed.mean() * DIAGONAL


def test_layers_move_like_the_background_as_far_as_they_are_coherent() -> None:
    def apart(coherence: float) -> float:
        limits = STILL._replace(coherence=coherence, max_rotation=5.0)
        maps = np.stack([homographies(drawn(limits, seed)) for seed in range(10)])
        own = maps[:, :, :2, 2] - centres()
        # Where the background takes the centre of each layer.
        linear = maps[:, 0, :2, :2] - np.eye(2)
        along = own[:, :1] + np.einsum("sij,lj->sli", linear, centres() - centres()[0])
        return float(np.linalg.norm(own - along, axis=2).mean())

    assert apart(1.0) < 1e-2
    assert apart(1.0) < apart(0.8) < 0.7 * apart(0.0)
