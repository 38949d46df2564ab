"""Batches: a function of (seed, n) alone, every example once, unreadable samples named."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from test_source import flow_of, write_sample

from pwc_exp.data.augmentation import basic
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.pipeline import EvalFeed, OnBad, eval_batches, stop, train_batches, train_feed
from pwc_exp.data.sample import Batch, Example, Part, Source
from pwc_exp.data.source import FileSource
from pwc_exp.errors import DataError, UserError

AUGMENT = partial(basic, flip_left_right=0.5, flip_up_down=0.5)


class NumberedSource:
    """Example i is made of random numbers of its own; its height grows by `growth` for each i."""

    name = "numbered"
    digest = "0" * 8

    def __init__(self, size: int, growth: int = 0) -> None:
        self.size = size
        self.parts: Sequence[Part] = (Part(size, 1.0),)
        self.ids: Sequence[str] = [str(index) for index in range(size)]
        self._growth = growth

    def example(self, index: tf.Tensor) -> Example:
        height = 9 + self._growth * tf.cast(index, tf.int32)
        noise = tf.random.stateless_uniform([height, 12, 9], tf.stack([index, 0]), 0.1)
        noise.set_shape([None, 12, 9])
        return Example(noise[..., :3], noise[..., 3:6], noise[..., 6:8], tf.ones([height, 12]))

    def failure(self, index: int) -> UserError | None:
        return None


def batches_of(source: Source, *, steps: int, start_step: int = 0, **changed: Any) -> list[Batch]:
    options = {"batch_size": 4, "seed": 3, "workers": 2} | changed
    dataset = train_batches(
        source, crop=(5, 8), augment=AUGMENT, start_step=start_step, steps=steps, **options
    )
    return list(dataset)


def assert_equal(ones: list[Batch], others: list[Batch]) -> None:
    assert ones
    for one, other in zip(ones, others, strict=True):
        for part, other_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_a_later_start_with_more_workers_gives_the_same_batches() -> None:
    source = NumberedSource(7)  # epochs end inside of batches
    unbroken = batches_of(source, steps=10)
    for start_step, workers in ((1, 1), (4, 2), (9, 4)):
        later = batches_of(source, steps=10, start_step=start_step, workers=workers)
        assert_equal(later, unbroken[start_step:])


def test_another_seed_gives_another_order_and_other_windows() -> None:
    source = NumberedSource(640)
    (one,), (other,) = (batches_of(source, steps=1, seed=seed) for seed in (0, 1))
    assert (one.index.numpy() != other.index.numpy()).any()
    single = NumberedSource(1)
    (one,), (other,) = (batches_of(single, steps=1, seed=seed) for seed in (0, 1))
    assert (one.frame1.numpy() != other.frame1.numpy()).any()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_evaluation_takes_every_example_of_one_size_once_and_in_order(batch_size: int) -> None:
    source = NumberedSource(7)
    batches = list(eval_batches(source, range(7), batch_size=batch_size, multiple=8))
    assert np.concatenate([batch.index for batch in batches]).tolist() == list(range(7))


def test_padding_is_at_the_bottom_and_right_and_not_valid() -> None:
    source = NumberedSource(1)
    (batch,) = eval_batches(source, [0], batch_size=1, multiple=8)
    example = source.example(tf.constant(0, tf.int64))
    assert batch.frame1.shape == (1, 16, 16, 3)
    for part, whole in zip(batch[:4], example, strict=True):
        np.testing.assert_array_equal(part[0, :9, :12], whole)
        assert not part[0, 9:].numpy().any()
        assert not part[0, :, 12:].numpy().any()


def test_batching_pads_no_frame_more_than_it_is_padded_alone() -> None:
    source = NumberedSource(6, growth=7)
    alone = {
        int(batch.index[0]): batch.valid.shape[1:]
        for batch in eval_batches(source, range(6), batch_size=1, multiple=8)
    }
    batches = list(eval_batches(source, range(6), batch_size=4, multiple=8))
    assert sorted(int(i) for batch in batches for i in batch.index) == list(range(6))
    for batch in batches:
        assert {alone[int(i)] for i in batch.index} == {batch.valid.shape[1:]}


def test_batching_frames_of_several_sizes_does_not_change_the_sums() -> None:
    source = NumberedSource(5, growth=7)

    def sums(batch_size: int) -> list[float]:
        batches = list(eval_batches(source, range(5), batch_size=batch_size, multiple=8))
        assert all(side % 8 == 0 for batch in batches for side in batch.valid.shape[1:])
        per_example = [tf.reduce_sum(b.flow * b.valid[..., None], [1, 2, 3]) for b in batches]
        return [*np.concatenate(per_example), sum(float(tf.reduce_sum(b.valid)) for b in batches)]

    np.testing.assert_allclose(sums(1), sums(2), rtol=1e-5)
    assert sums(2)[-1] == sum(12 * (9 + 7 * index) for index in range(5))


def test_examples_are_taken_in_the_order_they_are_asked_for() -> None:
    batches = eval_batches(NumberedSource(10), [7, 2, 5], batch_size=2, multiple=1)
    assert np.concatenate([batch.index for batch in batches]).tolist() == [7, 2, 5]


NAMES = "abcdefghij" * 4


def files(folder: Path, *broken: int, count: int = 40) -> FileSource:
    """Samples of which some have no flow in their flow file."""
    samples = [write_sample(folder, f"{n:02d}{NAMES[n]}") for n in range(count)]
    for number in broken:
        flow_of(samples[number]).write_bytes(b"<html>")
    return FileSource("fake", samples)


def feed(
    source: Source,
    *,
    steps: int,
    start_step: int = 0,
    on_bad: OnBad = stop,
    device: str | None = None,
    crop: tuple[int, int] = (2, 3),
) -> list[Batch]:
    return list(
        train_feed(
            source,
            batch_size=4,
            crop=crop,
            augment=AUGMENT,
            seed=1,
            start_step=start_step,
            steps=steps,
            workers=2,
            on_bad=on_bad,
            device=device,
        )
    )


def plain(source: Source, **changed: Any) -> EvalFeed:
    return EvalFeed(source, batch_size=2, multiple=1, **changed)


def evaluated(evaluation: EvalFeed) -> list[int]:
    return [int(index) for batch in evaluation for index in batch.index]


class Listed:
    """Lets samples be left out, and notes them."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, sample_id: str, error: UserError) -> None:
        assert isinstance(error, DataError)
        self.ids.append(sample_id)


