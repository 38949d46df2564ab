"""Resampling: exact flow, values never blended over what is unknown, lone measurements kept."""

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.augmentation.resampling import (
    Affine,
    View,
    about,
    compose,
    resample,
    rotation,
)
from pwc_exp.data.sample import Example

HEIGHT, WIDTH = 40, 56
CROP = (24, 32)
CENTRE = tf.constant([15.5, 11.5])
STILL = Affine(tf.eye(2), tf.zeros([2]))
MOTION = Affine(about(CENTRE, 1.04 * rotation(tf.constant(0.05))).linear, tf.constant([1.5, -0.7]))


def shown(angle: float, zoom: float, place: tuple[float, float] = (12.0, 8.0)) -> Affine:
    """A window whose pixels are turned and enlarged about its centre."""
    turned = about(CENTRE, rotation(tf.constant(angle)) / zoom)
    return compose(Affine(tf.eye(2), tf.constant(place)), turned)


VIEWS = {
    "as it is": View(shown(0.0, 1.0), STILL),
    "turned": View(shown(0.4, 1.0), STILL),
    "enlarged": View(shown(-0.2, 1.7), STILL),
    "shrunk": View(shown(0.2, 0.7), STILL),
    "moved": View(shown(0.3, 1.2), MOTION),
    "half a pixel aside": View(shown(0.0, 1.0, (12.5, 8.5)), MOTION),
}
every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())


def example_of(flow: np.ndarray, valid: np.ndarray | None = None) -> Example:
    random = np.random.default_rng(3)
    frames = random.uniform(size=(2, *flow.shape[:2], 3)).astype(np.float32)
    known = np.ones(flow.shape[:2]) if valid is None else valid
    kept = np.where(known[..., None] > 0, flow, 0)
    parts = (*frames, kept.astype(np.float32), known.astype(np.float32))
    return Example(*(tf.constant(part) for part in parts))


def affine_flow() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([3 + 0.05 * columns - 0.02 * rows, -2 + 0.03 * columns + 0.04 * rows], -1)


def numbered_flow() -> np.ndarray:
    """Flow by which every pixel can be told from all others."""
    return 3.0 * np.arange(2 * HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 2)


def lone_pixels(share: float = 0.5) -> np.ndarray:
    """Valid at random pixels, no two of them neighbours."""
    chosen = np.random.default_rng(5).uniform(size=(HEIGHT, WIDTH)) < share
    grid = np.zeros((HEIGHT, WIDTH), bool)
    grid[::2, ::2] = True
    return chosen & grid


def matrix(affine: Affine) -> np.ndarray:
    top = np.concatenate([affine.linear, np.asarray(affine.offset)[:, None]], axis=1)
    return np.vstack([top, [0, 0, 1]]).astype(np.float64)


