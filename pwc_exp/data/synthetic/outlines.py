"""Outlines of the layers of a generated scene: ellipses, polygons, stars, blobs and thin strands.

All but strands are seen whole from their centre and are one table: the distance of the edge in
each of KNOTS directions. Direction is y / (|x| + |y|), which needs no arc tangent. Layers
may have a lattice of round holes, and may be cut off along lines, as walls beside a road are.

Drawn with NumPy, evaluated with TensorFlow.

Letters: L layers, the background first, K knots of an outline, S sides of a polygon, C cuts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

KNOTS = 192
CUTS = 3
ENDLESS, TABLE, STRAND = range(3)
FAR = 1e6  # pixels: radius of what has no edge
_SIDES = 6
_TIPS = 7  # corners of a star
_RIPPLES = 4
_STRAND_LENGTHS = (0.1, 0.45)  # half of it, in diagonals
_STRAND_WIDTHS = (1.0, 4.0)  # half of it, in pixels
_HOLE_PITCHES = (0.02, 0.1)  # distance of holes, in diagonals
_HOLE_RADII = (0.2, 0.45)  # in pitches


class Outlines(NamedTuple):
    """Edges of the layers, in pixels of frame 1. Of a single layer, all without L."""

    centre: np.ndarray  # [L, 2]
    table: np.ndarray  # [L, K, 3] radius at a knot, radius at the next, cosine of ray and normal
    form: np.ndarray  # [L] int32: ENDLESS, TABLE or STRAND
    strand: np.ndarray  # [L, 7] cos and sin of its angle, half length and width, sway, wave, phase
    holes: np.ndarray  # [L, 2] pitch and radius of the lattice of holes, pixels
    cuts: np.ndarray  # [L, C, 3] (a, b, c): the layer is where a x + b y + c < 0, in pixels
    edge: np.ndarray  # [L] pixels over which the outline becomes opaque


class OutlineLimits(NamedTuple):
    """Which outlines there are."""

    radius: Sequence[float]  # smallest and largest, in diagonals of the frame
    concave: float  # share of the layers that are not thin: stars and blobs
    thin: float  # share of the layers that are strands
    holes: float  # share of the layers that have holes
    edge: float  # pixels over which an outline becomes opaque
    soft: float  # share of the layers whose edge is softer than that
    soft_edge: float  # softest edge, in pixels


def draw_outlines(
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: np.ndarray,
    *,
    diagonal: float,
    limits: OutlineLimits,
) -> tuple[Outlines, np.ndarray]:
    """Draws outlines around centre, [L, 2], and points on them, [L, K, 2], pixels of frame 1.

    radius: [L], pixels; FAR for a layer without an edge of its own. None is cut off.
    """
    count = len(radius)
    kind, pick, strandness, softness, porous = rng.random((5, count))
    first = (pick < 0.5)[:, None]
    convex = np.where(first, _ellipses(rng, count), _polygons(rng, count))
    concave = np.where(first, _stars(rng, count), _blobs(rng, count))
    endless = radius >= FAR
    shape = np.where((kind < limits.concave)[:, None], concave, convex)
    radii = np.where(endless[:, None], FAR, radius[:, None] * shape)
    is_strand = ~endless & (strandness < limits.thin)
    strand, line = _draw_strands(rng, count, diagonal=diagonal)
    points = np.where(is_strand[:, None, None], line, radii[..., None] * _DIRECTIONS)
    edge = np.where(
        softness < limits.soft,
        limits.edge * (max(limits.soft_edge, limits.edge) / limits.edge) ** rng.random(count),
        limits.edge,
    )
    pitch, share = rng.random((2, count))
    pitch = diagonal * _HOLE_PITCHES[0] * (_HOLE_PITCHES[1] / _HOLE_PITCHES[0]) ** pitch
    has_holes = ~endless & ~is_strand & (porous < limits.holes)
    hole = np.where(has_holes, pitch * _between(_HOLE_RADII, share), -FAR)
    outlines = Outlines(
        centre=centre,
        table=_table(radii),
        form=np.where(endless, ENDLESS, np.where(is_strand, STRAND, TABLE)),
        strand=strand,
        holes=np.stack([pitch, hole], axis=-1),
        cuts=np.broadcast_to([0.0, 0.0, -FAR], (count, CUTS, 3)).copy(),
        edge=np.where(is_strand, limits.edge, edge),
    )
    return outlines, centre[:, None] + points


def edge_distance(
    outline: Outlines, tables: tf.Tensor, layer: tf.Tensor, x: tf.Tensor, y: tf.Tensor
) -> tf.Tensor:
    """Distance of points of frame 1 from the edge of one layer, in pixels, to first order near it.

    Negative inside. x, y: of equal shape. tables: of all outlines, [L, K, 3]; layer: the number of
    `outline` among them.
    """
    right, down = x - outline.centre[0], y - outline.centre[1]
    forms = {
        ENDLESS: lambda: tf.fill(tf.shape(x), -FAR),
        TABLE: lambda: _table_distance(tables, layer, right, down),
        STRAND: lambda: _strand_distance(outline.strand, right, down),
    }
    distance = tf.switch_case(outline.form, forms)
    for number in range(CUTS):
        cut = outline.cuts[number]
        distance = tf.maximum(distance, cut[0] * x + cut[1] * y + cut[2])
    return distance


def _table_distance(
    tables: tf.Tensor, layer: tf.Tensor, right: tf.Tensor, down: tf.Tensor
) -> tf.Tensor:
    along = tf.abs(right) + tf.abs(down)
    slope = down / tf.maximum(along, 1e-6)
    turn = tf.where(right >= 0, slope, 2 - slope)  # -1 to 3: once around
    place = (turn + 1) * (KNOTS / 4)
    knot = tf.minimum(tf.floor(place), KNOTS - 1)
    row = 3 * (layer * KNOTS + tf.cast(knot, tf.int32))
    flat = tf.reshape(tables, [-1])
    radius, following, cosine = (tf.gather(flat, row + column) for column in range(3))
    radius += (place - knot) * (following - radius)
    return (tf.sqrt(right * right + down * down) - radius) * cosine


def _strand_distance(strand: tf.Tensor, right: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    cos, sin, half_length, half_width, sway, wave, phase = tf.unstack(strand)
    along = cos * right + sin * down
    across = cos * down - sin * right - sway * tf.sin(wave * along + phase)
    return tf.maximum(tf.abs(across) - half_width, tf.abs(along) - half_length)


def hole_distance(outline: Outlines, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Distance of points of frame 1 from the nearest hole of one layer, positive inside of it."""
    pitch, radius = outline.holes[0], outline.holes[1]
    cos, sin = outline.strand[0], outline.strand[1]
    right, down = x - outline.centre[0], y - outline.centre[1]
    along, across = cos * right + sin * down, cos * down - sin * right
    along -= pitch * tf.floor(along / pitch + 0.5)
    across -= pitch * tf.floor(across / pitch + 0.5)
    return radius - tf.sqrt(along * along + across * across)


