"""The Middlebury colour code, against its authors' own pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pwc_exp.data.formats.io import read_flow
from pwc_exp.flow.colour import flow_to_colour, legend


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
    picture = np.asarray(Image.open(shared / "data" / picture_path).convert("RGB"), int)
    colours = flow_to_colour(read_flow(shared / "data" / flow_path)[0])
    assert np.abs(colours - picture).max() <= 1


@pytest.mark.parametrize(
    ("vector", "colour"),
    [
        ((2, 0), (255, 0, 0)),  # right is red
        ((0, 2), (255, 229, 0)),  # down yellow
        ((-2, 0), (0, 209, 255)),  # left blue-green
        ((0, -2), (88, 0, 255)),  # up violet
        ((1, 0), (255, 127, 127)),  # slower is paler
        ((4, 0), (191, 0, 0)),  # faster than full colour is darker
        ((0, 0), (255, 255, 255)),
    ],
)
def test_hue_is_direction_and_saturation_speed(
    vector: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    flow = np.full((1, 1, 2), vector, float)
    assert flow_to_colour(flow, max_speed=2.0)[0, 0].tolist() == list(colour)


def test_the_largest_speed_is_given_or_that_of_the_flow() -> None:
    flow = np.random.default_rng(0).normal(0, 2, (4, 6, 2))
    faster = np.concatenate([flow, 9 * flow])
    fixed = flow_to_colour(faster, max_speed=8.0)[:4]
    np.testing.assert_array_equal(fixed, flow_to_colour(flow, max_speed=8.0))
    assert (flow_to_colour(faster)[:4] != flow_to_colour(flow)).any()


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 1.6666668e9, "not valid"])
def test_unknown_flow_is_black_and_does_not_set_the_largest_speed(unknown: float | str) -> None:
    flow = np.random.default_rng(0).normal(0, 2, (4, 6, 2))
    known = flow_to_colour(flow)
    valid = np.ones((5, 6))
    if unknown == "not valid":
        valid[4], unknown = 0, 99.0
    flow = np.concatenate([flow, np.full((1, 6, 2), unknown)])
    colours = flow_to_colour(flow, valid=valid)
    assert not colours[4].any()
    np.testing.assert_array_equal(colours[:4], known)


def test_legend_is_white_in_the_middle_and_outside_and_red_on_the_right() -> None:
    wheel = legend(65)
    assert wheel.shape == (65, 65, 3)
    assert wheel[32, 32].tolist() == wheel[0, 0].tolist() == [255, 255, 255]
    assert wheel[32, 64].tolist() == [255, 0, 0]
