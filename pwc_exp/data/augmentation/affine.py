"""Affine maps of the plane, made of TensorFlow operations.

Points are (x, y) in pixels. Leading dimensions, here '...', hold many maps at once.
"""

from typing import NamedTuple

import tensorflow as tf


class Affine(NamedTuple):
    """Maps point x to linear x + offset."""

    linear: tf.Tensor  # [..., 2, 2]
    offset: tf.Tensor  # [..., 2]


def transform(affine: Affine, points: tf.Tensor) -> tf.Tensor:
    """Maps points, columns [2, N], by each map, to [..., 2, N]."""
    return affine.linear @ points + affine.offset[..., None]


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies `inner`, then `outer`."""
    offset = tf.linalg.matvec(outer.linear, inner.offset) + outer.offset
    return Affine(outer.linear @ inner.linear, offset)


def inverse(affine: Affine) -> Affine:
    """The map that undoes `affine`; exact for mirrorings and for shifts by whole pixels."""
    (a, b), (c, d) = (tf.unstack(row, axis=-1) for row in tf.unstack(affine.linear, axis=-2))
    determinant = (a * d - b * c)[..., None, None]
    linear = tf.stack([tf.stack([d, -b], -1), tf.stack([-c, a], -1)], -2) / determinant
    return Affine(linear, -tf.linalg.matvec(linear, affine.offset))


def about(centre: tf.Tensor, linear: tf.Tensor) -> Affine:
    """The map with this linear part, [..., 2, 2], that leaves `centre`, [2], where it is."""
    return Affine(linear, centre - tf.linalg.matvec(linear, centre))


def rotation(angle: tf.Tensor) -> tf.Tensor:
    """Matrices, [..., 2, 2], of angles in radians; with y down, a positive one turns clockwise."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cos, -sin], -1), tf.stack([sin, cos], -1)], -2)
