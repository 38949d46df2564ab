"""Occlusion and confidence where the two flows are known."""

import numpy as np
import pytest

from pwc_exp.flow.warp import confidence, occlusion

BOUND = {"relative": 0.01, "absolute": 0.5}


def moving_square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square of 8 x 8 moves by (5, -2) over a still background; what it then hides."""
    flow, backward = np.zeros((2, 1, 30, 40, 2), np.float32)
    flow[0, 12:20, 10:18] = (5, -2)
    backward[0, 10:18, 15:23] = (-5, 2)
    square, landed = np.zeros((2, 30, 40), bool)
    square[12:20, 10:18] = True
    landed[10:18, 15:23] = True
    return flow, backward, landed & ~square


def test_what_a_moving_square_hides_is_occluded_and_nothing_else() -> None:
    flow, backward, hidden = moving_square()
    np.testing.assert_array_equal(np.asarray(occlusion(flow, backward, **BOUND))[0] > 0, hidden)


def test_the_confidence_is_one_where_the_flows_agree_and_below_half_where_occluded() -> None:
    flow, backward, hidden = moving_square()
    values = np.asarray(confidence(flow, backward, **BOUND))[0]
    assert (values[~hidden] == 1).all()
    assert (values[hidden] < 0.5).all()


def test_what_leaves_the_frame_is_occluded() -> None:
    flow = np.broadcast_to(np.array([3, 0], np.float32), (1, 6, 10, 2))
    hidden = np.asarray(occlusion(flow, -flow, **BOUND))[0]
    np.testing.assert_array_equal(hidden, np.broadcast_to(np.arange(10) > 6, (6, 10)))
    assert (np.asarray(confidence(flow, -flow, **BOUND))[0][:, 7:] == 0).all()


def test_the_bound_is_that_of_sundaram_brox_and_keutzer() -> None:
    # |flow|² = 4, |back|² = 4 (1 + d/2)², deviation² = d²; equal at the bound for this d.
    speeds = np.roots([1 - 0.01, -0.04, -0.01 * 8 - 0.5])
    d = float(max(speeds))
    flow = np.zeros((1, 4, 12, 2), np.float32)
    flow[..., 0] = 2
    for factor, hidden, share in ((0.99, 0, 0.5), (1.01, 1, 0.5)):
        backward = -flow * (1 + factor * d / 2)
        assert np.asarray(occlusion(flow, backward, **BOUND))[0, 1, 3] == hidden
        seen = np.asarray(confidence(flow, backward, **BOUND))[0, 1, 3]
        assert seen == pytest.approx(share, abs=0.02)
        assert (seen < 0.5) == bool(hidden)
