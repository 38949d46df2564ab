"""The layers of a generated scene: what defines them, and where they lie in both frames.

Letters: L layers, the background first and then back to front, N points, K sides of a polygon.
Points are columns (x, y) in pixels: a map of many points is then one matrix product. Object
coordinates are those of frame 1 around the centre of the layer.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.images import Size

_SIDES = 6
_RADII = (0.06, 0.2)  # of a shape, in diagonals of the frame
_WHOLE_FRAME = 1e6  # radius of the background, pixels
_TEXELS_PER_PIXEL = (0.5, 1.0)  # at most 1: more would alias, and not the same in both frames


class Affine(NamedTuple):
    """Maps point x to linear x + offset, for each layer."""

    linear: tf.Tensor  # [L, 2, 2]
    offset: tf.Tensor  # [L, 2]


class Outline(NamedTuple):
    """Edge of each layer, in object coordinates: an ellipse or a convex polygon."""

    circle_from_ellipse: tf.Tensor  # [L, 2, 2] maps the ellipse to the unit circle
    normals: tf.Tensor  # [L, K, 2] outward, of the polygon's sides
    distances: tf.Tensor  # [L, K] of the sides from the centre
    is_polygon: tf.Tensor  # [L] bool


class Layers(NamedTuple):
    """All that a scene is made of."""

    object_from_frame1: Affine
    object_from_frame2: Affine
    frame2_from_frame1: Affine
    photograph_from_object: Affine
    photograph: tf.Tensor  # [L] int32, which one
    outline: Outline


class Motion(NamedTuple):
    """How far a layer moves between the frames."""

    max_shift: float  # pixels; the mean is a fifth
    max_rotation: float  # degrees, either way
    max_zoom: float  # 0.05: 5 percent, either way


def draw_layers(
    seed: tf.Tensor, *, count: int, size: Size, motion: Motion, photographs: int, side: int
) -> Layers:
    """Draws `count` layers for frames of `size`.

    seed: [2] integers. photographs: how many there are, each of `side` by `side` pixels.
    """
    seeds = tf.random.split(seed, 4)
    extent = tf.constant([size.width, size.height], tf.float32)
    centre = tf.random.stateless_uniform([count, 2], seeds[0]) * extent
    centre = tf.where(_is_front(count)[:, None], centre, extent / 2)
    linear, inverse, shift = _draw_motion(seeds[1], count, motion)
    window, which = _draw_window(seeds[2], count, photographs, side)
    return Layers(
        object_from_frame1=Affine(tf.eye(2, batch_shape=[count]), -centre),
        object_from_frame2=Affine(inverse, -tf.linalg.matvec(inverse, centre + shift)),
        frame2_from_frame1=Affine(linear, centre + shift - tf.linalg.matvec(linear, centre)),
        photograph_from_object=window,
        photograph=which,
        outline=_draw_outline(seeds[3], count, math.hypot(*size)),
    )


def transform(affine: Affine, points: tf.Tensor) -> tf.Tensor:
    """Maps points, [2, N], by each layer's map, to [L, 2, N]."""
    return affine.linear @ points + affine.offset[..., None]


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies `inner`, then `outer`."""
    offset = tf.linalg.matvec(outer.linear, inner.offset) + outer.offset
    return Affine(outer.linear @ inner.linear, offset)


def edge_distance(outline: Outline, points: tf.Tensor) -> tf.Tensor:
    """Distance of object points, [L, 2, N], from their layer's edge, [L, N], about in pixels.

    Negative inside; exact for the sides of a polygon, to first order near an ellipse.
    """
    polygon = tf.reduce_max(outline.normals @ points - outline.distances[..., None], axis=1)
    on_circle = outline.circle_from_ellipse @ points
    radius = tf.maximum(_length(on_circle), 1e-3)
    gradient = tf.matmul(outline.circle_from_ellipse, on_circle, transpose_a=True)
    ellipse = (radius - 1) * radius / tf.maximum(_length(gradient), 1e-6)
    return tf.where(outline.is_polygon[:, None], polygon, ellipse)


def _length(vectors: tf.Tensor) -> tf.Tensor:
    """Lengths of vectors, [L, 2, N], as [L, N]."""
    return tf.sqrt(tf.square(vectors[:, 0]) + tf.square(vectors[:, 1]))


def _is_front(count: int) -> tf.Tensor:
    return tf.range(count) > 0  # [L]


def _rotation(angle: tf.Tensor) -> tf.Tensor:
    """Matrices, [..., 2, 2]; with y down, a positive angle turns clockwise."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cos, -sin], -1), tf.stack([sin, cos], -1)], -2)


def _draw_motion(
    seed: tf.Tensor, count: int, motion: Motion
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Linear part, [L, 2, 2], its inverse, and shift, [L, 2]."""
    share, heading, turn, growth = tf.unstack(tf.random.stateless_uniform([4, count], seed))
    # Exponential, as speeds in films about are, and cut off at five times its mean.
    speed = -motion.max_shift / 5 * tf.math.log(1 - share * (1 - math.exp(-5)))
    heading *= 2 * math.pi
    shift = speed[:, None] * tf.stack([tf.cos(heading), tf.sin(heading)], -1)
    angle = (2 * turn - 1) * math.radians(motion.max_rotation)
    zoom = tf.exp((2 * growth - 1) * math.log1p(motion.max_zoom))[:, None, None]
    return zoom * _rotation(angle), _rotation(-angle) / zoom, shift


def _draw_window(
    seed: tf.Tensor, count: int, photographs: int, side: int
) -> tuple[Affine, tf.Tensor]:
    """Where each layer lies in its photograph, and which photograph it is."""
    which, turn, scale, x, y = tf.unstack(tf.random.stateless_uniform([5, count], seed))
    low, high = _TEXELS_PER_PIXEL
    texels = (low + (high - low) * scale)[:, None, None]
    linear = texels * _rotation((2 * turn - 1) * math.pi)
    offset = tf.stack([x, y], -1) * (side - 1)
    return Affine(linear, offset), tf.cast(which * photographs, tf.int32)


def _draw_outline(seed: tf.Tensor, count: int, diagonal: float) -> Outline:
    seeds = tf.random.split(seed, 3)
    size, aspect, turn, kind = tf.unstack(tf.random.stateless_uniform([4, count], seeds[0]))
    radius = diagonal * (_RADII[0] + (_RADII[1] - _RADII[0]) * size)
    radii = radius[:, None] * tf.stack([tf.ones([count]), 0.4 + 0.6 * aspect], -1)
    front = _is_front(count)
    radii = tf.where(front[:, None], radii, _WHOLE_FRAME)
    # Normals less than half a turn apart, or the polygon would be open.
    jitter = 0.8 * tf.random.stateless_uniform([count, _SIDES], seeds[1])
    angles = (tf.range(_SIDES, dtype=tf.float32) + jitter) * (2 * math.pi / _SIDES)
    closeness = tf.random.stateless_uniform([count, _SIDES], seeds[2], 0.5, 1.0)
    return Outline(
        circle_from_ellipse=_rotation(turn * math.pi) / radii[..., None],
        normals=tf.stack([tf.cos(angles), tf.sin(angles)], -1),
        distances=radius[:, None] * closeness,
        is_polygon=front & (kind < 0.5),
    )
