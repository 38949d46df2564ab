"""Augmentation: exact values, masks, randomness from the seed, flow that explains the frames."""

import math
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from analytic_scene import visible_example
from numpy_warp import RIGHT, errors_of_readings, right_reading_is_best, sample, warping_error

from pwc_exp.data.augmentation import (
    ViewLimits,
    basic,
    draw_view,
    heavy,
    mirror_left_right,
    mirror_up_down,
    modern,
)
from pwc_exp.data.augmentation.resampling import (
    Affine,
    View,
    about,
    compose,
    inverse,
    rotation,
    transform,
)
from pwc_exp.data.formats.images import read_frame
from pwc_exp.data.formats.io import read_flow
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


def cropped(number: int, crop: tuple[int, int] = (3, 4), probability: float = 0.0) -> Example:
    flips = {"flip_left_right": probability, "flip_up_down": probability}
    return basic(some_example(), crop=crop, seed=seed_of(number), **flips)


def test_crop_cuts_one_window_out_of_all_parts_at_every_place_and_no_other() -> None:
    example, places = some_example(), set()
    for number in range(300):
        window = cropped(number)
        top, left, _ = window.frame1[0, 0].numpy().astype(int)
        places.add((top, left))
        for part, whole in zip(window, example, strict=True):
            np.testing.assert_array_equal(part, whole[top : top + 3, left : left + 4])
    assert places == {(top, left) for top in range(3) for left in range(5)}


def test_crop_of_the_whole_size_changes_nothing_and_a_larger_one_is_refused() -> None:
    for part, whole in zip(cropped(0, (HEIGHT, WIDTH)), some_example(), strict=True):
        np.testing.assert_array_equal(part, whole)
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the crop"):
        cropped(0, (3, WIDTH + 1))


@pytest.mark.parametrize(
    ("mirror", "axis", "signs"), [(mirror_left_right, 1, [-1, 1]), (mirror_up_down, 0, [1, -1])]
)
def test_mirroring_turns_motion(
    mirror: Callable[[Example], Example], axis: int, signs: list[int]
) -> None:
    example = some_example()
    mirrored = mirror(example)
    np.testing.assert_array_equal(mirrored.flow, np.flip(example.flow, axis) * signs)
    for part, whole in ((m, w) for m, w in zip(mirrored, example, strict=True) if w.shape[-1] != 2):
        np.testing.assert_array_equal(part, np.flip(whole, axis))


def test_each_mirroring_is_drawn_on_its_own_as_often_as_asked() -> None:
    whole, size = some_example(), (HEIGHT, WIDTH)
    np.testing.assert_array_equal(cropped(3, size, 1.0).flow, -whole.flow[::-1, ::-1])
    signs = np.array([np.sign(cropped(number, size, 0.5).flow[0, 0]) for number in range(200)])
    combinations, counts = np.unique(signs, axis=0, return_counts=True)
    assert len(combinations) == 4
    assert counts.min() > 25


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
        for part, other in zip(example, cropped(number, probability=0.5), strict=True):
            np.testing.assert_array_equal(part, other)


Recipe = partial[Example]

