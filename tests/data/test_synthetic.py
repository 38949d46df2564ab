"""Generated scenes: the flow is what the frames show, and (seed, index) says all."""

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import errors_of_readings, right_reading_is_best, warping_error
from scenes import (
    FILMED,
    HEIGHT,
    MOVING,
    PLAIN,
    WIDTH,
    interior,
    mapped_scenes_of,
    scenes_of,
    source_of,
)

from pwc_exp.build import build_kind
from pwc_exp.config.data import SceneConfig
from pwc_exp.data.sample import Example
from pwc_exp.data.synthetic import Scene, SyntheticSource
from pwc_exp.data.synthetic.layers import Kind

GREY_LEVEL = 1 / 255
PROGRAM = """
import hashlib, sys
sys.path[:0] = sys.argv[1:]
from scenes import FILMED, scenes_of, source_of
for scene in scenes_of(source_of(FILMED), 2):
    print(hashlib.sha256(b"".join(part.tobytes() for part in scene)).hexdigest())
"""


@pytest.fixture(scope="module")
def moving() -> list[Scene]:
    return list(mapped_scenes_of(source_of(MOVING), 200))


def test_frame2_warped_by_the_flow_is_frame1_below_a_grey_level(moving: list[Scene]) -> None:
    masks = [interior(scene) for scene in moving]
    errors = [
        warping_error(scene.frame1, scene.frame2, scene.flow, mask)
        for scene, mask in zip(moving, masks, strict=True)
        if mask.mean() > 0.1
    ]
    assert len(errors) > 190
    assert np.mean(errors) < GREY_LEVEL
    # Bilinear reading is off by more where patterns have sharp edges.
    assert np.percentile(errors, 90) < 4 * GREY_LEVEL
    assert np.max(errors) < 10 * GREY_LEVEL


def test_the_seven_misreadings_of_the_flow_are_worse(moving: list[Scene]) -> None:
    fast = [scene for scene in moving if np.abs(scene.flow.mean(axis=(0, 1))).min() > 1]
    assert len(fast) > 20
    for scene in fast:
        errors = errors_of_readings(scene.frame1, scene.frame2, scene.flow, interior(scene))
        assert right_reading_is_best(errors, factor=1.5)


def test_occluded_pixels_are_not_explained_by_the_flow(moving: list[Scene]) -> None:
    hidden, visible = [], []
    for scene in moving[:60]:
        if (scene.occlusion > 0).mean() > 0.05:
            mask = scene.occlusion > 0
            hidden.append(warping_error(scene.frame1, scene.frame2, scene.flow, mask))
            visible.append(warping_error(scene.frame1, scene.frame2, scene.flow, interior(scene)))
    assert len(hidden) > 10
    assert np.mean(hidden) > 10 * np.mean(visible)


def test_what_leaves_the_frame_is_occluded(moving: list[Scene]) -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    left = []
    for scene in moving:
        x, y = columns + scene.flow[..., 0], rows + scene.flow[..., 1]
        outside = (np.minimum(x, y) < -1e-3) | (x > WIDTH - 0.999) | (y > HEIGHT - 0.999)
        left += list(scene.occlusion[outside])
    assert len(left) > 1000
    assert min(left) == 1


def test_speeds_of_pixels_follow_their_shares(moving: list[Scene]) -> None:
    speed = np.hypot(*np.moveaxis(np.stack([scene.flow for scene in moving]), -1, 0))
    bounds = np.array(MOVING["speed_bounds"]) * math.hypot(HEIGHT, WIDTH)
    shares = np.diff([(speed < bound).mean() for bound in bounds], prepend=0)
    np.testing.assert_allclose(shares, MOVING["speed_shares"], atol=0.08)


@pytest.mark.parametrize("settings", [PLAIN, MOVING, FILMED], ids=["plain", "moving", "filmed"])
def test_examples_are_known_everywhere_and_finite_and_in_range(settings: dict) -> None:
    example = source_of(settings).example(tf.constant(0, tf.int64))
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


def test_another_process_makes_the_same_bytes() -> None:
    folders = [str(path) for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], capture_output=True, text=True, check=True
    )
    scenes = list(scenes_of(source_of(FILMED), 2))
    digests = [hashlib.sha256(b"".join(part.tobytes() for part in scene)) for scene in scenes]
    assert done.stdout.split() == [digest.hexdigest() for digest in digests]


def test_a_pipeline_makes_what_eager_execution_makes(moving: list[Scene]) -> None:
    for scene, eager in zip(moving[:2], scenes_of(source_of(MOVING), 2), strict=True):
        for part, other in zip(scene[2:], eager[2:], strict=True):
            np.testing.assert_allclose(part, other, atol=1e-4)
        for frame, other in zip(scene[:2], eager[:2], strict=True):
            np.testing.assert_allclose(frame, other, atol=1.001 * GREY_LEVEL)
            assert (frame != other).mean() < 1e-3  # rounded the other way


def test_film_changes_frames_and_nothing_else() -> None:
    for clean, filmed in zip(
        scenes_of(source_of(MOVING), 2), scenes_of(source_of(FILMED), 2), strict=True
    ):
        for frame, other in ((clean.frame1, filmed.frame1), (clean.frame2, filmed.frame2)):
            assert np.abs(frame - other).mean() > GREY_LEVEL
        for part, other in zip(clean[2:], filmed[2:], strict=True):
            np.testing.assert_array_equal(part, other)


