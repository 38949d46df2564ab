"""The Middlebury colour code, against its authors' own pictures."""

from pathlib import Path

import numpy as np
import pytest

from pwc_exp.flow.colour import flow_to_colour, legend


def read_flo(path: Path) -> np.ndarray:
    width, height = np.fromfile(path, "<i4", 2, offset=4)
    return np.fromfile(path, "<f4", offset=12).reshape(height, width, 2)


@pytest.mark.parametrize(
    ("flow_path", "picture_path"),
    [
        ("colorcode/colorTest.flo", "colorcode/colorTest.png"),
        (
            "MPI-Sintel/training/flow/alley_1/frame_0001.flo",
            "colorcode/sintel_alley_1_frame_0001.flo.png",
        ),
    ],
)
def test_picture_equals_that_of_the_reference_to_one_level(
    flow_path: str, picture_path: str, shared: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = np.asarray(image.open(shared / "data" / picture_path).convert("RGB"), int)
    colours = flow_to_colour(read_flo(shared / "data" / flow_path))
    assert np.abs(colours - picture).max() <= 1


@pytest.mark.parametrize(
    ("vector", "colour"),
    [
        ((1, 0), (255, 0, 0)),
        ((0, 1), (255, 229, 0)),
        ((-1, 0), (0, 209, 255)),
        ((0, -1), (88, 0, 255)),
    ],
    ids=["right red", "down yellow", "left blue-green", "up violet"],
)
def test_directions_have_the_colours_of_the_wheel(
    vector: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    assert flow_to_colour(np.full((1, 1, 2), vector, float))[0, 0].tolist() == list(colour)


def test_saturation_grows_with_speed_and_hue_darkens_beyond_the_largest() -> None:
    flow = np.zeros((1, 4, 2), np.float32)
    flow[0, :, 0] = [0, 1, 2, 4]
    still, slow, full, too_fast = flow_to_colour(flow, max_speed=2.0)[0].tolist()
    assert still == [255, 255, 255]
    assert slow == [255, 127, 127]
    assert full == [255, 0, 0]
    assert too_fast == [191, 0, 0]


def test_fixed_largest_speed_makes_pictures_comparable() -> None:
    flow = np.random.default_rng(0).normal(0, 2, (4, 6, 2))
    faster = np.concatenate([flow, 9 * flow])
    fixed = flow_to_colour(faster, max_speed=8.0)[:4]
    np.testing.assert_array_equal(fixed, flow_to_colour(flow, max_speed=8.0))
    assert (flow_to_colour(faster)[:4] != flow_to_colour(flow)).any()


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 1.6666668e9])
def test_unknown_flow_is_black_and_does_not_set_the_largest_speed(unknown: float) -> None:
    flow = np.random.default_rng(0).normal(0, 2, (4, 6, 2))
    known = flow_to_colour(flow)
    flow = np.concatenate([flow, np.full((1, 6, 2), unknown)])
    colours = flow_to_colour(flow)
    assert not colours[4].any()
    np.testing.assert_array_equal(colours[:4], known)


def test_pixels_that_are_not_valid_are_black() -> None:
    valid = np.ones((4, 6))
    valid[1, 2] = 0
    colours = flow_to_colour(np.ones((4, 6, 2)), valid=valid)
    assert not colours[1, 2].any()
    assert colours.any(axis=-1).sum() == 23


def test_no_motion_at_all_is_white() -> None:
    assert (flow_to_colour(np.zeros((2, 3, 2))) == 255).all()


def test_legend_is_white_in_the_middle_and_outside_and_red_on_the_right() -> None:
    wheel = legend(65)
    assert wheel.shape == (65, 65, 3)
    assert wheel[32, 32].tolist() == wheel[0, 0].tolist() == [255, 255, 255]
    assert wheel[32, 64].tolist() == [255, 0, 0]
