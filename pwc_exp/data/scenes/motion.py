"""How the layers of a generated scene move: each by a homography and, some, by waves before it.

A point p of a layer, in object coordinates (those of frame 1, around the layer's centre), is found
in frame 2 at

    centre + shift + linear (p + waves(p)) / (1 + slant . (p + waves(p)))

That is exact where flow is asked for. Frame 2 is drawn by the inverse: of the homography in closed
form, of the waves by rounds of p <- q - waves(p), as many as make it right to _TOLERANCE.

Letters: L layers, the background first and then back to front, N points, W waves.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.formats.image_headers import Size

_WAVES = 2
_WAVE_LENGTHS = (0.15, 0.5)  # diagonals of the frame
_TOLERANCE = 1e-3  # pixels, at the worst
_BACKGROUND_TURN = 1 / 3  # of what a layer may turn, grow and shear: it is as large as the frame


class Points(NamedTuple):
    """Points in pixels, each of one layer."""

    layer: tf.Tensor  # [N] int32
    x: tf.Tensor  # [N] float32
    y: tf.Tensor  # [N]


class MotionLimits(NamedTuple):
    """How far layers move between the frames, and how alike."""

    speed_shares: Sequence[float]  # shares of layers that are slow, medium and fast; their sum is 1
    speed_bounds: Sequence[float]  # largest speed of each, ascending, in diagonals of the frame
    coherence: float  # 0: each layer on its own; 1: all as the background
    max_rotation: float  # degrees, either way
    max_zoom: float  # 0.05: 5 percent, either way
    max_shear: float  # 0.05: 5 percent of the distance from the axis, either way
    max_perspective: float  # change of scale over a diagonal of the frame
    bending: float  # share of layers that waves bend
    max_strain: float  # largest change of length by the waves, a share


class Motion(NamedTuple):
    """The maps of the layers."""

    to_frame2: tf.Tensor  # [L, 6 or 8] object points to frame 2: rows of the homography, without 1
    from_frame2: tf.Tensor  # [L, 6 or 8] the inverse
    waves: tf.Tensor | None  # [L, 5 W] of each wave: its vector, phase and amplitude (x, y)
    bends: tf.Tensor  # [L] bool, whether waves bend it
    rounds: int  # that undo the waves


def draw_motion(seed: tf.Tensor, centre: tf.Tensor, *, size: Size, limits: MotionLimits) -> Motion:
    """Draws motions of layers around centre, [L, 2], for frames of `size`.

    The speed of each layer follows limits.speed_shares, whatever the coherence: it mixes ranks.
    What turns, grows, shears and bends does so in proportion to the speed, and fully from the
    speed on that is fast, so that slow scenes are slow everywhere.
    """
    count = centre.shape[0]
    seeds = tf.random.split(seed, 4)
    diagonal = math.hypot(*size)
    speed, heading = _draw_speed(seeds[0], count, limits)
    vigour = tf.minimum(speed / limits.speed_bounds[1], 1.0)
    shape = vigour * _alike(tf.random.stateless_uniform([5, count], seeds[1], -1, 1), limits)
    linear = _linear(shape[:3], limits)
    slant = limits.max_perspective / diagonal * tf.transpose(shape[3:])
    shift = diagonal * speed[:, None] * tf.stack([tf.cos(heading), tf.sin(heading)], -1)
    # A layer that moves with the background also takes part in how that turns where the layer is.
    turn = tf.linalg.matvec(linear[0] - tf.eye(2), centre - centre[0])
    goal = centre + shift + limits.coherence * turn
    to_frame2 = _homography(linear, goal, slant)
    waves, bends = _draw_waves(seeds[2], count, vigour, diagonal, limits)
    perspective = limits.max_perspective > 0
    return Motion(
        to_frame2=_coefficients(to_frame2, perspective=perspective),
        from_frame2=_coefficients(tf.linalg.inv(to_frame2), perspective=perspective),
        waves=waves,
        bends=bends,
        rounds=_rounds(limits.max_strain, diagonal),
    )


def to_frame2(motion: Motion, points: Points) -> Points:
    """Maps object points to frame 2."""
    if motion.waves is not None:
        points = _bent(motion, points, rounds=None)
    return project(motion.to_frame2, points)


def from_frame2(motion: Motion, points: Points) -> Points:
    """Maps points of frame 2 to object points of their layers."""
    points = project(motion.from_frame2, points)
    if motion.waves is not None:
        points = _bent(motion, points, rounds=motion.rounds)
    return points


def project(maps: tf.Tensor, points: Points) -> Points:
    """Applies the affine map or homography of each point's layer; maps: [L, 6 or 8]."""
    rows = tf.unstack(tf.gather(maps, points.layer), axis=1)
    x = rows[0] * points.x + rows[1] * points.y + rows[2]
    y = rows[3] * points.x + rows[4] * points.y + rows[5]
    if len(rows) == 8:
        scale = 1 / (rows[6] * points.x + rows[7] * points.y + 1)
        x, y = x * scale, y * scale
    return Points(points.layer, x, y)


