"""Outlines of the layers of a generated scene: ellipses, polygons, stars, blobs and thin strands.

All but strands are seen whole from their centre and are one table: the distance of the edge in
each of _KNOTS directions. Direction is told by y / (|x| + |y|), which needs no arc tangent.

Letters: L layers, the background first, K knots of an outline, S sides of a polygon, N points.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.scenes.motion import Points

_KNOTS = 192
_SIDES = 6
_TIPS = 7  # corners of a star
_RIPPLES = 4
_RADII = (0.04, 0.22)  # of a layer, in diagonals of the frame
_STRAND_LENGTHS = (0.1, 0.45)  # half of it, in diagonals
_STRAND_WIDTHS = (1.0, 4.0)  # half of it, in pixels
_WHOLE_FRAME = 1e6  # radius of the background, pixels


class Strands(NamedTuple):
    """Thin layers, around a swaying line."""

    is_strand: tf.Tensor  # [L] bool
    shape: tf.Tensor  # [L, 7] cos and sin of its angle, half length and width, sway, wave, phase


class Outlines(NamedTuple):
    """Edges of the layers, in object coordinates."""

    table: tf.Tensor  # [L K, 3] radius at a knot, radius at the next, cosine between ray and normal
    strands: Strands | None


class OutlineLimits(NamedTuple):
    """Which outlines there are."""

    concave: float  # share of the layers that are not thin: stars and blobs
    thin: float  # share of the layers that are strands


def draw_outlines(
    seed: tf.Tensor, count: int, *, diagonal: float, limits: OutlineLimits
) -> tuple[Outlines, tf.Tensor]:
    """Draws outlines, and points on them, [L, M, 2], that tell how far each layer reaches."""
    seeds = tf.random.split(seed, 7)
    size, kind = tf.unstack(tf.random.stateless_uniform([2, count], seeds[0]))
    radius = diagonal * _RADII[0] * (_RADII[1] / _RADII[0]) ** size
    directions = _knot_directions()
    convex = _either(seeds[1], _ellipses(seeds[2], count), _polygons(seeds[3], count))
    concave = _either(seeds[1], _stars(seeds[4], count), _blobs(seeds[5], count))
    radii = radius[:, None] * tf.where((kind < limits.concave)[:, None], concave, convex)
    radii = tf.where(_is_front(count)[:, None], radii, _WHOLE_FRAME)
    points = radii[..., None] * directions
    strands = None
    if limits.thin:
        strands, line = _draw_strands(seeds[6], count, diagonal=diagonal, share=limits.thin)
        points = tf.where(strands.is_strand[:, None, None], line, points)
    return Outlines(_table(radii), strands), points


def edge_distance(outlines: Outlines, points: Points) -> tf.Tensor:
    """Distance of object points from their layer's edge, [N], in pixels, to first order near it.

    Negative inside.
    """
    along = tf.abs(points.x) + tf.abs(points.y)
    slope = points.y / tf.maximum(along, 1e-6)
    turn = tf.where(points.x >= 0, slope, 2 - slope)  # -1 to 3: once around
    place = (turn + 1) * (_KNOTS / 4)
    knot = tf.minimum(tf.floor(place), _KNOTS - 1)
    row = points.layer * _KNOTS + tf.cast(knot, tf.int32)
    radius, following, cosine = tf.unstack(tf.gather(outlines.table, row), axis=1)
    radius += (place - knot) * (following - radius)
    distance = (tf.sqrt(points.x * points.x + points.y * points.y) - radius) * cosine
    if outlines.strands is None:
        return distance
    is_strand = tf.gather(outlines.strands.is_strand, points.layer)
    return tf.where(is_strand, _strand_distance(outlines.strands, points), distance)


def _strand_distance(strands: Strands, points: Points) -> tf.Tensor:
    rows = tf.unstack(tf.gather(strands.shape, points.layer), axis=1)
    cos, sin, half_length, half_width, sway, wave, phase = rows
    along = cos * points.x + sin * points.y
    across = cos * points.y - sin * points.x - sway * tf.sin(wave * along + phase)
    return tf.maximum(tf.abs(across) - half_width, tf.abs(along) - half_length)


def _draw_strands(
    seed: tf.Tensor, count: int, *, diagonal: float, share: float
) -> tuple[Strands, tf.Tensor]:
    """Strands, and points on their middle lines, [L, K, 2]."""
    draws = tf.unstack(tf.random.stateless_uniform([7, count], seed))
    chosen, turn, length, width, height, bows, phase = draws
    half_length = diagonal * _between(_STRAND_LENGTHS, length)
    half_width = _between(_STRAND_WIDTHS, width)
    wave = math.pi * (0.5 + bows) / half_length
    sway = 0.4 * height / wave  # a slope of at most 0.4, which narrows it by a tenth
    cos, sin = tf.cos(math.pi * turn), tf.sin(math.pi * turn)
    phase *= 2 * math.pi
    shape = tf.stack([cos, sin, half_length, half_width, sway, wave, phase], -1)
    along = half_length[:, None] * tf.linspace(-1.0, 1.0, _KNOTS)
    across = sway[:, None] * tf.sin(wave[:, None] * along + phase[:, None])
    x = cos[:, None] * along - sin[:, None] * across
    y = sin[:, None] * along + cos[:, None] * across
    is_strand = _is_front(count) & (chosen < share)
    return Strands(is_strand, shape), tf.stack([x, y], -1)


def _between(limits: tuple[float, float], share: tf.Tensor) -> tf.Tensor:
    low, high = limits
    return low + (high - low) * share


def _is_front(count: int) -> tf.Tensor:
    return tf.range(count) > 0  # [L]


def _knot_directions() -> tf.Tensor:
    """Unit vectors to the knots, [K, 2]."""
    turn = tf.range(_KNOTS, dtype=tf.float32) * (4 / _KNOTS) - 1
    y = tf.where(turn <= 1, turn, 2 - turn)
    x = tf.where(turn <= 1, 1 - tf.abs(y), tf.abs(y) - 1)
    return tf.math.l2_normalize(tf.stack([x, y], -1), axis=-1)


def _knot_angles() -> tf.Tensor:
    directions = _knot_directions()
    return tf.atan2(directions[:, 1], directions[:, 0])  # [K]


def _table(radii: tf.Tensor) -> tf.Tensor:
    """What edge_distance looks up, [L K, 3]; radii: [L, K]."""
    following = tf.roll(radii, -1, axis=1)
    directions = _knot_directions()
    after = tf.roll(directions, -1, axis=0)
    # The side from one knot to the next; its normal against the ray through the middle.
    side = following[..., None] * after - radii[..., None] * directions
    ray = tf.math.l2_normalize(after + directions, axis=-1)
    cross = ray[:, 0] * side[..., 1] - ray[:, 1] * side[..., 0]
    cosine = cross / tf.norm(side, axis=-1)
    return tf.reshape(tf.stack([radii, following, cosine], -1), [-1, 3])


def _either(seed: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """One of two tables of radii, [L, K], for each layer."""
    chosen = tf.random.stateless_uniform([one.shape[0], 1], seed) < 0.5
    return tf.where(chosen, one, other)


def _ellipses(seed: tf.Tensor, count: int) -> tf.Tensor:
    aspect, turn = tf.unstack(tf.random.stateless_uniform([2, count, 1], seed))
    angle = _knot_angles() - math.pi * turn
    return tf.math.rsqrt(tf.cos(angle) ** 2 + (tf.sin(angle) / (0.4 + 0.6 * aspect)) ** 2)


def _polygons(seed: tf.Tensor, count: int) -> tf.Tensor:
    """Convex: the nearest of _SIDES lines."""
    jitter, closeness = tf.unstack(tf.random.stateless_uniform([2, count, _SIDES, 1], seed))
    # Normals less than half a turn apart, or the polygon would be open.
    normals = _spread(_SIDES) + jitter * (0.8 * 2 * math.pi / _SIDES)
    facing = tf.maximum(tf.cos(_knot_angles() - normals), 1e-3)
    return tf.reduce_min((0.5 + 0.5 * closeness) / facing, axis=1)


def _stars(seed: tf.Tensor, count: int) -> tf.Tensor:
    """Polygons with corners near and far: the side that each ray crosses."""
    jitter, reach = tf.unstack(tf.random.stateless_uniform([2, count, _TIPS, 1], seed))
    angles = _spread(_TIPS) + jitter * (0.8 * 2 * math.pi / _TIPS)
    corners = (0.3 + 0.8 * reach) * tf.concat([tf.cos(angles), tf.sin(angles)], -1)  # [L, S, 2]
    following = tf.roll(corners, -1, axis=1)
    rays = _knot_directions()
    enters, leaves = _cross(corners, rays), _cross(following, rays)  # [L, S, K]
    crosses = (enters >= 0) & (leaves < 0)
    area = corners[..., 0] * following[..., 1] - corners[..., 1] * following[..., 0]
    radii = area[..., None] / tf.maximum(enters - leaves, 1e-6)
    return tf.reduce_max(tf.where(crosses, radii, 0.05), axis=1)


def _cross(vectors: tf.Tensor, rays: tf.Tensor) -> tf.Tensor:
    """Cross products, [L, S, K], of [L, S, 2] and [K, 2]."""
    return vectors[..., :1] * rays[:, 1] - vectors[..., 1:] * rays[:, 0]


def _blobs(seed: tf.Tensor, count: int) -> tf.Tensor:
    """Smooth outlines with dents."""
    height, phase = tf.unstack(tf.random.stateless_uniform([2, count, _RIPPLES, 1], seed))
    number = tf.range(2, 2 + _RIPPLES, dtype=tf.float32)[:, None]
    ripples = height * tf.cos(number * _knot_angles() + 2 * math.pi * phase) * 0.9 / number
    return 0.8 * tf.exp(tf.reduce_sum(ripples, axis=1))


def _spread(count: int) -> tf.Tensor:
    """Angles once around, [S, 1]."""
    return (2 * math.pi / count) * tf.range(count, dtype=tf.float32)[:, None]