PLAIN = ("asymmetry", "brightness", "contrast", "saturation", "hue", "gamma", "noise")
NO_ERASER: dict[str, Any] = {"eraser_probability": 0.0, "eraser_patches": 2, "eraser_size": 10.0}
NO_COLOURS = dict.fromkeys(PLAIN, 0.0) | NO_ERASER
COLOURS = NO_COLOURS | {
    "asymmetry": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 50.0,
    "gamma": 0.3,
    "noise": 0.05,
}
GEOMETRY: dict[str, Any] = {
    "flip_left_right": 0.5,
    "flip_up_down": 0.5,
    "geometry_probability": 1.0,
    "min_zoom": 0.8,
    "max_zoom": 1.6,
    "squeeze": 0.2,
    "rotate": 20.0,
    "relative_translate": 0.05,
    "relative_rotate": 4.0,
    "relative_zoom": 0.05,
}
MILD = GEOMETRY | {"flip_up_down": 0.0, "max_zoom": 1.3, "rotate": 0.0, "relative_rotate": 0.0}
SMALL: dict[str, Any] = {
    "flip_left_right": 0.5,
    "flip_up_down": 0.5,
    "translate_probability": 0.5,
    "translate": 0.1,
    "scale_probability": 0.5,
    "scale": 0.1,
}
RECIPES: dict[str, Recipe] = {
    "heavy": partial(heavy, **SMALL),
    "modern": partial(modern, **GEOMETRY, **NO_COLOURS),
    "modern for sparse truth": partial(modern, **MILD, **NO_COLOURS),
    "modern with colours": partial(
        modern, **GEOMETRY, **COLOURS | {"eraser_probability": 0.5, "noise": 0.02}
    ),
}
GEOMETRIC = {name: augment for name, augment in RECIPES.items() if "colours" not in name}
every_recipe = pytest.mark.parametrize("augment", RECIPES.values(), ids=RECIPES.keys())
every_geometry = pytest.mark.parametrize("augment", GEOMETRIC.values(), ids=GEOMETRIC.keys())

RECIPE_HEIGHT, RECIPE_WIDTH = 20, 28
CROP = (12, 16)
LARGE = (192, 320)


def sparse_example(share: float = 0.6) -> Example:
    """Frame 1 holds (row, column, 0) / 32; flow tells every pixel from all others."""
    rows, columns = np.mgrid[:RECIPE_HEIGHT, :RECIPE_WIDTH].astype(np.float32)
    frame1 = np.dstack([rows, columns, 0 * rows]) / np.float32(32)
    known = (np.random.default_rng(0).uniform(size=(RECIPE_HEIGHT, RECIPE_WIDTH)) < share).astype(
        np.float32
    )
    flow = np.dstack([3 * rows + 1, 3 * columns + 1]) * known[..., None]
    return Example(*(tf.constant(part) for part in (frame1, 0.9 * frame1, flow, known)))


@cache
def compiled(augment: Recipe, crop: tuple[int, int]) -> Callable[..., Example]:
    """One trace for frames of all sizes, as sources of files need it."""
    shapes = ([None, None, 3], [None, None, 3], [None, None, 2], [None, None])
    example = Example(*(tf.TensorSpec(shape, tf.float32) for shape in shapes))

    @tf.function(input_signature=[example, tf.TensorSpec([2], tf.int64)])
    def make(example: Example, seed: tf.Tensor) -> Example:
        return augment(example, crop=crop, seed=seed)

    return make


def many(augment: Recipe, example: Example, crop: tuple[int, int], count: int) -> list[Example]:
    make = compiled(augment, crop)
    return [arrays(make(example, seed_of(number))) for number in range(count)]


def arrays(example: Example) -> Example:
    return Example(*(part.numpy() for part in example))


def into_content(example: Example) -> np.ndarray:
    """Valid pixels whose target lies in a part of frame 2 that is not black."""
    height, width = example.valid.shape
    rows, columns = np.mgrid[:height, :width]
    x = np.clip(columns + example.flow[..., 0], 0, width - 1).ravel()
    y = np.clip(rows + example.flow[..., 1], 0, height - 1).ravel()
    content = np.zeros((height, width), bool)
    content[1:-1, 1:-1] = True
    for axis, step in product((0, 1), (1, -1)):  # at its edge content is mixed with black
        content &= np.roll(example.frame2.max(axis=-1) > 0.1, step, axis)
    hits = sample(content[..., None].astype(np.float32), x, y).reshape(height, width)
    return (example.valid > 0) & (hits == 1)