def _bent(motion: Motion, points: Points, *, rounds: int | None) -> Points:
    """Moves the points of layers that bend by their waves, or (`rounds`) back."""
    which = tf.where(tf.gather(motion.bends, points.layer))  # [M, 1]
    layer, x, y = (tf.gather(part, which[:, 0]) for part in points)
    waves = tf.unstack(tf.gather(motion.waves, layer), axis=1)
    if rounds is None:
        along_x, along_y = _displacement(waves, x, y)
        x, y = x + along_x, y + along_y
    else:
        bent_x, bent_y = x, y
        for _ in range(rounds):
            along_x, along_y = _displacement(waves, x, y)
            x, y = bent_x - along_x, bent_y - along_y
    return Points(
        points.layer,
        tf.tensor_scatter_nd_update(points.x, which, x),
        tf.tensor_scatter_nd_update(points.y, which, y),
    )


def _displacement(
    waves: list[tf.Tensor], x: tf.Tensor, y: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    along_x = along_y = tf.zeros_like(x)
    for first in range(0, len(waves), 5):
        wave_x, wave_y, phase, amplitude_x, amplitude_y = waves[first : first + 5]
        height = tf.sin(wave_x * x + wave_y * y + phase)
        along_x += amplitude_x * height
        along_y += amplitude_y * height
    return along_x, along_y


def _draw_speed(seed: tf.Tensor, count: int, limits: MotionLimits) -> tuple[tf.Tensor, tf.Tensor]:
    """Speed, [L] in diagonals, and heading, [L] in radians."""
    seeds = tf.random.split(seed, 2)
    # Mixed normal numbers are normal: the rank of each layer stays evenly distributed.
    normal = tf.random.stateless_normal([count], seeds[0])
    own = math.sqrt(1 - limits.coherence**2)
    mixed = limits.coherence * normal[0] + own * normal
    rank = (1 + tf.math.erf(tf.where(_is_front(count), mixed, normal) / math.sqrt(2))) / 2
    turn = math.pi * tf.random.stateless_uniform([count], seeds[1], -1, 1)
    away = (1 - limits.coherence) * turn
    return speed_at(rank, limits), tf.where(_is_front(count), turn[0] + away, turn[0])


def speed_at(rank: tf.Tensor, limits: MotionLimits) -> tf.Tensor:
    """The speed below which the share `rank` of layers is, in diagonals.

    Even up to the first bound, beyond it even in the logarithm: a long tail.
    """
    speed = tf.zeros_like(rank)
    start, low = 0.0, 0.0
    for share, high in zip(limits.speed_shares, limits.speed_bounds, strict=True):
        if share > 0:
            part = tf.clip_by_value((rank - start) / share, 0.0, 1.0)
            grown = part * high if low == 0 else low * (high / low) ** part
            speed = tf.where(rank >= start, grown, speed)
        start, low = start + share, high
    return speed


def _alike(values: tf.Tensor, limits: MotionLimits) -> tf.Tensor:
    """Mixes values of layers, [..., L], with that of the background, which is smaller."""
    background = _BACKGROUND_TURN * values[..., :1]
    mixed = limits.coherence * background + (1 - limits.coherence) * values
    return tf.where(_is_front(values.shape[-1]), mixed, background)


def _is_front(count: int) -> tf.Tensor:
    return tf.range(count) > 0  # [L]


def _linear(shape: tf.Tensor, limits: MotionLimits) -> tf.Tensor:
    """Matrices, [L, 2, 2], of rotation, growth and shear; shape: [3, L], each in [-1, 1]."""
    angle = shape[0] * math.radians(limits.max_rotation)
    zoom = tf.exp(shape[1] * math.log1p(limits.max_zoom))
    shear = shape[2] * limits.max_shear
    sheared = tf.stack([tf.ones_like(shear), shear, shear, tf.ones_like(shear)], -1)
    return zoom[:, None, None] * rotation(angle) @ tf.reshape(sheared, [-1, 2, 2])


def rotation(angle: tf.Tensor) -> tf.Tensor:
    """Matrices, [..., 2, 2]; with y down, a positive angle turns clockwise."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cos, -sin], -1), tf.stack([sin, cos], -1)], -2)


def _homography(linear: tf.Tensor, goal: tf.Tensor, slant: tf.Tensor) -> tf.Tensor:
    """Matrices, [L, 3, 3], of p -> goal + linear p / (1 + slant . p); goal, slant: [L, 2]."""
    upper = tf.concat([linear + goal[:, :, None] * slant[:, None, :], goal[:, :, None]], axis=2)
    lower = tf.concat([slant, tf.ones_like(slant[:, :1])], axis=1)[:, None, :]
    return tf.concat([upper, lower], axis=1)


def _coefficients(matrices: tf.Tensor, *, perspective: bool) -> tf.Tensor:
    """Rows of homographies, [L, 3, 3], scaled to end in 1, which is left out, [L, 6 or 8]."""
    rows = tf.reshape(matrices / matrices[:, 2:, 2:], [-1, 9])
    return rows[:, : 8 if perspective else 6]


def _draw_waves(
    seed: tf.Tensor, count: int, vigour: tf.Tensor, diagonal: float, limits: MotionLimits
) -> tuple[tf.Tensor | None, tf.Tensor]:
    """Waves, [L, 5 W], and which layers have them, [L] bool."""
    if not (limits.bending and limits.max_strain):
        return None, tf.zeros([count], tf.bool)
    seeds = tf.random.split(seed, 2)
    bends = tf.random.stateless_uniform([count], seeds[0]) < limits.bending
    draws = tf.random.stateless_uniform([5, count, _WAVES], seeds[1])
    shortest, longest = _WAVE_LENGTHS
    length = diagonal * shortest * (longest / shortest) ** draws[0]
    number = 2 * math.pi / length  # radians per pixel
    # Amplitude times number is the strain of one wave; together they keep within the limit.
    amplitude = limits.max_strain / _WAVES * vigour[:, None] * (0.5 + draws[1] / 2) / number
    towards, phase, along = 2 * math.pi * draws[2], 2 * math.pi * draws[3], 2 * math.pi * draws[4]
    parts = [number * tf.cos(towards), number * tf.sin(towards), phase]
    parts += [amplitude * tf.cos(along), amplitude * tf.sin(along)]
    return tf.reshape(tf.stack(parts, -1), [count, 5 * _WAVES]), bends


def _rounds(max_strain: float, diagonal: float) -> int:
    """How many rounds undo the waves: each shrinks the error by max_strain."""
    error = max_strain * _WAVE_LENGTHS[1] * diagonal / (2 * math.pi)
    if error <= _TOLERANCE:
        return 0
    return math.ceil(math.log(_TOLERANCE / error) / math.log(max_strain))
