"""Changes to a training example. All randomness is the argument `seed`: two integers, shape [2].

An `Augment` cuts the training window and changes what it likes on the way: it owns the crop, for
moving or scaling needs the pixels outside of it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

from pwc_exp.data.augmentation.geometry import (
    ViewLimits,
    draw_change,
    draw_signs,
    draw_small_change,
)
from pwc_exp.data.augmentation.photometry import (
    ColourLimits,
    add_noise,
    erase_patches,
    jitter_colours,
)
from pwc_exp.data.augmentation.resampling import resample
from pwc_exp.data.sample import Example


class Augment(Protocol):
    """What the pipeline calls for each training example."""

    def __call__(self, example: Example, *, crop: Sequence[int], seed: tf.Tensor) -> Example:
        """Returns an example of size `crop` (height, width)."""
        ...


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
    example = random_crop(example, crop, seed=seeds[0])
    if flip_left_right:
        example = _sometimes(mirror_left_right, example, flip_left_right, seed=seeds[1])
    if flip_up_down:
        example = _sometimes(mirror_up_down, example, flip_up_down, seed=seeds[2])
    return example


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
        crop: (height, width).
        seed: [2] integers.
        flip_left_right: probability.
        flip_up_down: probability.
        translate_probability: of moving frame 2.
        translate: farthest, as a share of the crop's width and of its height.
        scale_probability: of a zoom about the centre of the window.
        scale: 0.05 is a factor of 0.95 to 1.05.
    """
    seeds = tf.random.split(seed, 2)
    view = draw_small_change(
        seeds[1],
        size=_checked_size(example, crop),
        crop=crop,
        signs=draw_signs(seeds[0], flip_left_right=flip_left_right, flip_up_down=flip_up_down),
        translate_probability=translate_probability,
        translate=translate,
        scale_probability=scale_probability,
        scale=scale,
    )
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
        crop: (height, width).
        seed: [2] integers.
        flip_left_right: probability.
        flip_up_down: probability.
        noise: largest standard deviation of what is added, of the range [0, 1], for each frame.
        eraser_probability: of hiding parts of frame 2 behind its mean colour; flow stays known.
        eraser_patches: at most so many of them.
        eraser_size: longest side of a patch, pixels; the shortest is half of it.
        limits: all of ViewLimits and ColourLimits.
    """
    seeds = tf.random.split(seed, 6)
    view = draw_change(
        seeds[1],
        size=_checked_size(example, crop),
        crop=crop,
        signs=draw_signs(seeds[0], flip_left_right=flip_left_right, flip_up_down=flip_up_down),
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


def random_crop(example: Example, crop: Sequence[int], *, seed: tf.Tensor) -> Example:
    """Cuts one window of `crop` (height, width) out of all parts, any place equally likely."""
    height, width = crop
    places = tf.cast(_checked_size(example, crop) - [height, width] + 1, tf.float32)
    top, left = tf.unstack(tf.cast(tf.random.stateless_uniform([2], seed) * places, tf.int32))
    window = Example(*(part[top : top + height, left : left + width] for part in example))
    for part in window:
        part.set_shape((height, width, *part.shape[2:]))
    return window


def mirror_left_right(example: Example) -> Example:
    """Mirrors the frames; motion to the right becomes motion to the left."""
    mirrored = Example(*(tf.reverse(part, [1]) for part in example))
    return mirrored._replace(flow=mirrored.flow * [-1.0, 1.0])


def mirror_up_down(example: Example) -> Example:
    """Turns the frames upside down; motion down becomes motion up."""
    mirrored = Example(*(tf.reverse(part, [0]) for part in example))
    return mirrored._replace(flow=mirrored.flow * [1.0, -1.0])


def _sometimes(
    change: Callable[[Example], Example], example: Example, probability: float, *, seed: tf.Tensor
) -> Example:
    chosen = tf.random.stateless_uniform([], seed) < probability
    return tf.cond(chosen, lambda: change(example), lambda: example)


def _checked_size(example: Example, crop: Sequence[int]) -> tf.Tensor:
    """(height, width), [2] int32, of frames that hold the crop; smaller ones are refused."""
    height, width = crop
    size = tf.shape(example.valid)
    message = f"The frame is smaller than the crop {height} x {width}."
    with tf.control_dependencies(
        [tf.debugging.assert_non_negative(size - [height, width], message)]
    ):
        return tf.identity(size)
