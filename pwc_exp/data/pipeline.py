"""From a source to batches. Batch n of a run is a function of (seed, n) and of nothing else.

Letters: B batch, H height, W width.
"""

from collections.abc import Collection, Sequence

import tensorflow as tf

from pwc_exp.data.augmentation.augment import Augment
from pwc_exp.data.order import example_of, substitutes
from pwc_exp.data.sample import Batch, Example, Source


def train_batches(
    source: Source,
    *,
    batch_size: int,
    crop: Sequence[int],
    augment: Augment | None,
    seed: int,
    start_step: int,
    steps: int,
    workers: int | None = None,
    skipped: Collection[int] = (),
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches start_step .. steps-1 of a run, of static shape [batch_size, *crop, ...].

    Each epoch takes every example once, wherever the run starts and however many workers read.
    augment: None leaves the frames whole; they must then be of one size. workers: None means as
    many as pay. skipped: examples whose place the next one of their part takes. shard: (number,
    count); only this part of each batch, of `count` equal parts in order.
    """
    table = substitutes(source.parts, skipped) if skipped else None

    def read(number: tf.Tensor) -> Batch:
        index = example_of(number, source.parts, seed=seed)
        if table is not None:
            index = tf.gather(table, index)
        example = source.example(index)
        if augment is not None:
            example = augment(example, crop=crop, seed=tf.stack([seed, number]))
        return Batch(*example, index=index)

    size = batch_size // shard[1]
    numbers = tf.data.Dataset.range(start_step * size, steps * size)
    if shard[1] > 1:
        numbers = numbers.map(lambda n: n // size * batch_size + shard[0] * size + n % size)
    examples = numbers.map(read, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(size, drop_remainder=True).prefetch(2)


def eval_batches(
    source: Source, indices: Sequence[int], *, batch_size: int, multiple: int
) -> tf.data.Dataset:
    """The examples `indices` once, whole.

    Frames are padded with zeros at the bottom and the right to a multiple of `multiple`. There
    `valid` is 0: sums over valid pixels need no unpadding. A batch holds frames of one padded
    size, for further padding would change what a network sees; so the order is that of `indices`
    only where all sizes are equal. Some batches hold fewer examples.
    """

    def read(index: tf.Tensor) -> Batch:
        return Batch(*_pad(source.example(index), multiple), index=index)

    chosen = tf.data.Dataset.from_tensor_slices(tf.constant(indices, tf.int64))
    batches = chosen.map(read, num_parallel_calls=tf.data.AUTOTUNE).group_by_window(
        key_func=lambda batch: tf.reduce_sum(tf.shape(batch.valid, tf.int64) * [2**32, 1]),
        reduce_func=lambda _, alike: alike.batch(batch_size),
        window_size=batch_size,
    )
    return batches.prefetch(2)


def evenly_spread(size: int, limit: int | None) -> list[int]:
    """All of the indices 0 .. size-1, or `limit` of them from end to end."""
    count = size if limit is None else min(limit, size)
    return [number * size // count for number in range(count)]


def _pad(example: Example, multiple: int) -> Example:
    free = -tf.shape(example.valid) % multiple
    padded = []
    for part in example:
        paddings = [[0, free[0]], [0, free[1]], [0, 0]]
        padded.append(tf.pad(part, paddings[: part.shape.rank]))
    return Example(*padded)