def test_a_broken_file_raises_the_readers_own_error(tmp_path: Path) -> None:
    source = files(tmp_path, 2, count=6)
    for run in (lambda: feed(source, steps=3), lambda: list(plain(source))):
        with pytest.raises(DataError, match=r"^Not a flow file: .*02c_f\.flo"):
            run()


def test_training_continues_without_the_broken_ones_each_reported_once(tmp_path: Path) -> None:
    listed = Listed()
    source = files(tmp_path, 5, 6)  # the one that is to take the place of 5 is broken too
    broken = feed(source, steps=25, on_bad=listed)
    assert sorted(listed.ids) == ["05f", "06g"]
    whole = feed(files(tmp_path / "whole"), steps=25)
    assert len(broken) == len(whole) == 25
    for one, other in zip(broken, whole, strict=True):
        expected = np.array([{5: 7, 6: 7}.get(int(i), int(i)) for i in other.index])
        np.testing.assert_array_equal(one.index, expected)


def test_a_run_that_begins_after_a_broken_sample_was_left_out_has_the_same_batches(
    tmp_path: Path,
) -> None:
    source = files(tmp_path, 5)
    unbroken = feed(source, steps=20, on_bad=Listed())
    later = feed(source, steps=20, start_step=12, on_bad=Listed())
    for one, other in zip(unbroken[12:], later, strict=True):
        for part, other_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_evaluation_takes_every_other_sample_once_now_and_later(tmp_path: Path) -> None:
    listed = Listed()
    evaluation = plain(files(tmp_path, 5, 30), on_bad=listed)
    rest = [number for number in range(40) if number not in (5, 30)]
    assert sorted(evaluated(evaluation)) == rest
    assert evaluated(evaluation) == rest
    assert listed.ids == ["05f", "30a"]


def test_samples_that_are_skipped_from_the_start_are_never_read(tmp_path: Path) -> None:
    source = files(tmp_path, 5)
    assert evaluated(plain(source, skipped={5})) == [n for n in range(40) if n != 5]
    batches = list(
        train_feed(
            source,
            batch_size=4,
            crop=(2, 3),
            augment=AUGMENT,
            seed=1,
            start_step=0,
            steps=20,
            skipped={5},
        )
    )
    assert 5 not in {int(index) for batch in batches for index in batch.index}


def test_too_many_broken_samples_end_it_with_the_count(tmp_path: Path) -> None:
    source = files(tmp_path, *range(10))
    with pytest.raises(DataError, match=r"3 of 40 samples of fake cannot be read, more than 5%"):
        feed(source, steps=30, on_bad=Listed())
    with pytest.raises(DataError, match="3 of 40 samples"):
        evaluated(plain(source, on_bad=Listed()))


def test_a_single_sample_that_is_broken_leaves_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No sample of fake can be read"):
        evaluated(plain(files(tmp_path, 0, count=1), on_bad=Listed()))


def test_a_limit_of_none_at_all_is_no_error() -> None:
    assert evaluated(plain(NumberedSource(3), limit=0)) == []
    assert evaluated(plain(NumberedSource(9), limit=3)) == [0, 3, 6]


def test_an_error_of_no_file_is_passed_on() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the crop"):
        feed(NumberedSource(2), steps=1, crop=(99, 8))


def test_a_file_that_vanishes_between_epochs_is_named_and_one_that_comes_back_is_read(
    tmp_path: Path,
) -> None:
    sample = write_sample(tmp_path, "a")
    evaluation = plain(FileSource("fake", [sample]))
    assert evaluated(evaluation) == [0]
    flow_of(sample).unlink()
    with pytest.raises(UserError, match=r"a_f\.flo"):
        evaluated(evaluation)
    write_flo(flow_of(sample), np.zeros((4, 6, 2), np.float32))
    assert evaluated(evaluation) == [0]


def test_augmenting_batches_on_a_device_gives_what_the_processor_gives_one_by_one() -> None:
    source = NumberedSource(7)
    for one, other in zip(
        feed(source, steps=5), feed(source, steps=5, device="CPU:0"), strict=True
    ):
        assert other.frame1.shape == (4, 2, 3, 3)
        for part, other_part in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, other_part)


def test_frames_of_several_sizes_cannot_be_augmented_as_batches() -> None:
    with pytest.raises(DataError, match="augment.device needs frames of one size"):
        feed(NumberedSource(7, growth=3), steps=2, device="CPU:0")