@every_geometry
@pytest.mark.parametrize("number", range(2))
def test_frame2_warped_by_the_flow_is_frame1_as_well_as_before(
    augment: Recipe, number: int
) -> None:
    scene = visible_example(number)
    assert warping_error(*scene[:3], scene.valid > 0) < 0.002
    example = Example(*(tf.constant(part) for part in scene))
    for made in many(augment, example, LARGE, 10):
        mask = into_content(made)
        assert mask.mean() > 0.25
        errors = errors_of_readings(made.frame1, made.frame2, made.flow, mask)
        assert right_reading_is_best(errors, factor=4)
        assert errors[RIGHT] < 0.003  # the frames were sampled once more


def real_example(root: Path, names: str) -> Example:
    """names: common{frame 1,frame 2,flow}."""
    common, _, rest = names.rstrip("}").partition("{")
    frame1, frame2, flow = (root / f"{common}{name}" for name in rest.split(","))
    parts = (read_frame(frame1), read_frame(frame2), *read_flow(flow))
    return Example(*(tf.constant(part) for part in parts))


@every_geometry
@pytest.mark.parametrize(
    "names",
    [
        "FlyingChairs_release/data/00002_{img1.ppm,img2.ppm,flow.flo}",
        "MPI-Sintel/training/{clean/cave_2/frame_0002.png,clean/cave_2/frame_0003.png,"
        "flow/cave_2/frame_0002.flo}",
        "kitti2015/training/{image_2/000000_10.png,image_2/000000_11.png,flow_noc/000000_10.png}",
    ],
    ids=["chairs", "sintel", "kitti"],
)
def test_flow_of_real_pairs_explains_frame1_better_than_seven_misreadings(
    augment: Recipe, names: str, shared: Path
) -> None:
    example = real_example(shared / "data", names)
    for made in many(augment, example, LARGE, 3):
        errors = errors_of_readings(made.frame1, made.frame2, made.flow, into_content(made))
        assert right_reading_is_best(errors, factor=1.3)


@every_recipe
def test_parts_are_finite_and_in_range_and_of_static_shape(augment: Recipe) -> None:
    example = sparse_example()
    for made in many(augment, example, CROP, 30):
        assert [part.shape for part in made] == [(*CROP, 3), (*CROP, 3), (*CROP, 2), CROP]
        assert all(np.isfinite(part).all() for part in made)
        for frame in (made.frame1, made.frame2):
            assert frame.min() >= 0
            assert frame.max() <= 1
        assert set(np.unique(made.valid)) <= {0.0, 1.0}
        assert (made.flow[made.valid == 0] == 0).all()


@pytest.mark.parametrize("name", ["heavy", "modern with colours"])
def test_a_map_gives_the_bits_of_eager_execution_and_a_batch_the_same_to_rounding(
    name: str,
) -> None:
    augment, example = RECIPES[name], sparse_example()

    def made(number: tf.Tensor) -> Example:
        end = 100 + tf.cast(number, tf.int32)  # frames of unknown size, as sources of files have
        parts = Example(*(part[:end, :end] for part in example))
        return augment(parts, crop=CROP, seed=tf.stack([tf.constant(7, tf.int64), number]))

    mapped = tf.data.Dataset.range(4).map(made, num_parallel_calls=2)
    spec = mapped.element_spec
    assert [part.shape for part in spec] == [(*CROP, 3), (*CROP, 3), (*CROP, 2), CROP]
    batch = tf.function(
        lambda: tf.map_fn(made, tf.range(4, dtype=tf.int64), fn_output_signature=spec)
    )()
    for number, (one, *others) in enumerate(zip(mapped, *batch, strict=True)):
        eager = made(tf.constant(number, tf.int64))
        for part, other, expected in zip(one, others, eager, strict=True):
            np.testing.assert_array_equal(part, expected)
            np.testing.assert_allclose(other, expected, rtol=1e-6, atol=1e-5)


def assert_a_window(made: Example, example: Example) -> None:
    """`made` is cut out of `example`, bit for bit."""
    top, left = (made.frame1[0, 0, :2] * 32).astype(int)
    for part, whole in zip(made, example, strict=True):
        cut = whole[top : top + CROP[0], left : left + CROP[1]]
        np.testing.assert_array_equal(part, cut)


