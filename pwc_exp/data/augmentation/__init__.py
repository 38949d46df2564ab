"""Random changes of training examples. All randomness is the argument `seed`: [2] integers.

An `Augment` cuts the training window and changes what it likes on the way: it owns the crop, for
moving or scaling needs the pixels outside of it. Zoom above 1 enlarges. Changes are drawn by
TensorFlow, and pixels changed by functions that XLA compiles.

Letters: F frames, P patches.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from pwc_exp.data.augmentation.resampling import (
    Affine,
    View,
    about,
    compose,
    inverse,
    resample,
    rotation,
    transform,
)
from pwc_exp.data.sample import Example

_CANDIDATES = 16
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_YIQ_FROM_RGB = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_GREY = np.tile(_LUMA, (3, 1))  # colour -> its luma, three times
_QUARTER_TURN = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of hue, luma dropped


class Augment(Protocol):
    """What the pipeline calls for each training example."""

    def __call__(self, example: Example, *, crop: Sequence[int], seed: tf.Tensor) -> Example:
        """Returns an example of size `crop` (height, width)."""
        ...


class ViewLimits(NamedTuple):
    """How far `modern` changes geometry; either way, but for the zooms of both frames."""

    geometry_probability: float  # of any change but mirroring
    min_zoom: float  # smallest factor of both frames; log-uniform up to max_zoom
    max_zoom: float
    squeeze: float  # largest log of width over height: 0.2 stretches by up to e^0.2
    rotate: float  # degrees
    relative_translate: float  # of frame 2, as a share of the crop's width and height
    relative_rotate: float  # of frame 2, degrees
    relative_zoom: float  # of frame 2, largest log of its factor


class ColourLimits(NamedTuple):
    """How far `jitter_colours` may go, either way."""

    asymmetry: float  # probability that the frames' colours change each on its own, not alike
    brightness: float  # 0.4 is a factor of 0.6 to 1.4
    contrast: float  # 0.4 is a factor of 0.6 to 1.4 about the mean luma of all frames
    saturation: float  # 0.4 is a factor of 0.6 to 1.4 of the distance from grey of the same luma
    hue: float  # degrees in the plane of I and Q of YIQ
    gamma: float  # largest log of the exponent


def basic(
    example: Example,
    *,
    crop: Sequence[int],
    seed: tf.Tensor,
    flip_left_right: float,
    flip_up_down: float,
) -> Example:
    """Cuts a random window and flips it with the given probabilities."""
    seeds = tf.random.split(seed, 3)
    height, width = crop
    places = tf.cast(_checked_size(example, crop) - [height, width] + 1, tf.float32)
    top, left = tf.unstack(tf.cast(tf.random.stateless_uniform([2], seeds[0]) * places, tf.int32))
    window = Example(*(part[top : top + height, left : left + width] for part in example))
    for part in window:
        part.set_shape((height, width, *part.shape[2:]))
    if flip_left_right:
        chosen = tf.random.stateless_uniform([], seeds[1]) < flip_left_right
        window = tf.cond(chosen, lambda: mirror_left_right(window), lambda: window)
    if flip_up_down:
        chosen = tf.random.stateless_uniform([], seeds[2]) < flip_up_down
        window = tf.cond(chosen, lambda: mirror_up_down(window), lambda: window)
    return window


def mirror_left_right(example: Example) -> Example:
    """Mirrors the frames; motion to the right becomes motion to the left."""
    mirrored = Example(*(tf.reverse(part, [1]) for part in example))
    return mirrored._replace(flow=mirrored.flow * [-1.0, 1.0])


def mirror_up_down(example: Example) -> Example:
    """Turns the frames upside down; motion down becomes motion up."""
    mirrored = Example(*(tf.reverse(part, [0]) for part in example))
    return mirrored._replace(flow=mirrored.flow * [1.0, -1.0])


def heavy(
    example: Example,
    *,
    crop: Sequence[int],
    seed: tf.Tensor,
    flip_left_right: float,
    flip_up_down: float,
    translate_probability: float,
    translate: float,
    scale_probability: float,
    scale: float,
) -> Example:
    """Cuts a random window, mirrors, moves frame 2 by whole pixels, and scales both frames.

    The recipe of tfoptflow, with what the window shows taken from the whole frames, exact flow, and
    no ground truth for pixels that show nothing. All probabilities are independent.

    Args:
        example: frames at least as large as the crop.
        translate: farthest that frame 2 moves, as a share of the crop's width and of its height.
        scale: largest zoom about the centre of the window: 0.05 is a factor of 0.95 to 1.05.
    """
    seeds = tf.random.split(seed, 2)
    size = _checked_size(example, crop)
    mirror = tf.linalg.diag(_draw_signs(seeds[0], flip_left_right, flip_up_down))
    seeds = tf.random.split(seeds[1], 4)
    extent = _extent(crop)
    chosen = tf.random.stateless_uniform([2], seeds[0]) < [translate_probability, scale_probability]
    most = tf.floor(translate * extent)
    shift = tf.floor(tf.random.stateless_uniform([2], seeds[1]) * (2 * most + 1)) - most
    shift = tf.where(chosen[0], shift, 0.0)
    zoom = tf.random.stateless_uniform([], seeds[2], 1 - scale, 1 + scale)
    zoom = tf.where(chosen[1], zoom, 1.0)
    place = _pick_place(
        tf.random.stateless_uniform([2], seeds[3]), *_places(mirror @ _corners(crop), size)
    )
    zoomed = about((extent - 1) / 2, tf.eye(2) / zoom)
    view = View(compose(Affine(mirror, place), zoomed), Affine(tf.eye(2), zoom * shift))
    return resample(example, crop, view)


def modern(
    example: Example,
    *,
    crop: Sequence[int],
    seed: tf.Tensor,
    flip_left_right: float,
    flip_up_down: float,
    noise: float,
    eraser_probability: float,
    eraser_patches: int,
    eraser_size: float,
    **limits: float,
) -> Example:
    """Changes geometry and colours as FlowNet2, RAFT and AutoFlow do.

    Both frames are turned, scaled and mirrored alike; frame 2 a little more on its own, which adds
    motion. 16 such changes are drawn at once, and the first is taken whose window fits into both
    frames. If none does, the window is a plain crop. Then colours change, noise is added, and parts
    of frame 2 are hidden.

    Args:
        example: frames at least as large as the crop.
        noise: largest standard deviation of what is added, of the range [0, 1], for each frame.
        eraser_probability: of hiding parts of frame 2 behind its mean colour; flow stays known.
        eraser_patches: at most so many of them.
        eraser_size: longest side of a patch, pixels; the shortest is half of it.
        limits: all of ViewLimits and ColourLimits.
    """
    seeds = tf.random.split(seed, 6)
    view = draw_view(
        seeds[1],
        size=_checked_size(example, crop),
        crop=crop,
        signs=_draw_signs(seeds[0], flip_left_right, flip_up_down),
        limits=ViewLimits(**{name: limits.pop(name) for name in ViewLimits._fields}),
    )
    frame1, frame2, flow, valid = resample(example, crop, view)
    colours = ColourLimits(**limits)
    if any(colours[1:]):
        frame1, frame2 = jitter_colours([frame1, frame2], seed=seeds[2], limits=colours)
    if noise:
        frame1 = add_noise(frame1, seed=seeds[3], strength=noise)
        frame2 = add_noise(frame2, seed=seeds[4], strength=noise)
    if eraser_probability:
        frame2 = erase_patches(
            frame2,
            seed=seeds[5],
            probability=eraser_probability,
            patches=eraser_patches,
            size=eraser_size,
        )
    return Example(frame1, frame2, flow, valid)


def draw_view(
    seed: tf.Tensor, *, size: tf.Tensor, crop: Sequence[int], signs: tf.Tensor, limits: ViewLimits
) -> View:
    """Draws a view inside of both frames, with the probability of `limits`; else a plain crop.

    Of the candidates the first counts that has a place at all, then any such place is equally
    likely. If none has one, it is a plain crop too. size: [2] int32 (height, width) of the frames.
    signs: [2], -1 mirrors x, y, also of the plain crop.
    """
    seeds = tf.random.split(seed, 3)
    chosen = tf.random.stateless_uniform([], seeds[0]) < limits.geometry_probability
    is_changed = chosen & (tf.range(_CANDIDATES + 1) < _CANDIDATES)  # the last is the plain crop
    shift = limits.relative_translate
    highest = [limits.squeeze, limits.rotate, shift, shift, limits.relative_rotate]
    highest = tf.constant([math.log(limits.max_zoom), *highest, limits.relative_zoom])
    lowest = tf.concat([[math.log(limits.min_zoom)], -highest[1:]], axis=0)
    share = tf.random.stateless_uniform([_CANDIDATES + 1, 7], seeds[1])
    draws = tf.where(is_changed[:, None], lowest + (highest - lowest) * share, 0.0)
    place = tf.random.stateless_uniform([2], seeds[2])
    return _first_that_fits(draws, place, signs=signs, size=size, crop=tuple(crop))


@tf.function(jit_compile=True, autograph=False)
def _first_that_fits(
    draws: tf.Tensor, place: tf.Tensor, *, signs: tf.Tensor, size: tf.Tensor, crop: tuple[int, int]
) -> View:
    """The view of the first candidate that has a place inside of both frames.

    draws: [candidates, 7] in the order of `draw_view`, the last all 0. place: [2] shares.
    """
    zoom, stretch, angle, *shift, added_angle, added_zoom = tf.unstack(draws, axis=-1)

    extent = _extent(crop)
    growth = tf.exp(tf.stack([zoom + stretch / 2, zoom - stretch / 2], axis=-1))  # [., 2]
    linear = rotation(angle * (math.pi / 180)) @ tf.linalg.diag(signs / growth)
    turn = rotation(added_angle * (math.pi / 180)) * tf.exp(added_zoom)[:, None, None]
    added = about((extent - 1) / 2, turn)
    added = Affine(added.linear, added.offset + tf.stack(shift, axis=-1) * extent)

    corners = _corners(crop)
    seen1, seen2 = linear @ corners, linear @ transform(inverse(added), corners)
    low, high = _places(tf.concat([seen1, seen2], axis=-1), size)
    fits = tf.reduce_all(low <= high, axis=-1)
    first = tf.argmax(tf.cast(fits, tf.int32), output_type=tf.int32)
    low, high, linear, turn, shift = (
        tf.gather(part, first) for part in (low, high, linear, *added)
    )
    return View(Affine(linear, _pick_place(place, low, high)), Affine(turn, shift))


def _draw_signs(seed: tf.Tensor, flip_left_right: float, flip_up_down: float) -> tf.Tensor:
    """-1 or 1 for x and y, [2]: -1 mirrors, with the given probabilities."""
    flipped = tf.random.stateless_uniform([2], seed) < [flip_left_right, flip_up_down]
    return tf.where(flipped, -1.0, 1.0)


def _extent(crop: Sequence[int]) -> tf.Tensor:
    """(width, height), [2] float32."""
    return tf.constant(crop[::-1], tf.float32)


def _corners(crop: Sequence[int]) -> tf.Tensor:
    """Outermost pixels of a window, columns [2, 4]."""
    right, bottom = crop[1] - 1.0, crop[0] - 1.0
    return tf.constant([[0.0, right, 0.0, right], [0.0, 0.0, bottom, bottom]])


def _places(corners: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Lowest and highest whole-pixel shift, [..., 2], that keeps corners, [..., 2, P], inside."""
    height, width = tf.unstack(tf.cast(size, tf.float32))
    last = tf.stack([width, height]) - 1
    return (
        tf.math.ceil(-tf.reduce_min(corners, axis=-1)),
        tf.floor(last - tf.reduce_max(corners, axis=-1)),
    )


def _pick_place(share: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """A whole-pixel shift, [2] (x, y), from low to high; each share of [0, 1) is equally likely."""
    return low + tf.floor(share * (high - low + 1))


def _checked_size(example: Example, crop: Sequence[int]) -> tf.Tensor:
    """(height, width), [2] int32, of frames that hold the crop; smaller ones are refused."""
    height, width = crop
    size = tf.shape(example.valid)
    message = f"The frame is smaller than the crop {height} x {width}."
    with tf.control_dependencies(
        [tf.debugging.assert_non_negative(size - [height, width], message)]
    ):
        return tf.identity(size)


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
