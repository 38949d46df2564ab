"""Changes to a training example. All randomness is the argument `seed`: two integers, shape [2].

An `Augment` cuts the training window and changes what it likes on the way: it owns the crop, for
moving or scaling needs the pixels outside of it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf

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


def random_crop(example: Example, crop: Sequence[int], *, seed: tf.Tensor) -> Example:
    """Cuts one window of `crop` (height, width) out of all parts, any place equally likely."""
    height, width = crop
    free = tf.shape(example.valid) - [height, width]
    message = f"The frame is smaller than the crop {height} x {width}."
    with tf.control_dependencies([tf.debugging.assert_non_negative(free, message)]):
        places = tf.cast(free + 1, tf.float32)
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
