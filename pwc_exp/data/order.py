"""Which example is sample number n of a run: a function of the seed and n, and of nothing else.

The parts of a source take turns in a fixed pattern, each with the share of its weight; within a
part, every epoch of that part takes each example once, in an order of its own.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from pwc_exp.data.sample import Part

_RESOLUTION = 1000  # shares are rounded to so many parts of the whole
_SEEDS_APART = 7919  # between the parts of a source, so that no two have one order


_T = TypeVar("_T")


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


def spread(items: Sequence[_T], limit: int | None) -> Sequence[_T]:
    """At most `limit` of the items, evenly spread over them; all of them without a limit."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


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