def mapped(transformation: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transformation[:2, :2].T + transformation[:2, 2]


def window_pixels() -> np.ndarray:
    rows, columns = np.mgrid[: CROP[0], : CROP[1]]
    return np.stack([columns, rows], -1).astype(np.float64)


def inside(points: np.ndarray) -> np.ndarray:
    low, high = points.min(axis=-1) >= 0, points <= [WIDTH - 1, HEIGHT - 1]
    return low & high.all(axis=-1)


def seen(example: Example, view: View) -> Example:
    return Example(*(part.numpy() for part in resample(example, CROP, view)))


@every_view
def test_dense_flow_is_the_closed_form_and_valid_wherever_frame1_is(view: View) -> None:
    window = seen(example_of(affine_flow()), view)
    to_frame1, added = matrix(view.frame1_from_window), matrix(view.added_motion)
    x = window_pixels()
    p = mapped(to_frame1, x)
    field = np.array([[0.05, -0.02], [0.03, 0.04]])
    target = mapped(added @ np.linalg.inv(to_frame1), p + p @ field.T + [3, -2])
    known = inside(p)
    assert known.mean() > 0.8
    np.testing.assert_array_equal(window.valid, known)
    np.testing.assert_allclose(window.flow, np.where(known[..., None], target - x, 0), atol=1e-3)


@every_view
def test_frames_are_read_where_the_view_says(view: View) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.dstack([columns / 64, rows / 64, 0 * rows]).astype(np.float32)
    example = example_of(affine_flow())._replace(frame1=ramp, frame2=ramp)
    window = seen(example, view)
    to_frame1 = matrix(view.frame1_from_window)
    to_frame2 = to_frame1 @ np.linalg.inv(matrix(view.added_motion))
    for frame, to_frame in ((window.frame1, to_frame1), (window.frame2, to_frame2)):
        points = mapped(to_frame, window_pixels())
        known = inside(points)
        np.testing.assert_allclose(frame[known][:, :2], points[known] / 64, atol=1e-4)
        far = ~(inside(points + 1) | inside(points - 1) | known)
        assert (frame[far] == 0).all()


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_mirrored_and_moved_crop_keeps_every_bit(
    signs: tuple[float, float], share: float
) -> None:
    valid = np.random.default_rng(2).uniform(size=(HEIGHT, WIDTH)) < share
    example = example_of(np.random.default_rng(1).normal(0, 30, (HEIGHT, WIDTH, 2)), valid)
    top, left = 7, 11
    place = [left if signs[0] > 0 else left + CROP[1] - 1, top if signs[1] > 0 else top + 23]
    mirror = Affine(tf.linalg.diag(tf.constant(signs)), tf.constant(place, tf.float32))
    window = seen(example, View(mirror, Affine(tf.eye(2), tf.constant([3.0, -2.0]))))
    step = (slice(None, None, int(signs[1])), slice(None, None, int(signs[0])))
    cut = (slice(top, top + CROP[0]), slice(left, left + CROP[1]))
    known = valid[cut][step]
    np.testing.assert_array_equal(window.valid, known)
    np.testing.assert_array_equal(window.frame1, example.frame1.numpy()[cut][step])
    np.testing.assert_array_equal(
        window.frame2[:-2, 3:], example.frame2.numpy()[cut][step][2:, :-3]
    )
    flow = example.flow.numpy()[cut][step] * np.array(signs, np.float32) + np.array(
        [3, -2], np.float32
    )
    np.testing.assert_array_equal(window.flow[known], flow[known])


@every_view
def test_a_lone_measurement_is_kept_exactly_or_lost_but_never_doubled(view: View) -> None:
    valid = lone_pixels()
    flow = numbered_flow()
    window = seen(example_of(flow, valid), view)
    to_frame1, added = matrix(view.frame1_from_window), matrix(view.added_motion)
    q = np.argwhere(valid)[:, ::-1].astype(np.float64)
    landing = mapped(np.linalg.inv(to_frame1), q)
    target = mapped(added @ np.linalg.inv(to_frame1), q + flow[valid])
    exact = target - landing
    kept = []
    for row, column in np.argwhere(window.valid > 0):
        errors = np.abs(exact - window.flow[row, column]).max(axis=1)
        kept.append(errors.argmin())
        assert errors.min() < 2e-2  # flows here are thousands of pixels long
        assert np.abs(landing[errors.argmin()] - [column, row]).max() < 0.501
    assert len(kept) > 5
    assert len(set(kept)) == len(kept)


def test_an_enlarged_view_loses_no_lone_measurement() -> None:
    view = VIEWS["enlarged"]
    valid = lone_pixels()
    window = seen(example_of(numbered_flow(), valid), view)
    q = np.argwhere(valid)[:, ::-1].astype(np.float64)
    landing = mapped(np.linalg.inv(matrix(view.frame1_from_window)), q)
    expected = ((landing > -0.49) & (landing < np.array(CROP[::-1]) - 0.51)).all(axis=1).sum()
    assert expected > 5
    assert window.valid.sum() == pytest.approx(expected, abs=1)


@every_view
def test_nothing_is_valid_far_from_valid_pixels(view: View) -> None:
    valid = np.random.default_rng(9).uniform(size=(HEIGHT, WIDTH)) < 0.5
    window = seen(example_of(affine_flow(), valid), view)
    p = mapped(matrix(view.frame1_from_window), window_pixels())
    for row, column in np.argwhere(window.valid > 0):
        x, y = p[row, column]
        corners = [(b, a) for b in {int(y), int(np.ceil(y))} for a in {int(x), int(np.ceil(x))}]
        nearest = (int(np.floor(y + 0.5 + 1e-4)), int(np.floor(x + 0.5 + 1e-4)))
        other = (int(np.floor(y + 0.5 - 1e-4)), int(np.floor(x + 0.5 - 1e-4)))
        assert valid[nearest] or valid[other] or all(valid[corner] for corner in corners)
    assert (window.flow[window.valid == 0] == 0).all()


@every_view
def test_flow_is_not_blended_over_motion_boundaries_and_stays_known_there(view: View) -> None:
    flow = np.zeros((HEIGHT, WIDTH, 2))
    flow[:, 27:] = (8, -4)
    flow[20:] = (-6, 2)
    valid = np.ones((HEIGHT, WIDTH))
    window = seen(example_of(flow, valid), view)
    to_frame1, added = matrix(view.frame1_from_window), matrix(view.added_motion)
    x = window_pixels()
    p = mapped(to_frame1, x)
    np.testing.assert_array_equal(window.valid, inside(p))
    motions = np.array([[0, 0], [8, -4], [-6, 2]])
    targets = [mapped(added @ np.linalg.inv(to_frame1), p + motion) - x for motion in motions]
    errors = np.min([np.abs(window.flow - target).max(axis=-1) for target in targets], axis=0)
    assert errors[window.valid > 0].max() < 1e-3


@every_view
def test_unknown_pixels_do_not_pull_flow_towards_zero(view: View) -> None:
    flow = np.broadcast_to([0.4, -0.3], (HEIGHT, WIDTH, 2))  # would agree with 0
    valid = np.random.default_rng(9).uniform(size=(HEIGHT, WIDTH)) < 0.6
    window = seen(example_of(flow, valid), View(view.frame1_from_window, STILL))
    turned = np.linalg.inv(matrix(view.frame1_from_window))[:2, :2] @ [0.4, -0.3]
    known = window.valid > 0
    assert known.mean() > 0.1
    np.testing.assert_allclose(window.flow[known], np.tile(turned, (known.sum(), 1)), atol=1e-4)


def test_frames_of_a_size_not_known_beforehand_are_shown_alike() -> None:
    example = example_of(affine_flow(), lone_pixels().astype(np.float32))
    specs = [tf.TensorSpec([None] * part.shape.rank, tf.float32) for part in example]

    @tf.function(input_signature=specs)
    def show(*parts: tf.Tensor) -> Example:
        return resample(Example(*parts), CROP, VIEWS["moved"])

    for one, other in zip(show(*example), resample(example, CROP, VIEWS["moved"]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
