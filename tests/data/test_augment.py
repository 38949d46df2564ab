"""Augmentation: exact values, honest masks, nothing random but the seed."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.augmentation.augment import basic, mirror_left_right, mirror_up_down, random_crop
from pwc_exp.data.sample import Example

HEIGHT, WIDTH = 5, 8


def some_example() -> Example:
    """Frame 1 holds (row, column, 0), frame 2 and flow the same plus a constant."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    frame1 = np.dstack([rows, columns, 0 * rows])
    valid = (np.random.default_rng(0).uniform(size=(HEIGHT, WIDTH)) < 0.6).astype(np.float32)
    parts = (frame1, frame1 + 100, frame1[..., :2] + 200, valid)
    return Example(*(tf.constant(part) for part in parts))


def seed_of(number: int) -> tf.Tensor:
    return tf.constant([7, number], tf.int64)


def test_crop_cuts_the_same_window_out_of_all_parts() -> None:
    example = some_example()
    for number in range(20):
        window = random_crop(example, (3, 4), seed=seed_of(number))
        top, left, _ = window.frame1[0, 0].numpy().astype(int)
        for part, whole in zip(window, example, strict=True):
            np.testing.assert_array_equal(part, whole[top : top + 3, left : left + 4])


def test_crop_reaches_every_place_and_no_other() -> None:
    example = some_example()
    windows = [random_crop(example, (3, 4), seed=seed_of(number)) for number in range(300)]
    places = {tuple(window.frame1[0, 0, :2].numpy().astype(int)) for window in windows}
    assert places == {(top, left) for top in range(3) for left in range(5)}


def test_crop_of_the_whole_size_changes_nothing() -> None:
    example = some_example()
    window = random_crop(example, (HEIGHT, WIDTH), seed=seed_of(0))
    for part, whole in zip(window, example, strict=True):
        np.testing.assert_array_equal(part, whole)


def test_crop_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the crop"):
        random_crop(some_example(), (3, WIDTH + 1), seed=seed_of(0))


def test_mirroring_left_and_right_turns_motion_to_the_right() -> None:
    example = some_example()
    mirrored = mirror_left_right(example)
    np.testing.assert_array_equal(mirrored.frame1, example.frame1[:, ::-1])
    np.testing.assert_array_equal(mirrored.frame2, example.frame2[:, ::-1])
    np.testing.assert_array_equal(mirrored.flow[..., 0], -example.flow[:, ::-1, 0])
    np.testing.assert_array_equal(mirrored.flow[..., 1], example.flow[:, ::-1, 1])
    np.testing.assert_array_equal(mirrored.valid, example.valid[:, ::-1])


def test_mirroring_up_and_down_turns_motion_down() -> None:
    example = some_example()
    mirrored = mirror_up_down(example)
    np.testing.assert_array_equal(mirrored.frame1, example.frame1[::-1])
    np.testing.assert_array_equal(mirrored.frame2, example.frame2[::-1])
    np.testing.assert_array_equal(mirrored.flow[..., 0], example.flow[::-1, :, 0])
    np.testing.assert_array_equal(mirrored.flow[..., 1], -example.flow[::-1, :, 1])
    np.testing.assert_array_equal(mirrored.valid, example.valid[::-1])


def augmented(number: int, probability: float = 0.5) -> Example:
    return basic(
        some_example(),
        crop=(HEIGHT, WIDTH),
        seed=seed_of(number),
        flip_left_right=probability,
        flip_up_down=probability,
    )


def test_probabilities_0_and_1_never_and_always_mirror() -> None:
    whole = some_example()
    for number in range(10):
        np.testing.assert_array_equal(augmented(number, 0.0).flow, whole.flow)
        np.testing.assert_array_equal(augmented(number, 1.0).flow, -whole.flow[::-1, ::-1])


def test_each_mirroring_is_drawn_on_its_own_about_as_often_as_asked() -> None:
    signs = np.array([np.sign(augmented(number).flow[0, 0]) for number in range(200)])
    combinations, counts = np.unique(signs, axis=0, return_counts=True)
    assert len(combinations) == 4
    assert counts.min() > 25


def test_valid_and_its_flow_stay_together() -> None:
    whole = some_example()
    known = {tuple(np.abs(flow)) for flow in whole.flow.numpy()[whole.valid.numpy() > 0]}
    for number in range(20):
        example = basic(
            whole, crop=(3, 4), seed=seed_of(number), flip_left_right=0.5, flip_up_down=0.5
        )
        kept = {tuple(np.abs(flow)) for flow in example.flow.numpy()[example.valid.numpy() > 0]}
        assert kept <= known
        assert example.valid.numpy().sum() == len(kept)


def test_a_map_gives_what_eager_execution_gives() -> None:
    mapped = tf.data.Dataset.range(20).map(
        lambda number: basic(
            some_example(),
            crop=(3, 4),
            seed=tf.stack([tf.constant(7, tf.int64), number]),
            flip_left_right=0.5,
            flip_up_down=0.5,
        )
    )
    assert mapped.element_spec.flow.shape == (3, 4, 2)
    for number, example in enumerate(mapped):
        eager = basic(
            some_example(),
            crop=(3, 4),
            seed=seed_of(number),
            flip_left_right=0.5,
            flip_up_down=0.5,
        )
        for part, other in zip(example, eager, strict=True):
            np.testing.assert_array_equal(part, other)
