"""Which samples: order, every epoch a permutation, every part its share; train and val apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.pipeline import example_of, substitutes, turns_of
from pwc_exp.data.sample import Part, Sample, spread, take_split


def order(parts: list[Part], numbers: range, seed: int = 3) -> list[int]:
    dataset = tf.data.Dataset.range(numbers.start, numbers.stop)
    return list(dataset.map(lambda n: example_of(n, parts, seed=seed)).as_numpy_iterator())


@pytest.mark.parametrize(
    ("weights", "count"),
    [([5.0], [1]), ([2, 1, 1], [2, 1, 1]), ([0.5, 0.25], [667, 333]), ([1e6, 1], [1000, 1])],
)
def test_parts_have_slots_by_their_weights_and_at_least_one(
    weights: list[float], count: list[int]
) -> None:
    turns = turns_of(weights)
    assert turns.slots.tolist() == count
    assert Counter(turns.part.tolist()) == dict(enumerate(count))


def test_a_batch_as_long_as_the_pattern_holds_every_part_as_often_as_its_weight_says() -> None:
    parts = [Part(5, 2.0), Part(3, 1.0), Part(7, 1.0)]
    numbers = order(parts, range(4 * 50))
    for batch in np.reshape(numbers, (50, 4)):
        assert sorted(np.digitize(batch, [5, 8])) == [0, 0, 1, 2]


def test_slots_of_a_part_are_spread_evenly() -> None:
    gaps = np.diff(np.flatnonzero(turns_of([3, 1]).part == 0))
    assert gaps.max() <= 2
    places = np.flatnonzero(turns_of([0.9, 0.1]).part == 1)
    assert set(np.diff(places)) <= {10} or len(places) == 1


def test_within_a_part_every_epoch_takes_each_example_once_in_an_order_of_its_own() -> None:
    parts = [Part(12, 3.0), Part(10, 1.0)]
    numbers = np.array(order(parts, range(160)))
    for start, size in ((0, 12), (12, 10)):
        own = numbers[(numbers >= start) & (numbers < start + size)]
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert len(epochs) >= 3
        for epoch in epochs:
            assert sorted(epoch) == list(range(start, start + size))
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_parts_of_one_size_do_not_share_an_order() -> None:
    numbers = np.array(order([Part(50, 1.0), Part(50, 1.0)], range(100)))
    assert (numbers[0::2] != numbers[1::2] - 50).any()


def test_a_number_far_on_is_reached_at_once_and_agrees() -> None:
    parts = [Part(22_232, 1.0), Part(19_050, 2.0)]
    far = 8 * 10**6
    (one,) = order(parts, range(far + 5, far + 6))
    assert order(parts, range(far, far + 10))[5] == one


def test_one_part_is_shuffled_whatever_its_weight() -> None:
    assert order([Part(9, 1.0)], range(30)) == order([Part(9, 0.1)], range(30))
    assert order([Part(9, 1.0)], range(30), seed=4) != order([Part(9, 1.0)], range(30))


def test_a_skipped_example_is_replaced_by_the_next_of_its_part() -> None:
    parts = [Part(3, 1.0), Part(3, 1.0)]
    assert substitutes(parts, {1, 2, 4}).tolist() == [0, 0, 0, 3, 5, 5]
    assert substitutes(parts, {0}).tolist() == [1, 1, 2, 3, 4, 5]
    assert substitutes(parts, {3, 4, 5}).tolist() == [0, 1, 2, 3, 4, 5]  # nothing else is left


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, "abcdefghij"), (99, "abcdefghij"), (10, "abcdefghij"), (3, "adg"), (1, "a"), (0, "")],
)
def test_a_limit_is_spread_evenly(limit: int | None, expected: str) -> None:
    assert "".join(spread("abcdefghij", limit)) == expected


def samples_of(*scenes: str, split: str | None = None) -> list[Sample]:
    path = Path("x")
    return [
        Sample(f"{scene}/{number}", scene, path, path, path, split=split)
        for scene in scenes
        for number in range(3)
    ]


def scenes_of(samples: list[Sample]) -> set[str]:
    return {sample.scene for sample in samples}


SCENES = [f"scene_{number}" for number in range(200)]


def split(samples: list[Sample], val_share: float) -> list[list[Sample]]:
    return [take_split(samples, side, val_share=val_share) for side in ("train", "val")]


@pytest.mark.parametrize("val_share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3, 23, 200])
def test_no_scene_is_on_both_sides_and_no_side_is_empty(count: int, val_share: float) -> None:
    samples = samples_of(*SCENES[:count])
    train, val = split(samples, val_share)
    assert not scenes_of(train) & scenes_of(val)
    assert train
    assert val
    assert sorted(train + val) == sorted(samples)


def test_val_holds_about_its_share_and_further_scenes_do_not_move_the_known_ones() -> None:
    few, many = (
        scenes_of(split(samples_of(*scenes), 0.2)[1]) for scenes in (SCENES[:100], SCENES[::-1])
    )
    assert 25 <= len(many) <= 55
    assert few == many & set(SCENES[:100])


def test_a_single_scene_is_on_both_sides() -> None:
    samples = samples_of("only")
    assert split(samples, 0.1) == [samples, samples]


def test_the_data_sets_own_split_is_honoured() -> None:
    official = samples_of("a", "b", split="train") + samples_of("c", split="val")
    assert [scenes_of(side) for side in split(official, 0.5)] == [{"a", "b"}, {"c"}]
    assert take_split(official, "all", val_share=0.5) == official
