"""Several sources as one: each example is its source's own, ids stay unique."""

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.mixed_source import MixedSource
from pwc_exp.data.sample import Example, Part
from pwc_exp.errors import DataError, UserError


class ConstantSource:
    """Examples of one size whose frames hold `value` plus their number."""

    def __init__(self, name: str, size: int, value: float, height: int = 4) -> None:
        self.name = name
        self.size = size
        self.ids: Sequence[str] = [f"{number}" for number in range(size)]
        self.digest = f"{name}{size}"
        self.parts: Sequence[Part] = (Part(size, 1.0),)
        self._value = value
        self._height = height

    def example(self, index: tf.Tensor) -> Example:
        frame = tf.fill([self._height, 6, 3], self._value + tf.cast(index, tf.float32))
        return Example(frame, frame, frame[..., :2], frame[..., 0])

    def failure(self, index: int) -> UserError | None:
        return DataError(f"{self.name} {index}") if index == 1 else None


def sources() -> list[ConstantSource]:
    return [ConstantSource("a", 2, 10.0), ConstantSource("b", 3, 20.0, height=5)]


def test_examples_of_all_sources_follow_each_other_inside_and_outside_of_a_map() -> None:
    mixed = MixedSource(sources(), weights=None)
    assert (mixed.name, mixed.size) == ("a+b", 5)
    mapped = list(tf.data.Dataset.range(5).map(mixed.example))
    for number, expected in enumerate([10, 11, 20, 21, 22]):
        eager = mixed.example(tf.constant(number, tf.int64))
        assert float(eager.frame1[0, 0, 0]) == expected
        assert eager.valid.shape[0] == (4 if number < 2 else 5)
        np.testing.assert_array_equal(mapped[number].flow, eager.flow)


def test_ids_begin_with_the_name_of_their_source_and_are_unique() -> None:
    assert MixedSource(sources(), weights=None).ids == ["a/0", "a/1", "b/0", "b/1", "b/2"]
    twins = MixedSource([ConstantSource("a", 1, 0), ConstantSource("a", 1, 0)], weights=None)
    assert twins.ids == ["a-1/0", "a-2/0"]


def test_sources_of_one_label_are_one_data_set_whose_ids_stay_unique() -> None:
    pair = [ConstantSource("a", 1, 0), ConstantSource("a", 1, 0), ConstantSource("b", 1, 0)]
    labelled = MixedSource(pair, weights=None, labels=["x", "x", None])
    assert labelled.ids == ["x-1/0", "x-2/0", "b/0"]
    assert labelled.labels == ["x", "x", "b"]
    assert MixedSource(pair, weights=None).labels == ["a-1", "a-2", "b"]


def test_weights_make_parts_and_without_them_all_are_shuffled_together() -> None:
    assert list(MixedSource(sources(), weights=None).parts) == [Part(5, 1.0)]
    assert list(MixedSource(sources(), weights=[3, 1]).parts) == [Part(2, 3), Part(3, 1)]


@pytest.mark.parametrize(("index", "line"), [(0, None), (1, "a 1"), (2, None), (3, "b 1")])
def test_a_failure_is_that_of_the_source_that_has_the_example(index: int, line: str | None) -> None:
    failure = MixedSource(sources(), weights=None).failure(index)
    assert (None if failure is None else str(failure)) == line


def test_digest_depends_on_sources_and_weights() -> None:
    digests = {
        MixedSource(sources(), weights=weights).digest for weights in (None, [1, 1], [2, 1])
    } | {MixedSource(sources()[:1], weights=None).digest}
    assert len(digests) == 4
