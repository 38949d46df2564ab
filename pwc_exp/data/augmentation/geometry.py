"""Random views: where the window is in the frames, how it is turned, scaled and mirrored.

Zoom above 1 enlarges. Letters: K candidates, of which the first that fits is taken.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.augmentation.resampling import (
    Affine,
    View,
    about,
    compose,
    inverse,
    rotation,
    transform,
)

_CANDIDATES = 16


class ViewLimits(NamedTuple):
    """How far `draw_change` may go; either way, but for the zooms of both frames."""

    geometry_probability: float  # of any change but mirroring
    min_zoom: float  # smallest factor of both frames; log-uniform up to max_zoom; above 1 enlarges
    max_zoom: float  # largest factor of both frames
    squeeze: float  # largest log of width over height: 0.2 stretches by up to e^0.2
    rotate: float  # degrees
    relative_translate: float  # of frame 2, as a share of the crop's width and height
    relative_rotate: float  # of frame 2, degrees
    relative_zoom: float  # of frame 2, largest log of its factor


def draw_signs(seed: tf.Tensor, *, flip_left_right: float, flip_up_down: float) -> tf.Tensor:
    """Draws -1 or 1 for x and y, [2]: -1 mirrors, with the given probabilities."""
    flipped = tf.random.stateless_uniform([2], seed) < [flip_left_right, flip_up_down]
    return tf.where(flipped, -1.0, 1.0)


def draw_small_change(
    seed: tf.Tensor,
    *,
    size: tf.Tensor,
    crop: Sequence[int],
    signs: tf.Tensor,
    translate_probability: float,
    translate: float,
    scale_probability: float,
    scale: float,
) -> View:
    """Draws any place for the window, whole pixels of added motion, and a zoom of both frames.

    size: [2] int32 (height, width) of the frames; the window may reach beyond them. signs: [2],
    -1 mirrors x, y. For the rest see `heavy`.
    """
    seeds = tf.random.split(seed, 4)
    extent = _extent(crop)
    chosen = tf.random.stateless_uniform([2], seeds[0]) < [translate_probability, scale_probability]
    most = tf.floor(translate * extent)
    shift = tf.floor(tf.random.stateless_uniform([2], seeds[1]) * (2 * most + 1)) - most
    shift = tf.where(chosen[0], shift, 0.0)
    zoom = tf.random.stateless_uniform([], seeds[2], 1 - scale, 1 + scale)
    zoom = tf.where(chosen[1], zoom, 1.0)
    mirror = tf.linalg.diag(signs)
    low, high = _places(mirror @ _corners(crop), size)
    zoomed = about((extent - 1) / 2, tf.eye(2) / zoom)
    place = tf.random.stateless_uniform([2], seeds[3])
    return View(
        compose(Affine(mirror, _pick_place(place, low, high)), zoomed),
        Affine(tf.eye(2), zoom * shift),
    )


def draw_change(
    seed: tf.Tensor, *, size: tf.Tensor, crop: Sequence[int], signs: tf.Tensor, limits: ViewLimits
) -> View:
    """Draws a view inside of both frames, with the probability of `limits`; else a plain crop.

    Of K candidates the first counts that has a place at all, then any such place is equally
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

    draws: [K, 7] in the order of `draw_change`, the last all 0. place: [2], shares of the places.
    """
    zoom, stretch, angle, *shift, added_angle, added_zoom = tf.unstack(draws, axis=-1)

    extent = _extent(crop)
    growth = tf.exp(tf.stack([zoom + stretch / 2, zoom - stretch / 2], axis=-1))  # [K, 2]
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
