"""The gate: what is not the network is refused, with the reason."""

import numpy as np
import pytest

from pwc_exp.errors import ParityError
from pwc_exp.export.formats import Bound, Shape, check, frames, make_case

BOUND = Bound(mean=0.01, largest=0.1)
SHAPES = (Shape(1, 20, 33), Shape(2, 8, 10))


def network(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    """A flow that depends on the place and on both frames."""
    change = frame2.astype(np.float32) - frame1
    return change[..., :2] / 20 + np.arange(change.shape[2], dtype=np.float32)[:, None]


def with_one_pixel_far_off(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
    flow = network(frame1, frame2)
    flow[0, 3, 4] += 0.2
    return flow


CASES = [make_case(network, shape) for shape in SHAPES]


def test_the_difference_is_measured_in_every_engine_at_every_shape() -> None:
    engines = {"one": network, "two": lambda *pair: network(*pair) + 0.005}
    found = check("a", engines, CASES, BOUND)
    assert [(each.engine, each.shape) for each in found] == [
        (engine, shape) for shape in SHAPES for engine in engines
    ]
    for each in found:
        assert each.mean == pytest.approx(0.005 if each.engine == "two" else 0, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda a, b: network(a, b) + np.float32(0.02), "must be within 0.01 px"),
        (lambda a, b: network(b, a), "must be within"),
        (lambda a, b: network(a, b)[..., ::-1], "must be within"),
        (lambda a, b: network(a, b)[::-1], "2 x 8 x 10: must be within"),  # pairs of a batch
        (lambda a, b: np.zeros_like(network(a, b)), "must be within"),
        (lambda a, b: network(a, b) * np.float32(np.nan), "must be within"),
        (with_one_pixel_far_off, "0.1 px at most"),
        (lambda a, b: network(a, b)[:, :-1], r"must return float32 \(1, 20, 33, 2\)"),
        (lambda a, b: network(a, b).astype(np.float64), "Received: float64"),
        (lambda a, b: 1 / 0, "fails; division by zero"),
    ],
)
def test_what_differs_is_refused(wrong: object, reason: str) -> None:
    with pytest.raises(ParityError, match=reason):
        check("a", {"one": wrong}, CASES, BOUND)  # type: ignore[dict-item]


def test_a_network_without_motion_proves_nothing() -> None:
    even = make_case(lambda a, b: np.full((*a.shape[:3], 2), 7.0, np.float32), SHAPES[0])
    with pytest.raises(ParityError, match="must vary by more than 0.01 px"):
        check("a", {"one": network}, [even], BOUND)


def test_frames_are_photographs_that_move_and_always_the_same() -> None:
    shape = Shape(2, 700, 90)  # taller than the photographs
    frame1, frame2 = frames(shape)
    assert frame1.shape == frame2.shape == (*shape, 3) and frame1.dtype == np.uint8
    np.testing.assert_array_equal(frame1[0, :-3, :-5], frame2[0, 3:, 5:])
    np.testing.assert_array_equal(frame1[1, :-5, :-3], frame2[1, 5:, 3:])
    assert frame1[0].std() > 20 and (frame1[0] != frame1[1]).any()
    np.testing.assert_array_equal(frames(shape)[0], frame1)
