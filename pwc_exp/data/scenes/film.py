"""What a film adds to drawn frames, as Sintel's final pass does: fog, blur, noise, flicker.

None of it moves a point: flow and occlusion stay as they are. A share of the scenes has these
effects, each with a strength drawn anew between 0 and its limit; a limit of 0 leaves no operation.

Letters: L layers, H height, W width, N = H W pixels, C channels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

_TAPS = 4  # of each of the two passes of the motion blur: 16 places along the path
_FOG_LIGHT = (0.45, 0.9)
_FOG_TINT = 0.08


class FilmLimits(NamedTuple):
    """How strong the effects may be."""

    share: float  # of the scenes that have them
    fog: float  # optical depth of the fog before the background
    shutter: float  # time that the shutter is open, in frames
    defocus: float  # blur of both frames, standard deviation in pixels
    noise: float  # standard deviation, as a share of white
    flicker: float  # change of brightness from frame 1 to frame 2, a share


class Strengths(NamedTuple):
    """How strong the effects are in one scene, scalars, between 0 and their limits."""

    chosen: tf.Tensor  # bool, whether the scene has any
    fog: tf.Tensor
    shutter: tf.Tensor
    defocus: tf.Tensor
    noise: tf.Tensor
    flicker: tf.Tensor


def draw_strengths(seed: tf.Tensor, limits: FilmLimits) -> Strengths:
    """Draws the strengths of one scene; all are 0 where it has none of the effects."""
    seeds = tf.random.split(seed, 2)
    chosen = tf.random.stateless_uniform([], seeds[0]) < limits.share
    drawn = tf.random.stateless_uniform([len(limits) - 1], seeds[1]) * tf.constant(limits[1:])
    return Strengths(chosen, *tf.unstack(tf.where(chosen, drawn, 0.0)))


def develop(
    frames: tf.Tensor,
    motions: Sequence[tf.Tensor],
    *,
    seed: tf.Tensor,
    strengths: Strengths,
    limits: FilmLimits,
) -> tf.Tensor:
    """Applies what happens in the camera to both frames, [2, H, W, 3].

    motions: of what each frame shows, [H, W, 2] pixels a frame; empty if limits.shutter is 0.
    """
    seeds = tf.random.split(seed, 2)
    if limits.shutter:
        pairs = zip(tf.unstack(frames), motions, strict=True)
        frames = tf.stack([smear(frame, motion, strengths.shutter) for frame, motion in pairs])
    if limits.defocus:
        frames = defocus(frames, strengths.defocus, largest=limits.defocus)
    if limits.flicker:
        frames = flicker(frames, strengths.flicker, seed=seeds[0])
    if limits.noise:
        frames = add_noise(frames, strengths.noise, seed=seeds[1])
    return frames


def fog(colours: tf.Tensor, density: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Lays a veil over the colours of layers, [L, 6] (black, and what white has more), by depth."""
    count = colours.shape[0]
    seeds = tf.random.split(seed, 2)
    low, high = _FOG_LIGHT
    light = tf.random.stateless_uniform([], seeds[0], low, high)
    light += tf.random.stateless_uniform([3], seeds[1], -_FOG_TINT, _FOG_TINT)
    depth = tf.range(count, 0, -1, dtype=tf.float32) / count  # 1 for the background
    clear = tf.exp(-density * depth)[:, None]
    black, span = colours[:, :3], colours[:, 3:]
    return tf.concat([clear * black + (1 - clear) * light, clear * span], axis=1)


def smear(frame: tf.Tensor, motion: tf.Tensor, shutter: tf.Tensor) -> tf.Tensor:
    """Averages each pixel of frame, [H, W, C], along shutter * motion, [H, W, 2], centred on it."""
    height, width = motion.shape[:2]
    x, y = tf.meshgrid(tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32))
    path_x, path_y = shutter * motion[..., 0], shutter * motion[..., 1]
    pixels = tf.reshape(frame, [height * width, -1])
    for spacing in (1 / _TAPS, 1 / _TAPS**2):
        taps = [spacing * (tap - (_TAPS - 1) / 2) for tap in range(_TAPS)]
        read = []
        for tap in taps:
            column = tf.clip_by_value(tf.round(x + tap * path_x), 0, width - 1)
            row = tf.clip_by_value(tf.round(y + tap * path_y), 0, height - 1)
            index = tf.cast(row * width + column, tf.int32)
            read.append(tf.gather(pixels, tf.reshape(index, [-1])))
        pixels = tf.add_n(read) / _TAPS
    return tf.reshape(pixels, frame.shape)


def defocus(frames: tf.Tensor, deviation: tf.Tensor, *, largest: float) -> tf.Tensor:
    """Blurs frames, [2, H, W, C], by a normal distribution; largest: that deviation can be."""
    radius = math.ceil(2 * largest)
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * (offsets / tf.maximum(deviation, 1e-3)) ** 2)
    weights = tf.unstack(weights / tf.reduce_sum(weights), num=2 * radius + 1)
    height, width = frames.shape[1:3]
    rows = tf.pad(frames, [[0, 0], [radius, radius], [0, 0], [0, 0]], "SYMMETRIC")
    frames = tf.add_n([w * rows[:, n : n + height] for n, w in enumerate(weights)])
    columns = tf.pad(frames, [[0, 0], [0, 0], [radius, radius], [0, 0]], "SYMMETRIC")
    return tf.add_n([w * columns[:, :, n : n + width] for n, w in enumerate(weights)])


def add_noise(frames: tf.Tensor, deviation: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Adds normal noise, other in each frame and colour, and keeps to [0, 1]."""
    noise = tf.random.stateless_normal(frames.shape, seed)
    return tf.clip_by_value(frames + deviation * noise, 0.0, 1.0)


def flicker(frames: tf.Tensor, change: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Brightens or dims the second of the frames, [2, H, W, C], by up to `change`."""
    gain = tf.exp(tf.random.stateless_uniform([], seed, -1, 1) * tf.math.log1p(change))
    frame1, frame2 = tf.unstack(frames)
    return tf.stack([frame1, tf.minimum(frame2 * gain, 1.0)])