def _draw_strands(
    rng: np.random.Generator, count: int, *, diagonal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Strands, [L, 7], and points on their middle lines around the centre, [L, K, 2]."""
    turn, length, width, height, bows, phase = rng.random((6, count))
    half_length = diagonal * _between(_STRAND_LENGTHS, length)
    half_width = _between(_STRAND_WIDTHS, width)
    wave = math.pi * (0.5 + bows) / half_length
    sway = 0.4 * height / wave  # a slope of at most 0.4, which narrows it by a tenth
    cos, sin = np.cos(math.pi * turn), np.sin(math.pi * turn)
    phase = 2 * math.pi * phase
    strand = np.stack([cos, sin, half_length, half_width, sway, wave, phase], axis=-1)
    along = half_length[:, None] * np.linspace(-1.0, 1.0, KNOTS)
    across = sway[:, None] * np.sin(wave[:, None] * along + phase[:, None])
    x = cos[:, None] * along - sin[:, None] * across
    y = sin[:, None] * along + cos[:, None] * across
    return strand, np.stack([x, y], axis=-1)


def _between(limits: tuple[float, float], share: np.ndarray) -> np.ndarray:
    low, high = limits
    return low + (high - low) * share


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


_TURN = np.arange(KNOTS) * (4 / KNOTS) - 1
_Y = np.where(_TURN <= 1, _TURN, 2 - _TURN)
_X = np.where(_TURN <= 1, 1 - np.abs(_Y), np.abs(_Y) - 1)
_DIRECTIONS = _unit(np.stack([_X, _Y], axis=-1))  # unit vectors to the knots, [K, 2]
_ANGLES = np.arctan2(_DIRECTIONS[:, 1], _DIRECTIONS[:, 0])  # [K]


def _table(radii: np.ndarray) -> np.ndarray:
    """What `edge_distance` looks up, [L, K, 3]; radii: [L, K]."""
    following = np.roll(radii, -1, axis=1)
    after = np.roll(_DIRECTIONS, -1, axis=0)
    # The side from one knot to the next; its normal against the ray through the middle.
    side = following[..., None] * after - radii[..., None] * _DIRECTIONS
    ray = _unit(after + _DIRECTIONS)
    cross = ray[:, 0] * side[..., 1] - ray[:, 1] * side[..., 0]
    cosine = cross / np.linalg.norm(side, axis=-1)
    return np.stack([radii, following, cosine], axis=-1)


def _ellipses(rng: np.random.Generator, count: int) -> np.ndarray:
    aspect, turn = rng.random((2, count, 1))
    angle = _ANGLES - math.pi * turn
    radii: np.ndarray = 1 / np.hypot(np.cos(angle), np.sin(angle) / (0.4 + 0.6 * aspect))
    return radii


def _polygons(rng: np.random.Generator, count: int) -> np.ndarray:
    """Convex: the nearest of _SIDES lines."""
    jitter, closeness = rng.random((2, count, _SIDES, 1))
    # Normals less than half a turn apart, or the polygon would be open.
    normals = _spread(_SIDES) + jitter * (0.8 * 2 * math.pi / _SIDES)
    facing = np.maximum(np.cos(_ANGLES - normals), 1e-3)
    return np.min((0.5 + 0.5 * closeness) / facing, axis=1)


def _stars(rng: np.random.Generator, count: int) -> np.ndarray:
    """Polygons with corners near and far: the side that each ray crosses."""
    jitter, reach = rng.random((2, count, _TIPS, 1))
    angles = _spread(_TIPS) + jitter * (0.8 * 2 * math.pi / _TIPS)
    corners = (0.3 + 0.8 * reach) * np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    following = np.roll(corners, -1, axis=1)  # [L, S, 2]
    enters, leaves = _cross(corners), _cross(following)  # [L, S, K]
    area = corners[..., 0] * following[..., 1] - corners[..., 1] * following[..., 0]
    radii = area[..., None] / np.maximum(enters - leaves, 1e-6)
    return np.max(np.where((enters >= 0) & (leaves < 0), radii, 0.05), axis=1)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """Cross products of vectors, [L, S, 2], with the rays to the knots, [L, S, K]."""
    return vectors[..., :1] * _DIRECTIONS[:, 1] - vectors[..., 1:] * _DIRECTIONS[:, 0]


def _blobs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Smooth outlines with dents."""
    height, phase = rng.random((2, count, _RIPPLES, 1))
    number = np.arange(2, 2 + _RIPPLES)[:, None]
    ripples = height * np.cos(number * _ANGLES + 2 * math.pi * phase) * 0.9 / number
    radii: np.ndarray = 0.8 * np.exp(ripples.sum(axis=1))
    return radii


def _spread(count: int) -> np.ndarray:
    """Angles once around, [S, 1]."""
    return (2 * math.pi / count) * np.arange(count)[:, None]
