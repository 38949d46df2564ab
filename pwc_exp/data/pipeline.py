"""From a source to batches. Batch n of a run is a function of (seed, n) and of nothing else.

The parts of a source take turns in a fixed pattern, each with the share of its weight; within a
part, every epoch of that part takes each example once, in an order of its own.

`train_batches` and `eval_batches` are tf.data pipelines. `train_feed` and `EvalFeed` are what
training and evaluation iterate over: they name a file that cannot be read, and skip it if allowed.

Letters: B batch, H height, W width.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.augmentation import Augment
from pwc_exp.data.sample import Batch, Example, Part, Source, spread
from pwc_exp.errors import DataError, UserError

MOST_BAD = 0.05  # share of the examples that may be left out; one always may
_RESOLUTION = 1000  # shares are rounded to so many parts of the whole
_SEEDS_APART = 7919  # between the parts of a source, so that no two have one order

OnBad = Callable[[str, UserError], None]  # (sample id, why): raises, or has the sample left out


def stop(_: str, error: UserError) -> None:
    """Lets no sample be left out."""
    raise error


class Turns(NamedTuple):
    """The pattern of the parts: slot n mod P of sample number n says from which part it is."""

    part: np.ndarray  # [P] which part has the slot
    rank: np.ndarray  # [P] how many slots before this one the same part has
    slots: np.ndarray  # [parts] how many each part has


def turns_of(weights: Sequence[float]) -> Turns:
    """Spreads the slots of each part evenly: weights 2, 1, 1 give a pattern of four slots.

    Every part has at least one slot, and a share exact to a thousandth.
    """
    shares = np.asarray(weights, np.float64) / sum(weights)
    count = np.maximum(np.round(shares * _RESOLUTION), 1).astype(np.int64)
    count //= math.gcd(*count.tolist())
    # The k-th of a part's c slots is due at (k + 1/2) / c of the pattern.
    due = [(k + 0.5) / c for c in count for k in range(c)]
    part = np.repeat(np.arange(len(count)), count)
    rank = np.concatenate([np.arange(c) for c in count])
    order = np.argsort(due, kind="stable")
    return Turns(part[order], rank[order], count)


def example_of(number: tf.Tensor, parts: Sequence[Part], *, seed: int) -> tf.Tensor:
    """Index of the example that is sample `number`, scalar int64, of a run."""
    turns = turns_of([part.weight for part in parts])
    cycle, slot = number // len(turns.part), number % len(turns.part)
    part = tf.gather(turns.part, slot)
    place = cycle * tf.gather(turns.slots, part) + tf.gather(turns.rank, slot)
    sizes = np.array([part.size for part in parts], np.int64)
    size = tf.gather(sizes, part)
    shuffled = tf.random.experimental.index_shuffle(
        place % size, seed=tf.stack([seed + _SEEDS_APART * part, place // size]), max_index=size - 1
    )
    return tf.gather(np.cumsum(sizes) - sizes, part) + shuffled


def substitutes(parts: Sequence[Part], skipped: Collection[int]) -> np.ndarray:
    """[size] int64: each example itself or, where it is to be skipped, the next one of its part.

    A part of which nothing is left keeps its examples.
    """
    table = np.arange(sum(part.size for part in parts), dtype=np.int64)
    start = 0
    for part in parts:
        kept = [i for i in range(start, start + part.size) if i not in skipped]
        for index in skipped:
            if kept and start <= index < start + part.size:
                table[index] = next((i for i in kept if i > index), kept[0])
        start += part.size
    return table


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


def _pad(example: Example, multiple: int) -> Example:
    free = -tf.shape(example.valid) % multiple
    padded = []
    for part in example:
        paddings = [[0, free[0]], [0, free[1]], [0, 0]]
        padded.append(tf.pad(part, paddings[: part.shape.rank]))
    return Example(*padded)


def train_feed(
    source: Source,
    *,
    batch_size: int,
    crop: Sequence[int],
    augment: Augment,
    seed: int,
    start_step: int,
    steps: int,
    workers: int | None = None,
    skipped: Collection[int] = (),
    on_bad: OnBad = stop,
    device: str | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yields the batches start_step .. steps-1 of a run.

    A sample that cannot be read raises the error that names its file, unless `on_bad` returns:
    then the next sample of its part takes its place from there on, also in the batch that failed,
    as it does for the examples `skipped`.

    shard: (number, count); only this part of each batch, of equal parts in order.
    device: where batches of whole frames, all of one size, are cut and augmented; None means that
    the processor does so for each example, ahead of the training step.
    """
    bad = set(skipped)
    augment_batch = None
    if device is not None:
        augment_batch = _make_augment_batch(augment, crop, seed, device)
    step = start_step
    while step < steps:
        batches = train_batches(
            source,
            batch_size=batch_size,
            crop=crop,
            augment=augment if device is None else None,
            seed=seed,
            start_step=step,
            steps=steps,
            workers=workers,
            skipped=bad,
            shard=shard,
        )
        size = batch_size // shard[1]
        try:
            for batch in batches:
                first = step * batch_size + shard[0] * size
                yield batch if augment_batch is None else augment_batch(batch, first)
                step += 1
        except tf.errors.OpError as error:
            if device is not None and "to the batch" in str(error):
                raise DataError(
                    f"augment.device needs frames of one size. Those of {source.name} differ."
                ) from None
            table = substitutes(source.parts, bad)
            first = step * batch_size + shard[0] * size
            numbers = tf.range(first, first + size, dtype=tf.int64)
            indices = [table[int(example_of(n, source.parts, seed=seed))] for n in numbers]
            bad.add(_find_bad(source, indices, len(bad), error, on_bad))