STILL = {"flip_left_right": 0.0, "flip_up_down": 0.0}


@pytest.mark.parametrize(
    "augment",
    [
        partial(heavy, **SMALL | STILL | {"translate_probability": 0.0, "scale_probability": 0.0}),
        partial(modern, **GEOMETRY | STILL | {"geometry_probability": 0.0}, **NO_COLOURS),
    ],
    ids=["heavy", "modern"],
)
def test_probability_0_is_a_plain_crop(augment: Recipe) -> None:
    example = sparse_example()
    places = set()
    for number in range(8):
        made = arrays(augment(example, crop=CROP, seed=seed_of(number)))
        assert_a_window(made, example)
        places.add(tuple(made.frame1[0, 0]))
    assert len(places) > 4


def test_heavy_shifts_by_whole_pixels_and_zooms_within_its_range_each_on_its_own() -> None:
    ramp = np.tile(np.arange(56, dtype=np.float32) / 64, (40, 1))  # its slope says the zoom
    frame = tf.constant(np.dstack([ramp] * 3))
    example = Example(frame, frame, tf.zeros([40, 56, 2]), tf.ones([40, 56]))
    augment = partial(heavy, **SMALL | {"flip_left_right": 0.0, "scale": 0.05})
    made = many(augment, example, (24, 32), 200)
    zooms = np.array([10 / 64 / (one.frame1[12, 20, 0] - one.frame1[12, 10, 0]) for one in made])
    shifts = np.array([one.flow[12, 15] for one in made]) / zooms[:, None]
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-3)
    np.testing.assert_array_equal(np.abs(shifts).max(axis=0).round(), [3, 2])  # of 32 x 24
    assert len(np.unique(shifts.round(), axis=0)) > 25
    assert 0.9499 < zooms.min() < 0.96
    assert 1.04 < zooms.max() < 1.0501
    moved, zoomed = (shifts.round() != 0).any(axis=1), np.abs(zooms - 1) > 1e-4
    for combination in (moved & zoomed, moved & ~zoomed, ~moved & zoomed, ~moved & ~zoomed):
        assert 25 <= combination.sum() <= 75


@every_recipe
def test_a_frame_of_the_size_of_the_crop_is_accepted_and_a_smaller_one_refused(
    augment: Recipe,
) -> None:
    example = Example(*(part[: CROP[0], : CROP[1]] for part in sparse_example()))
    for made in many(augment, example, CROP, 5):
        assert made.valid.mean() > 0.1
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than the crop"):
        augment(example, crop=(CROP[0], CROP[1] + 1), seed=seed_of(0))


@every_geometry
def test_lone_measurements_never_become_more(augment: Recipe) -> None:
    example = sparse_example(share=0.3)
    lone = np.zeros((RECIPE_HEIGHT, RECIPE_WIDTH), np.float32)
    lone[::2, ::2] = example.valid.numpy()[::2, ::2]
    example = example._replace(flow=example.flow * lone[..., None], valid=tf.constant(lone))
    for made in many(augment, example, CROP, 30):
        assert 0 < made.valid.sum() <= lone.sum()


def test_colours_leave_flow_and_mask_alone() -> None:
    example = sparse_example()
    plain = many(RECIPES["modern"], example, CROP, 10)
    coloured = many(RECIPES["modern with colours"], example, CROP, 10)
    for one, other in zip(plain, coloured, strict=True):
        np.testing.assert_array_equal(one.flow, other.flow)
        np.testing.assert_array_equal(one.valid, other.valid)
        assert np.abs(one.frame1 - other.frame1).mean() > 0.005