NO_EFFECTS = {"fog": 0.0, "shutter": 0.0, "defocus": 0.0, "noise": 0.0, "flicker": 0.0}
NO_EFFECTS |= {"gamma": 0.0, "light": 0.0, "highlights": 0.0, "jpeg": 100}


@pytest.mark.parametrize("off", [{"film_share": 0.0}, {"effects": 0.0}, NO_EFFECTS])
def test_film_that_is_off_leaves_the_bytes(off: dict) -> None:
    clean = next(scenes_of(source_of(MOVING), 1))
    same = next(scenes_of(source_of(FILMED | off), 1))
    assert clean.frame1.tobytes() == same.frame1.tobytes()
    assert clean.frame2.tobytes() == same.frame2.tobytes()


def test_cached_scenes_equal_generated_ones_bit_for_bit(tmp_path: Path) -> None:
    def examples(source: SyntheticSource) -> list[Example]:
        numbers = tf.data.Dataset.range(3)
        return list(numbers.map(source.example, num_parallel_calls=2).as_numpy_iterator())

    plain = examples(source_of(FILMED))
    written = []
    for _ in range(2):  # filled, then read
        cached = examples(source_of(FILMED, cache=str(tmp_path)))
        for one, other in zip(plain, cached, strict=True):
            for part, same in zip(one, other, strict=True):
                assert part.tobytes() == same.tobytes()
        written.append([path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.rec"))])
    assert len(written[0]) == 3
    assert written[0] == written[1]


def test_more_scenes_of_the_same_kind_use_the_same_cache(tmp_path: Path) -> None:
    next(iter(tf.data.Dataset.range(1).map(source_of(MOVING, cache=str(tmp_path)).example)))
    assert source_of(MOVING, cache=str(tmp_path), count=2000).failure(0) is None
    assert source_of(MOVING, cache=str(tmp_path), seed=6).failure(0) is None
    assert len(list(tmp_path.rglob("*.rec"))) == 2


def kinds_of(source_settings: dict) -> dict[str, tuple[Kind, float]]:
    return {
        name: (build_kind(SceneConfig(**settings)), weight)
        for name, (settings, weight) in source_settings.items()
    }


def test_kinds_occur_by_their_weights() -> None:
    few, many = PLAIN | {"layers": 1}, PLAIN | {"layers": 5}
    kinds = kinds_of({"few": (few, 3.0), "many": (many, 1.0)})
    source = SyntheticSource(
        seed=1, size=9, frame_size=(HEIGHT, WIDTH), textures=None, kinds=kinds, occluded=True
    )
    counts = np.array([int(source.draw(index).layers) for index in range(400)])
    assert set(counts) == {2, 6}
    assert 0.68 < (counts == 2).mean() < 0.82


def test_points_that_are_hidden_are_left_out_if_asked() -> None:
    example = source_of(MOVING, occluded=False).example(tf.constant(1, tf.int64))
    scene = source_of(MOVING).scene(tf.constant(1, tf.int64))
    assert 0 < scene.occlusion.numpy().mean() < 1
    np.testing.assert_array_equal(example.valid, 1 - scene.occlusion)
    np.testing.assert_array_equal(example.flow, scene.flow)


@pytest.mark.parametrize("kind", ["autoflow", "chairs", "film", "fast", "slow", "drive"])
def test_flow_of_every_kind_explains_frame_1(kind: str, configure: Callable[..., Any]) -> None:
    settings, _ = configure("train", "data=scenes").data.kind_configs()[kind]
    source = source_of(asdict(replace(settings, film_share=0.0)))
    errors, hidden = [], []
    for scene in mapped_scenes_of(source, 40):
        if interior(scene).mean() > 0.05:
            error = warping_error(scene.frame1, scene.frame2, scene.flow, interior(scene))
            errors.append(error)
        hidden.append(scene.occlusion.mean())
    assert len(errors) > 15
    assert np.median(errors) < 2 * GREY_LEVEL
    assert np.percentile(errors, 90) < 6 * GREY_LEVEL
    assert np.mean(hidden) > 0.01


def test_things_on_the_road_move_away_from_where_the_car_drives() -> None:
    source = source_of(PLAIN | {"layers": 6, "driving": 1.0, "max_yaw": 0.0})
    outward = []
    for scene in mapped_scenes_of(source, 20):
        lower = scene.flow[HEIGHT * 3 // 4 :]
        outward.append(lower[..., 1].mean())
    assert np.mean(np.array(outward) > 0) > 0.9


def test_digest_tells_recipes_apart() -> None:
    assert source_of(MOVING).digest == source_of(MOVING).digest
    changed = [MOVING | {"edge": 2.0}, MOVING | {"layers": 3}, FILMED, MOVING | {"coherence": 0.1}]
    digests = {source_of(settings).digest for settings in (MOVING, *changed)}
    assert len(digests | {source_of(MOVING, seed=6).digest}) == 6


def test_a_source_may_be_used_first_while_a_graph_is_built() -> None:
    source = source_of(FILMED, seed=77)
    for _ in range(2):
        (frame,) = tf.data.Dataset.range(1).map(lambda index: source.scene(index).frame1)
        assert np.isfinite(frame).all()
