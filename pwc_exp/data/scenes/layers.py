"""The layers of a generated scene: what defines them.

Letters: L layers, the background first and then back to front, M points of an outline.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.formats.image_headers import Size
from pwc_exp.data.scenes import textures
from pwc_exp.data.scenes.motion import Motion, MotionLimits, Points, draw_motion, project, rotation
from pwc_exp.data.scenes.outlines import OutlineLimits, Outlines, draw_outlines

_TEXELS_PER_PIXEL = (0.4, 1.0)  # at most 1: more would alias, and not the same in both frames
_LIFT = 0.25  # what a tint of 1 makes of black, at most
_DIM = 0.75  # what it takes away from white, at most


class Layers(NamedTuple):
    """All that a scene is made of."""

    centre: tf.Tensor  # [L, 2] in frame 1: object coordinates are those of frame 1 around it
    outlines: Outlines
    edge_points: tf.Tensor  # [L, M, 2] of the outlines
    motion: Motion
    photograph: tf.Tensor  # [L] int32, which one
    window: tf.Tensor  # [L, 6] affine map of object points to the photograph's pixels
    colours: tf.Tensor  # [L, 6] what black becomes (RGB), and what white has more than that


def draw_layers(
    seed: tf.Tensor,
    *,
    count: int,
    size: Size,
    outlines: OutlineLimits,
    motion: MotionLimits,
    photographs: int,
    tint: float,
) -> Layers:
    """Draws `count` layers for frames of `size`.

    seed: [2] integers. photographs: how many there are. tint: how far colours may be changed.
    """
    seeds = tf.random.split(seed, 5)
    extent = tf.constant([size.width, size.height], tf.float32)
    centre = tf.random.stateless_uniform([count, 2], seeds[0]) * extent
    centre = tf.concat([extent[None] / 2, centre[1:]], axis=0)
    edges, edge_points = draw_outlines(seeds[1], count, diagonal=math.hypot(*size), limits=outlines)
    photograph, window = _draw_window(seeds[2], count, photographs)
    return Layers(
        centre=centre,
        outlines=edges,
        edge_points=edge_points,
        motion=draw_motion(seeds[3], centre, size=size, limits=motion),
        photograph=photograph,
        window=window,
        colours=_draw_colours(seeds[4], count, tint),
    )


def colours(layers: Layers, points: Points, photographs: textures.Textures) -> list[tf.Tensor]:
    """Red, green and blue, each [N], of object points."""
    place = project(layers.window, points)
    photograph = tf.gather(layers.photograph, points.layer)
    planes = textures.sample(photographs, photograph, place.x, place.y)
    rows = tf.unstack(tf.gather(layers.colours, points.layer), axis=1)
    return [
        black + span * plane for black, span, plane in zip(rows[:3], rows[3:], planes, strict=True)
    ]


def _draw_window(seed: tf.Tensor, count: int, photographs: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Which photograph each layer is cut from, [L], and where, [L, 6]."""
    which, turn, scale, x, y = tf.unstack(tf.random.stateless_uniform([5, count], seed))
    low, high = _TEXELS_PER_PIXEL
    texels = (low + (high - low) * scale)[:, None, None]
    linear = texels * rotation((2 * turn - 1) * math.pi)
    offset = tf.stack([x, y], -1) * (textures.SIDE - 1)
    window = tf.reshape(tf.concat([linear, offset[..., None]], axis=-1), [count, 6])
    return tf.cast(which * photographs, tf.int32), window


def _draw_colours(seed: tf.Tensor, count: int, tint: float) -> tf.Tensor:
    if not tint:
        return tf.constant([[0.0] * 3 + [1.0] * 3] * count)
    seeds = tf.random.split(seed, 2)
    # Half of the change is common to the three colours: brighter, darker, less contrast.
    common = tf.random.stateless_uniform([count, 2, 1], seeds[0])
    own = tf.random.stateless_uniform([count, 2, 3], seeds[1])
    black, white = tf.unstack(tint / 2 * (common + own), axis=1)
    black *= _LIFT
    return tf.concat([black, 1 - _DIM * white - black], axis=1)