def test_patches_are_in_frame2_only() -> None:
    erasing: Recipe = partial(modern, **GEOMETRY, **NO_COLOURS | {"eraser_probability": 1.0})
    example = sparse_example()
    plain = many(RECIPES["modern"], example, CROP, 3)
    for number, one in enumerate(plain):
        other = arrays(erasing(example, crop=CROP, seed=seed_of(number)))
        assert not np.array_equal(one.frame2, other.frame2)
        np.testing.assert_allclose(other.frame1, one.frame1, atol=1e-6)
        np.testing.assert_allclose(other.flow, one.flow, atol=1e-4)


def test_frames_have_noise_of_their_own() -> None:
    grey = tf.fill([40, 40, 3], 0.5)
    example = Example(grey, grey, tf.zeros([40, 40, 2]), tf.ones([40, 40]))
    noisy: Recipe = partial(modern, **GEOMETRY, **NO_COLOURS | {"noise": 0.05})
    for number in range(3):
        made = arrays(noisy(example, crop=(24, 24), seed=seed_of(number)))
        assert min(made.frame1.std(), made.frame2.std()) > 1e-4
        correlation = np.corrcoef(made.frame1.ravel(), made.frame2.ravel())[0, 1]
        assert abs(correlation) < 0.15


def test_pixels_that_show_nothing_of_frame1_are_not_valid() -> None:
    white = Example(*(tf.ones([*CROP, *part.shape[2:]]) for part in sparse_example()))
    shares = []
    for made in many(RECIPES["heavy"], white, CROP, 30):
        np.testing.assert_array_equal(made.valid, made.frame1[..., 0] > 0.999)
        shares.append(made.valid.mean())
    assert min(shares) < 0.9
    assert max(shares) == 1


VIEW_CROP = (24, 32)
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
SOME = {name: GEOMETRY[name] for name in NONE}


def drawn(
    count: int = 60,
    *,
    size: tuple[int, int] = SIZE,
    signs: tuple[float, float] = (1.0, 1.0),
    **ranges: float,
) -> list[View]:
    options: dict[str, Any] = {"size": tf.constant(size), "signs": tf.constant(signs)}
    make = tf.function(
        partial(draw_view, crop=VIEW_CROP, limits=ViewLimits(**NONE | ranges), **options)
    )
    return [View(*make(seed_of(number))) for number in range(count)]


def linears(views: list[View]) -> np.ndarray:
    """Of the maps from frame 1 to the window, [V, 2, 2]."""
    return np.array([np.linalg.inv(view.frame1_from_window.linear) for view in views])


def is_plain(view: View) -> bool:
    parts = (view.frame1_from_window.linear, view.added_motion.linear)
    still = (np.asarray(view.added_motion.offset) == 0).all()
    return bool(still and all(np.array_equal(np.abs(part), np.eye(2)) for part in parts))


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, -1.0)])
def test_the_window_is_inside_of_both_frames(signs: tuple[float, float]) -> None:
    views = drawn(signs=signs, **SOME)
    ends = np.array([[x, y] for x in (0, VIEW_CROP[1] - 1) for y in (0, VIEW_CROP[0] - 1)])
    assert sum(is_plain(view) for view in views) == 0
    for view in views:
        frame2_from_window = compose(view.frame1_from_window, inverse(view.added_motion))
        for linear, offset in (view.frame1_from_window, frame2_from_window):
            seen = ends @ np.asarray(linear).T + np.asarray(offset)
            assert seen.min() > -1e-3
            assert (seen < [SIZE[1] - 1 + 1e-3, SIZE[0] - 1 + 1e-3]).all()


def test_zoom_and_squeeze_and_rotation_fill_their_ranges() -> None:
    scales = np.linalg.norm(linears(drawn(200, min_zoom=0.8, max_zoom=1.6)), axis=2)
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], rtol=1e-4)
    assert 0.8 <= scales.min() < 0.85
    assert 1.5 < scales.max() <= 1.6001

    squeezed = np.log(np.linalg.norm(linears(drawn(squeeze=0.2)), axis=2))
    np.testing.assert_allclose(squeezed.sum(axis=1), 0, atol=1e-5)
    ratios = squeezed[:, 0] - squeezed[:, 1]
    assert -0.2001 <= ratios.min() < -0.15
    assert 0.15 < ratios.max() <= 0.2001

    turned = linears(drawn(rotate=15.0))
    angles = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert -15.001 <= angles.min() < -11
    assert 11 < angles.max() <= 15.001


