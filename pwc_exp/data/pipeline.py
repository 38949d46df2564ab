"""From a source to batches. Batch n of a run is a function of (seed, n) and of nothing else.

Letters: B batch, H height, W width.
"""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from pwc_exp.data.augment import Augment
from pwc_exp.data.sample import Batch, Example, Source


def train_batches(
    source: Source,
    *,
    batch_size: int,
    crop: Sequence[int],
    augment: Augment,
    seed: int,
    start_step: int,
    steps: int,
    workers: int,
) -> tf.data.Dataset:
    """Batches start_step .. steps-1 of a run, of static shape [batch_size, *crop, ...].

    Sample number g of the run is element g mod N of a permutation made for epoch g div N, so that
    each epoch takes every example once, wherever the run starts and however many workers read.
    """

    def read(number: tf.Tensor) -> Batch:
        index = _shuffled(number, source.size, seed)
        example = augment(source.example(index), crop=crop, seed=tf.stack([seed, number]))
        return Batch(*example, index=index)

    numbers = tf.data.Dataset.range(start_step * batch_size, steps * batch_size)
    examples = numbers.map(read, num_parallel_calls=workers, deterministic=True)
    return examples.batch(batch_size, drop_remainder=True).prefetch(2)


def eval_batches(
    source: Source, *, batch_size: int, multiple: int, limit: int | None = None
) -> tf.data.Dataset:
    """Every example once, whole; with `limit` so many, evenly spread over the source.

    Frames are padded with zeros at the bottom and the right to a multiple of `multiple`. There
    `valid` is 0: sums over valid pixels need no unpadding. A batch holds frames of one padded
    size, for further padding would change what a network sees; so the order is that of the source
    only where all sizes are equal. Some batches hold fewer examples.
    """
    count = source.size if limit is None else min(limit, source.size)

    def read(number: tf.Tensor) -> Batch:
        index = number * source.size // count
        return Batch(*_pad(source.example(index), multiple), index=index)

    examples = tf.data.Dataset.range(count).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.group_by_window(
        key_func=lambda batch: tf.reduce_sum(tf.shape(batch.valid, tf.int64) * [2**32, 1]),
        reduce_func=lambda _, alike: alike.batch(batch_size),
        window_size=batch_size,
    )
    return batches.prefetch(2)


def iterate(batches: tf.data.Dataset, source: Source) -> Iterator[Batch]:
    """The batches; a file that cannot be read raises the source's own error, naming the file."""
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise (source.failure or error) from None
        yield batch


def _shuffled(number: tf.Tensor, size: int, seed: int) -> tf.Tensor:
    """Index of sample `number` of the run."""
    epoch, position = number // size, number % size
    return tf.random.experimental.index_shuffle(
        position, seed=tf.stack([seed, epoch]), max_index=tf.constant(size - 1, tf.int64)
    )


def _pad(example: Example, multiple: int) -> Example:
    free = -tf.shape(example.valid) % multiple
    padded = []
    for part in example:
        paddings = [[0, free[0]], [0, free[1]], [0, 0]]
        padded.append(tf.pad(part, paddings[: part.shape.rank]))
    return Example(*padded)
