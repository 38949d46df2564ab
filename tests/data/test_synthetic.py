"""Generated scenes: the flow is what the frames show, and (seed, index) says all."""

import math

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import errors_of_readings, right_reading_is_best, warping_error

from pwc_exp.data.synthetic import Scene, SyntheticSource

HEIGHT, WIDTH = 96, 160


def source_of(
    *,
    seed: int = 5,
    layers: int = 4,
    max_speed: float = 0.1,
    max_rotation: float = 3.0,
    max_zoom: float = 0.05,
) -> SyntheticSource:
    return SyntheticSource(
        seed=seed,
        size=100,
        frame_size=(HEIGHT, WIDTH),
        layers=layers,
        max_speed=max_speed,
        max_rotation=max_rotation,
        max_zoom=max_zoom,
    )


def scene_of(source: SyntheticSource, index: int) -> Scene:
    return Scene(*(part.numpy() for part in source.scene(tf.constant(index, tf.int64))))


def eroded(mask: np.ndarray) -> np.ndarray:
    """True where a pixel and its 24 neighbours are."""
    padded = np.pad(mask, 2)
    height, width = mask.shape
    windows = [padded[y : y + height, x : x + width] for y in range(5) for x in range(5)]
    return np.logical_and.reduce(windows)


def interior(scene: Scene) -> np.ndarray:
    """Visible in both frames, and away from the edges of layers."""
    layer = np.asarray(scene.layer)
    inside = np.logical_or.reduce([eroded(layer == number) for number in range(layer.max() + 1)])
    return inside & eroded(np.asarray(scene.occlusion) == 0)


SOURCE = source_of()


@pytest.mark.parametrize("index", range(8))
def test_frame2_warped_by_the_flow_is_frame1_where_it_is_not_occluded(index: int) -> None:
    scene = scene_of(SOURCE, index)
    mask = interior(scene)
    assert mask.mean() > 0.3
    errors = errors_of_readings(scene.frame1, scene.frame2, scene.flow, mask)
    assert errors[False, 1, 1] < 0.012
    assert right_reading_is_best(errors, factor=1.5)


def test_occluded_pixels_are_not_explained_by_the_flow() -> None:
    hidden, visible = [], []
    for index in range(8):
        scene = scene_of(SOURCE, index)
        hidden.append(warping_error(scene.frame1, scene.frame2, scene.flow, scene.occlusion > 0))
        visible.append(warping_error(scene.frame1, scene.frame2, scene.flow, interior(scene)))
    assert np.mean(hidden) > 10 * np.mean(visible)


def test_what_leaves_the_frame_is_occluded() -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    left = []
    for index in range(8):
        scene = scene_of(SOURCE, index)
        x, y = columns + scene.flow[..., 0], rows + scene.flow[..., 1]
        outside = (np.minimum(x, y) < -1e-3) | (x > WIDTH - 0.999) | (y > HEIGHT - 0.999)
        left += list(scene.occlusion[outside])
    assert len(left) > 1000
    assert min(left) == 1


def test_examples_are_known_everywhere_and_finite_and_in_range() -> None:
    example = SOURCE.example(tf.constant(0, tf.int64))
    assert [part.shape.as_list() for part in example] == [
        [HEIGHT, WIDTH, 3],
        [HEIGHT, WIDTH, 3],
        [HEIGHT, WIDTH, 2],
        [HEIGHT, WIDTH],
    ]
    assert (example.valid.numpy() == 1).all()
    assert np.isfinite(example.flow).all()
    for frame in (example.frame1.numpy(), example.frame2.numpy()):
        assert frame.min() >= 0
        assert frame.max() <= 1 + 1e-6
        assert frame.std() > 0.02


def test_a_map_gives_the_bytes_of_eager_execution_and_of_another_source() -> None:
    mapped = tf.data.Dataset.range(3).map(source_of().example, num_parallel_calls=2)
    for index, example in enumerate(mapped):
        eager = SOURCE.example(tf.constant(index, tf.int64))
        for part, other in zip(example, eager, strict=True):
            assert part.numpy().tobytes() == other.numpy().tobytes()


def test_other_seeds_and_other_indices_give_other_scenes() -> None:
    flows = [scene_of(source_of(seed=seed), index).flow for seed in (0, 1) for index in (0, 1)]
    for number, flow in enumerate(flows):
        for other in flows[:number]:
            assert np.abs(flow - other).mean() > 0.1


def test_a_shift_alone_moves_all_of_the_background_alike() -> None:
    source = source_of(layers=0, max_rotation=0.0, max_zoom=0.0)
    for index in range(3):
        flow = scene_of(source, index).flow
        np.testing.assert_allclose(flow, np.broadcast_to(flow[0, 0], flow.shape), atol=1e-3)
        assert 0 < np.hypot(*flow[0, 0]) <= 0.1 * math.hypot(HEIGHT, WIDTH)


def test_flow_of_the_background_turns_and_grows_about_the_middle_as_its_differences_say() -> None:
    flow = scene_of(source_of(layers=0, max_speed=0.0), 1).flow.astype(np.float64)
    along_x = (flow[:, -1] - flow[:, 0]).mean(axis=0) / (WIDTH - 1)
    along_y = (flow[-1] - flow[0]).mean(axis=0) / (HEIGHT - 1)
    linear = np.stack([along_x, along_y], axis=-1) + np.eye(2)
    zoom = math.sqrt(np.linalg.det(linear))
    np.testing.assert_allclose(linear.T @ linear, zoom**2 * np.eye(2), atol=1e-4)
    assert 1 / 1.05 <= zoom <= 1.05
    assert 0 < abs(math.degrees(math.atan2(linear[1, 0], linear[0, 0]))) <= 3
    # The four pixels around the middle, which rests, cancel out.
    middle = flow[HEIGHT // 2 - 1 : HEIGHT // 2 + 1, WIDTH // 2 - 1 : WIDTH // 2 + 1].mean((0, 1))
    expected = (linear - np.eye(2)) @ [-0.5, -0.5]
    np.testing.assert_allclose(middle, expected, atol=1e-3)


def test_motion_has_no_preferred_direction_and_a_long_tail() -> None:
    flow = np.stack([scene_of(SOURCE, index).flow for index in range(40)])
    speed = np.hypot(flow[..., 0], flow[..., 1])
    share = speed / math.hypot(HEIGHT, WIDTH)
    assert 0.015 < share.mean() < 0.03  # 8 to 15 px in frames of 256 x 448
    assert np.percentile(share, 99) > 3 * share.mean()
    assert np.abs(flow.mean(axis=(0, 1, 2))).max() < 0.4 * speed.mean()


def test_more_layers_occlude_more() -> None:
    def occluded(layers: int) -> float:
        source = source_of(layers=layers)
        return float(np.mean([scene_of(source, index).occlusion.mean() for index in range(10)]))

    assert occluded(0) < occluded(4) < occluded(12)


def test_digest_tells_recipes_apart() -> None:
    assert source_of().digest == SOURCE.digest
    assert len({source_of(seed=6).digest, source_of(layers=3).digest, SOURCE.digest}) == 3