def test_added_motion_fills_its_ranges_about_the_centre() -> None:
    views = drawn(100, relative_translate=0.1, relative_zoom=0.05)
    centre = np.array([VIEW_CROP[1] - 1, VIEW_CROP[0] - 1]) / 2
    moved = [transform(view.added_motion, centre[:, None].astype(np.float32)) for view in views]
    farthest = np.abs(np.array(moved)[..., 0] - centre).max(axis=0)
    np.testing.assert_array_less(farthest, [3.201, 2.401])
    np.testing.assert_array_less([2.5, 1.9], farthest)
    zooms = np.array([view.added_motion.linear[0, 0] for view in views])
    assert np.exp(-0.0501) <= zooms.min() < 0.97
    assert 1.03 < zooms.max() <= np.exp(0.0501)


def test_no_ranges_and_probability_0_are_plain_crops_at_every_place() -> None:
    for ranges in (NONE, SOME | {"geometry_probability": 0.0}):
        views = drawn(60, size=(26, 34), **ranges)
        assert all(is_plain(view) for view in views)
        places = {tuple(view.frame1_from_window.offset.numpy()) for view in views}
        assert places == {(x, y) for x in (0.0, 1.0, 2.0) for y in (0.0, 1.0, 2.0)}
    changed = drawn(**SOME | {"geometry_probability": 0.5})
    assert 18 <= sum(not is_plain(view) for view in changed) <= 42


def test_where_nothing_fits_the_window_is_a_plain_crop() -> None:
    shrunk = SOME | {"min_zoom": 0.5, "max_zoom": 0.6}
    assert all(is_plain(view) for view in drawn(20, size=VIEW_CROP, **shrunk))
    assert sum(is_plain(view) for view in drawn(20, size=VIEW_CROP, **SOME)) < 5


POINTS = tf.constant([[1.0, 5.0, -2.0], [3.0, 0.5, 8.0]])


def test_maps_compose_from_the_inner_one_and_have_inverses() -> None:
    turn = Affine(rotation(tf.constant(0.3)), tf.zeros([2]))
    shift = Affine(tf.eye(2), tf.constant([10.0, 0.0]))
    both = transform(compose(turn, shift), POINTS)
    np.testing.assert_allclose(both, transform(turn, transform(shift, POINTS)), rtol=1e-5)
    numbers = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    maps = Affine(tf.constant(numbers[:, :4].reshape(3, 2, 2)), tf.constant(numbers[:, 4:]))
    back = transform(compose(inverse(maps), maps), POINTS)
    np.testing.assert_allclose(back, np.tile(POINTS, (3, 1, 1)), atol=1e-4)
    centre = tf.constant([5.0, 11.0])
    kept = transform(about(centre, maps.linear), centre[:, None])
    np.testing.assert_allclose(kept, np.tile([[5.0], [11.0]], (3, 1, 1)), atol=1e-4)


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_the_inverse_of_a_mirroring_and_a_shift_by_pixels_is_exact(signs: list[float]) -> None:
    mirror = Affine(tf.linalg.diag(tf.constant(signs)), tf.constant([1023.0, 7.0]))
    back = inverse(mirror)
    np.testing.assert_array_equal(back.linear, mirror.linear)
    np.testing.assert_array_equal(back.offset, -np.array(signs) * [1023.0, 7.0])


def test_a_positive_rotation_turns_right_into_down() -> None:
    quarter = rotation(tf.constant(math.pi / 2))
    np.testing.assert_allclose(tf.linalg.matvec(quarter, [1.0, 0.0]), [0.0, 1.0], atol=1e-6)
