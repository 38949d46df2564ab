"""Affine maps: composition in the stated order, inverses that undo."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.augmentation.affine import Affine, about, compose, inverse, rotation, transform

POINTS = tf.constant([[1.0, 5.0, -2.0], [3.0, 0.5, 8.0]])


def some_maps(count: int = 3) -> Affine:
    numbers = np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)
    return Affine(tf.constant(numbers[:, :4].reshape(count, 2, 2)), tf.constant(numbers[:, 4:]))


def test_a_composed_map_applies_the_inner_map_first() -> None:
    turn = Affine(rotation(tf.constant(0.3)), tf.zeros([2]))
    shift = Affine(tf.eye(2), tf.constant([10.0, 0.0]))
    np.testing.assert_allclose(
        transform(compose(turn, shift), POINTS),
        transform(turn, transform(shift, POINTS)),
        rtol=1e-5,
    )
    assert np.abs(compose(turn, shift).offset - compose(shift, turn).offset).max() > 1


def test_an_inverse_undoes_each_of_many_maps() -> None:
    maps = some_maps()
    same = compose(inverse(maps), maps)
    np.testing.assert_allclose(same.linear, np.tile(np.eye(2), (3, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(same.offset, np.zeros((3, 2)), atol=1e-5)


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_the_inverse_of_a_mirroring_and_a_shift_by_pixels_is_exact(signs: list[float]) -> None:
    mirror = Affine(tf.linalg.diag(tf.constant(signs)), tf.constant([1023.0, 7.0]))
    back = inverse(mirror)
    np.testing.assert_array_equal(back.linear, mirror.linear)
    np.testing.assert_array_equal(back.offset, -np.array(signs) * [1023.0, 7.0])


def test_a_positive_rotation_turns_right_into_down() -> None:
    quarter = rotation(tf.constant(math.pi / 2))
    np.testing.assert_allclose(tf.linalg.matvec(quarter, [1.0, 0.0]), [0.0, 1.0], atol=1e-6)


def test_a_map_about_a_centre_leaves_it_in_place() -> None:
    centre = tf.constant([5.0, 11.0])
    kept = transform(about(centre, some_maps().linear), centre[:, None])
    np.testing.assert_allclose(kept, np.tile([[5.0], [11.0]], (3, 1, 1)), atol=1e-4)
