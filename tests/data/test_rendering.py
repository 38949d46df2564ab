"""Views and occlusion, against what frame 2 shows where the flow leads."""

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import sample
from scenes import MOVING, eroded

from pwc_exp.data.formats.image_headers import Size
from pwc_exp.data.scenes import rendering
from pwc_exp.data.scenes.layers import Layers, draw_layers
from pwc_exp.data.scenes.motion import MotionLimits
from pwc_exp.data.scenes.outlines import OutlineLimits
from pwc_exp.data.scenes.rendering import (
    View,
    hidden,
    targets,
    velocities,
    view_frame1,
    view_frame2,
)

SIZE = Size(72, 120)
EDGE = 1.5
KNOBS = MOVING | {"speed_shares": [0.2, 0.5, 0.3], "coherence": 0.2}
SCENES = 6


def drawn(index: int) -> Layers:
    return draw_layers(
        tf.constant([2, index]),
        count=7,
        size=SIZE,
        outlines=OutlineLimits(concave=0.5, thin=0.2),
        motion=MotionLimits(**{name: KNOBS[name] for name in MotionLimits._fields}),
        photographs=3,
        tint=0.0,
    )


def image(plane: tf.Tensor) -> np.ndarray:
    return plane.numpy().reshape(SIZE)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Layers, View, View]]:
    drawings = [drawn(index) for index in range(SCENES)]
    return [
        (layers, view_frame1(layers, SIZE, edge=EDGE), view_frame2(layers, SIZE, edge=EDGE))
        for layers in drawings
    ]


def test_a_point_is_hidden_where_frame_2_shows_another_layer(scenes: list) -> None:
    """Two pixels and more from the edges of frame 2, where a pixel's layer is that of the point."""
    rows, columns = np.mgrid[: SIZE.height, : SIZE.width]
    counts = np.zeros(2, int)
    for layers, view1, view2 in scenes:
        layer1, layer2 = image(view1.layer), image(view2.layer)
        away = np.logical_or.reduce([eroded(layer2 == number) for number in range(7)])
        target = targets(layers, view1.layer, SIZE)
        x, y = np.rint(image(target.x)).astype(int), np.rint(image(target.y)).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < SIZE.width) & (y < SIZE.height)
        checked = inside & away[np.clip(y, 0, SIZE.height - 1), np.clip(x, 0, SIZE.width - 1)]
        assert checked.mean() > 0.3
        other = layer2[y[checked], x[checked]] != layer1[rows[checked], columns[checked]]
        np.testing.assert_array_equal(image(hidden(layers, target))[checked], other)
        counts += [np.count_nonzero(other), np.count_nonzero(~other)]
    assert counts.min() > 500


def test_what_is_visible_is_led_back_by_the_motion_that_frame_2_shows(scenes: list) -> None:
    moved = []
    for layers, view1, view2 in scenes:
        target = targets(layers, view1.layer, SIZE)
        x, y = image(target.x), image(target.y)
        back = velocities(layers, view2.fragments, SIZE).numpy()
        seen = ~image(hidden(layers, target)) & (x > 3) & (y > 3)
        seen &= (x < SIZE.width - 4) & (y < SIZE.height - 4)
        layer2 = image(view2.layer)
        away = np.logical_or.reduce([eroded(layer2 == number, 3) for number in range(7)])
        seen[seen] = away[np.rint(y[seen]).astype(int), np.rint(x[seen]).astype(int)]
        rows, columns = np.nonzero(seen)
        assert len(rows) > 500
        forward = np.stack([x[seen] - columns, y[seen] - rows], axis=-1)
        assert np.abs(forward - sample(back, x[seen], y[seen])).max() < 0.03
        moved.append(np.abs(forward).mean())
    assert np.mean(moved) > 1


def test_weights_of_each_pixel_add_up_to_one(scenes: list) -> None:
    for _, *views in scenes:
        for view in views:
            fragments = view.fragments
            total = np.bincount(fragments.pixel.numpy(), fragments.weight.numpy())
            np.testing.assert_allclose(total, np.ones(SIZE.height * SIZE.width), atol=2e-3)


def test_edges_are_as_wide_as_asked(scenes: list) -> None:
    def partly_covered(edge: float) -> int:
        weights = [
            view_frame1(layers, SIZE, edge=edge).fragments.weight.numpy() for layers, *_ in scenes
        ]
        return sum(int(((weight > 0.02) & (weight < 0.98)).sum()) for weight in weights)

    one = partly_covered(1.0)
    assert one > 500
    assert 2.4 < partly_covered(3.0) / one < 3.6


def test_boxes_cut_nothing_off(scenes: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_MARGIN", 1e4)
    for layers, *views in scenes:
        for view, draw in zip(views, (view_frame1, view_frame2), strict=True):
            whole = draw(layers, SIZE, edge=EDGE)
            np.testing.assert_array_equal(view.layer, whole.layer)
            np.testing.assert_array_equal(view.fragments.pixel, whole.fragments.pixel)
            np.testing.assert_array_equal(view.fragments.weight, whole.fragments.weight)
