"""Affine maps, and views drawn at random."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.augmentation.geometry import (
    Affine,
    ViewLimits,
    about,
    compose,
    draw_change,
    draw_signs,
    draw_small_change,
    inverse,
    rotation,
    transform,
)
from pwc_exp.data.augmentation.resampling import View

CROP = (24, 32)
SIZE = (40, 56)
NONE: dict[str, Any] = {
    "geometry_probability": 1.0,
    "min_zoom": 1.0,
    "max_zoom": 1.0,
    "squeeze": 0.0,
    "rotate": 0.0,
    "relative_translate": 0.0,
    "relative_rotate": 0.0,
    "relative_zoom": 0.0,
}
SOME = NONE | {
    "min_zoom": 0.8,
    "max_zoom": 1.6,
    "squeeze": 0.2,
    "rotate": 15.0,
    "relative_translate": 0.05,
    "relative_rotate": 3.0,
    "relative_zoom": 0.05,
}
SMALL: dict[str, Any] = {
    "translate_probability": 0.5,
    "translate": 0.1,
    "scale_probability": 0.5,
    "scale": 0.05,
}


def drawn(
    draw: Callable[..., View],
    count: int = 60,
    *,
    size: tuple[int, int] = SIZE,
    signs: tuple[float, float] = (1.0, 1.0),
    **ranges: float,
) -> list[View]:
    limits = {"limits": ViewLimits(**ranges)} if draw is draw_change else ranges
    options: dict[str, Any] = {"size": tf.constant(size), "signs": tf.constant(signs), **limits}
    make = tf.function(partial(draw, crop=CROP, **options))
    seeds = (tf.constant([7, number], tf.int64) for number in range(count))
    return [View(*make(seed)) for seed in seeds]


def linears(views: list[View]) -> np.ndarray:
    """Of the maps from frame 1 to the window, [V, 2, 2]."""
    return np.array([np.linalg.inv(view.frame1_from_window.linear) for view in views])


def corners(linear: tf.Tensor, offset: tf.Tensor) -> np.ndarray:
    ends = np.array([[x, y] for x in (0, CROP[1] - 1) for y in (0, CROP[0] - 1)])
    return ends @ np.asarray(linear).T + np.asarray(offset)


def is_plain(view: View) -> bool:
    parts = (view.frame1_from_window.linear, view.added_motion.linear)
    still = (np.asarray(view.added_motion.offset) == 0).all()
    return bool(still and all(np.array_equal(np.abs(part), np.eye(2)) for part in parts))


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, -1.0)])
def test_the_window_is_inside_of_both_frames(signs: tuple[float, float]) -> None:
    views = drawn(draw_change, signs=signs, **SOME)
    assert sum(is_plain(view) for view in views) == 0
    for view in views:
        frame2_from_window = compose(view.frame1_from_window, inverse(view.added_motion))
        for frame_from_window in (view.frame1_from_window, frame2_from_window):
            seen = corners(*frame_from_window)
            assert seen.min() > -1e-3
            assert (seen < [SIZE[1] - 1 + 1e-3, SIZE[0] - 1 + 1e-3]).all()


def test_zoom_and_squeeze_and_rotation_fill_their_ranges() -> None:
    scales = np.linalg.norm(
        linears(drawn(draw_change, 200, **NONE | {"min_zoom": 0.8, "max_zoom": 1.6})), axis=2
    )
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], rtol=1e-4)
    assert 0.8 <= scales.min() < 0.85
    assert 1.5 < scales.max() <= 1.6001

    squeezed = np.log(
        np.linalg.norm(linears(drawn(draw_change, **NONE | {"squeeze": 0.2})), axis=2)
    )
    np.testing.assert_allclose(squeezed.sum(axis=1), 0, atol=1e-5)
    ratios = squeezed[:, 0] - squeezed[:, 1]
    assert -0.2001 <= ratios.min() < -0.15
    assert 0.15 < ratios.max() <= 0.2001

    turned = linears(drawn(draw_change, **NONE | {"rotate": 15.0}))
    angles = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert -15.001 <= angles.min() < -11
    assert 11 < angles.max() <= 15.001


def test_added_motion_fills_its_ranges_about_the_centre() -> None:
    views = drawn(draw_change, 100, **NONE | {"relative_translate": 0.1, "relative_zoom": 0.05})
    centre = np.array([CROP[1] - 1, CROP[0] - 1]) / 2
    shifts = [
        view.added_motion.linear @ centre[:, None]
        + view.added_motion.offset[:, None]
        - centre[:, None]
        for view in views
    ]
    farthest = np.abs(np.array(shifts)[..., 0]).max(axis=0)
    np.testing.assert_array_less(farthest, [3.201, 2.401])
    np.testing.assert_array_less([2.5, 1.9], farthest)
    zooms = np.array([view.added_motion.linear[0, 0] for view in views])
    assert np.exp(-0.0501) <= zooms.min() < 0.97
    assert 1.03 < zooms.max() <= np.exp(0.0501)


def test_no_ranges_and_probability_0_are_plain_crops_at_every_place() -> None:
    for ranges in (NONE, SOME | {"geometry_probability": 0.0}):
        views = drawn(draw_change, 60, size=(26, 34), **ranges)
        assert all(is_plain(view) for view in views)
        places = {tuple(view.frame1_from_window.offset.numpy()) for view in views}
        assert places == {(x, y) for x in (0.0, 1.0, 2.0) for y in (0.0, 1.0, 2.0)}


def test_mirroring_turns_the_window_around_inside_of_the_frame() -> None:
    for view in drawn(draw_change, 40, size=(25, 32), signs=(-1.0, 1.0), **NONE):
        left, top = view.frame1_from_window.offset.numpy()
        assert left == CROP[1] - 1
        assert top in (0, 1)


def test_where_nothing_fits_the_window_is_a_plain_crop() -> None:
    ranges = SOME | {"min_zoom": 0.5, "max_zoom": 0.6}
    assert all(is_plain(view) for view in drawn(draw_change, 20, size=CROP, **ranges))


def test_a_frame_of_the_size_of_the_crop_still_lets_enlarged_windows_in() -> None:
    views = drawn(draw_change, 20, size=CROP, **SOME)
    assert sum(is_plain(view) for view in views) < 5


def test_changes_happen_as_often_as_asked() -> None:
    changed = sum(
        not is_plain(view) for view in drawn(draw_change, **SOME | {"geometry_probability": 0.5})
    )
    assert 18 <= changed <= 42


def test_small_changes_are_whole_pixels_and_zooms_drawn_on_their_own() -> None:
    views = drawn(draw_small_change, 200, **SMALL)
    zooms = linears(views)[:, 0, 0]
    shifts = np.array([view.added_motion.offset for view in views]) / zooms[:, None]
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-4)
    np.testing.assert_array_equal(np.abs(shifts).max(axis=0).round(), [3, 2])  # of 32 x 24
    assert len(np.unique(shifts.round(), axis=0)) > 25
    assert 0.95 <= zooms.min() < 0.96
    assert 1.04 < zooms.max() <= 1.05
    moved, zoomed = (shifts != 0).any(axis=1), zooms != 1
    for combination in (moved & zoomed, moved & ~zoomed, ~moved & zoomed, ~moved & ~zoomed):
        assert 25 <= combination.sum() <= 75


def test_small_changes_of_probability_0_are_plain_crops() -> None:
    ranges = SMALL | {"translate_probability": 0.0, "scale_probability": 0.0}
    assert all(is_plain(view) for view in drawn(draw_small_change, 20, **ranges))


def test_signs_are_drawn_on_their_own_as_often_as_asked() -> None:
    seeds = [tf.constant([7, number], tf.int64) for number in range(200)]
    signs = np.array([draw_signs(seed, flip_left_right=0.5, flip_up_down=0.2) for seed in seeds])
    assert 75 <= (signs[:, 0] < 0).sum() <= 125
    assert 22 <= (signs[:, 1] < 0).sum() <= 58
    assert ((signs < 0).all(axis=1)).sum() > 5


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