class EvalFeed:
    """Examples of `source` once, whole, in batches; see `eval_batches`. Can be iterated again.

    limit: so many examples, evenly spread over the source; None: all. shard: (number, count); of
    these only every count-th. skipped, on_bad: as in `train_feed`, but nothing takes the place of a
    sample that is left out. `indices` are those that it takes.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        multiple: int,
        limit: int | None = None,
        shard: tuple[int, int] = (0, 1),
        skipped: Collection[int] = (),
        on_bad: OnBad = stop,
    ) -> None:
        self._source = source
        self._batch_size = batch_size
        self._multiple = multiple
        self._on_bad = on_bad
        chosen = spread(range(source.size), limit)[shard[0] :: shard[1]]
        self.indices = [index for index in chosen if index not in skipped]
        self._bad = len(chosen) - len(self.indices)
        self._dataset = self._batches(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        """Yields every batch, from the first."""
        left, batches = self.indices, self._dataset
        while left:
            taken: set[int] = set()
            try:
                for batch in batches:
                    taken.update(batch.index.numpy().tolist())
                    yield batch
                return
            except tf.errors.OpError as error:
                left = [index for index in left if index not in taken]
                bad = _find_bad(self._source, left, self._bad, error, self._on_bad)
                self._bad += 1
                left.remove(bad)
                self.indices = [index for index in self.indices if index != bad]
                self._dataset = self._batches(self.indices)
                batches = self._batches(left)
        if self._bad and not self.indices:
            raise DataError(f"No sample of {self._source.name} can be read.")

    def _batches(self, indices: Sequence[int]) -> tf.data.Dataset:
        return eval_batches(
            self._source, indices, batch_size=self._batch_size, multiple=self._multiple
        )


def _make_augment_batch(
    augment: Augment, crop: Sequence[int], seed: int, device: str
) -> Callable[[Batch, int], Batch]:
    """(batch of whole frames, number of its first sample) -> batch of windows."""

    def change(parts: tuple[Example, tf.Tensor]) -> Example:
        example, own_seed = parts
        return augment(example, crop=crop, seed=own_seed)

    @tf.function
    def change_all(batch: Batch, first: tf.Tensor) -> Batch:
        numbers = first + tf.range(tf.shape(batch.index, tf.int64)[0])
        seeds = tf.stack([tf.fill(tf.shape(numbers), tf.constant(seed, tf.int64)), numbers], 1)
        signature = Example(*(tf.TensorSpec(None, part.dtype) for part in batch[:4]))
        examples = (Example(*batch[:4]), seeds)
        changed = tf.map_fn(change, examples, fn_output_signature=signature)
        return Batch(*Example(*changed), batch.index)

    def augment_batch(batch: Batch, first: int) -> Batch:
        with tf.device(device):
            return change_all(batch, tf.constant(first, tf.int64))

    return augment_batch


def _find_bad(
    source: Source, indices: Iterable[int], left_out: int, error: tf.errors.OpError, on_bad: OnBad
) -> int:
    """The first of `indices` that cannot be read, if `on_bad` has it left out."""
    for index in map(int, indices):
        failure = source.failure(index)
        if failure is None:
            continue
        on_bad(source.ids[index], failure)
        if left_out + 1 > max(1, MOST_BAD * source.size):
            raise DataError(
                f"{left_out + 1} of {source.size} samples of {source.name} cannot be read, more "
                f"than {MOST_BAD:.0%}. The last: {failure}"
            ) from None
        return index
    raise error
