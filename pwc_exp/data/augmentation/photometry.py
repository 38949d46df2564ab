"""What cameras do to colours: gain, tint, noise; and what hides parts of a frame.

Frames are [H, W, 3] float32 RGB in [0, 1]. Letters: F frames, P patches.

Strengths are drawn by TensorFlow, and pixels changed by functions that XLA compiles.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_YIQ_FROM_RGB = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_GREY = np.tile(_LUMA, (3, 1))  # colour -> its luma, three times
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of hue, luma dropped


class ColourLimits(NamedTuple):
    """How far `jitter_colours` may go, either way."""

    asymmetry: float  # probability that the frames' colours change each on its own, not alike
    brightness: float  # 0.4 is a factor of 0.6 to 1.4
    contrast: float  # 0.4 is a factor of 0.6 to 1.4 about the mean luma of all frames
    saturation: float  # 0.4 is a factor of 0.6 to 1.4 of the distance from grey of the same luma
    hue: float  # degrees in the plane of I and Q of YIQ
    gamma: float  # largest log of the exponent


def jitter_colours(
    frames: Sequence[tf.Tensor], *, seed: tf.Tensor, limits: ColourLimits
) -> list[tf.Tensor]:
    """Changes the colours of all frames alike, or with some probability of each on its own.

    A frame becomes (matrix · colour + offset)^gamma, clipped to [0, 1] before the power.
    """
    seeds = tf.random.split(seed, 2)
    ranges = tf.constant(limits[1:])  # without the asymmetry
    draws = tf.random.stateless_uniform([len(frames), 5], seeds[0], -1.0, 1.0) * ranges
    apart = tf.random.stateless_uniform([], seeds[1]) < limits.asymmetry
    draws = tf.where(apart, draws, draws[:1])
    return list(_change_colours(tuple(frames), draws))


@tf.function(jit_compile=True, autograph=False)
def _change_colours(frames: tuple[tf.Tensor, ...], draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """draws: [F, 5], in the order of `jitter_colours`, all 0 for none."""
    colours = [_mean_colour(frame) for frame in frames]
    luma = tf.tensordot(tf.reduce_mean(colours, axis=0), tf.constant(_LUMA, tf.float32), 1)
    return tuple(
        _change_colour(frame, tf.unstack(draws[n]), luma) for n, frame in enumerate(frames)
    )


def _change_colour(frame: tf.Tensor, change: list[tf.Tensor], mean_luma: tf.Tensor) -> tf.Tensor:
    """mean_luma: of all frames."""
    brightness, contrast, saturation, hue, gamma = change
    matrix = (1 + contrast) * (1 + brightness) * _tint(1 + saturation, hue * (math.pi / 180))
    # About mid-grey, as some do it, contrast would push most of a dark film below black.
    offset = -contrast * (1 + brightness) * mean_luma
    # A product of matrices, though of three columns only, takes longer.
    changed = tf.add_n([frame[..., n, None] * matrix[:, n] for n in range(3)]) + offset
    # exp(log) takes a fifth of the time of pow (measured on a CPU); log(0) becomes 0 again.
    return tf.exp(tf.exp(gamma) * tf.math.log(tf.clip_by_value(changed, 0.0, 1.0)))


def _mean_colour(frame: tf.Tensor) -> tf.Tensor:
    """[3]; of each row first, for a sum of so many numbers would be rounded too much."""
    return tf.reduce_mean(tf.reduce_mean(frame, axis=1), axis=0)


def _tint(saturation: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """Matrix, [3, 3], that scales saturation and turns hue in YIQ; luma and greys stay."""
    grey = tf.constant(_GREY, tf.float32)
    chroma = tf.constant(np.eye(3) - _GREY, tf.float32)
    quarter = np.linalg.inv(_YIQ_FROM_RGB) @ _QUARTER_TURN @ _YIQ_FROM_RGB
    return grey + saturation * (
        tf.cos(angle) * chroma + tf.sin(angle) * tf.constant(quarter, tf.float32)
    )


def add_noise(frame: tf.Tensor, *, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Adds Gaussian noise whose standard deviation is drawn from [0, strength]."""
    seeds = tf.random.split(seed, 2)
    deviation = tf.random.stateless_uniform([], seeds[0], 0.0, strength)
    key = tf.random.stateless_uniform([2], seeds[1], None, None, tf.uint32)
    return _add_noise(frame, key, deviation)


@tf.function(jit_compile=True, autograph=False)
def _add_noise(frame: tf.Tensor, key: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """key: [2] uint32.

    Each number is a hash of its place and the key, turned into a normal one by the inverse of the
    distribution: a quarter of the time of TensorFlow's own, and images need no better randomness.
    """
    place = tf.reshape(tf.range(tf.size(frame)), tf.shape(frame))
    bits = _hashed(_hashed(tf.bitcast(place, tf.uint32) + key[0]) + key[1])
    positive = tf.cast(tf.bitcast(tf.bitwise.right_shift(bits, _uint32(8)), tf.int32), tf.float32)
    uniform = (positive + 0.5) * 2.0**-23 - 1  # of 24 bits, between -1 and 1
    noise = math.sqrt(2) * tf.math.erfinv(uniform)
    return tf.clip_by_value(frame + deviation * noise, 0.0, 1.0)


def _hashed(bits: tf.Tensor) -> tf.Tensor:
    """Mixes uint32: the function "lowbias32" of https://github.com/skeeto/hash-prospector."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = _fold(bits, shift) * _uint32(factor)
    return _fold(bits, 16)


def _fold(bits: tf.Tensor, shift: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _uint32(shift)))


def _uint32(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def erase_patches(
    frame: tf.Tensor, *, seed: tf.Tensor, probability: float, patches: int, size: float
) -> tf.Tensor:
    """Fills rectangles with the frame's mean colour, with the given probability.

    patches: at most so many, at least one. size: longest side, pixels; the shortest is half of it.
    """
    seeds = tf.random.split(seed, 4)
    height, width, _ = frame.shape
    chosen = tf.random.stateless_uniform([], seeds[0]) < probability
    count = tf.random.stateless_uniform([], seeds[1], 1, patches + 1, tf.int32)
    sides = tf.random.stateless_uniform([patches, 2], seeds[2], size / 2, size)
    centres = tf.random.stateless_uniform([patches, 2], seeds[3]) * [height, width]
    return _erase(frame, chosen & (tf.range(patches) < count), sides, centres)


@tf.function(jit_compile=True, autograph=False)
def _erase(frame: tf.Tensor, exists: tf.Tensor, sides: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    """exists: [P] bool; sides, centres: [P, 2] pixels (y, x)."""
    height, width, _ = frame.shape
    near = [
        tf.abs(tf.range(end, dtype=tf.float32) - centres[:, axis, None]) < sides[:, axis, None] / 2
        for axis, end in enumerate((height, width))
    ]
    erased = (exists[:, None] & near[0])[:, :, None] & near[1][:, None, :]  # [P, H, W]
    erased = tf.reduce_any(erased, axis=0)[..., None]
    return tf.where(erased, _mean_colour(frame), frame)
