"""Pictures of a flow that is known."""

import numpy as np

from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.prediction.outputs import HIDDEN, coloured, warped, with_arrows


def uniform(x: float, y: float, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32), (*size, 2))


def test_a_uniform_shift_has_its_colour_everywhere_but_under_the_wheel() -> None:
    expected = flow_to_colour(uniform(3, -1), max_speed=5)
    np.testing.assert_array_equal(coloured(uniform(3, -1), max_speed=5, wheel=False), expected)
    with_wheel = coloured(uniform(3, -1), max_speed=5, wheel=True)
    changed = (with_wheel != expected).any(axis=-1)
    assert changed[100, 140]
    assert not changed[:60].any()
    assert not changed[:, :100].any()


def test_arrows_begin_at_their_pixel_and_point_where_it_goes() -> None:
    black = np.zeros((120, 160, 3), np.float32)
    for motion in ((38, 0), (0, 38), (-38, 0), (0, -38)):
        flow = np.zeros((120, 160, 2), np.float32)
        flow[60, 76] = motion  # one of the pixels that get an arrow
        drawn = with_arrows(black, flow, max_speed=40)[..., 0] > 0
        dots = with_arrows(black, np.zeros_like(flow), max_speed=40)[..., 0] > 0
        y, x = np.nonzero(drawn & ~dots)
        assert len(y) > 20
        reached = np.array([x.max() - 76, y.max() - 60, x.min() - 76, y.min() - 60])
        assert np.abs(reached).max() in (37, 38)
        assert reached[np.abs(reached).argmax()] * sum(motion) > 0


def test_the_warped_frame_is_the_first_and_what_is_hidden_is_tinted() -> None:
    frame1 = np.random.default_rng(0).integers(0, 256, (40, 50, 3)) / np.float32(255)
    frame2 = np.roll(frame1, (2, 5), axis=(0, 1))  # moved by (5, 2)
    hidden = np.zeros((40, 50))
    hidden[:, :4] = 1
    picture = warped(frame2, uniform(5, 2, (40, 50)), hidden)
    expected = np.round(255 * frame1)
    np.testing.assert_allclose(picture[:37, 4:44], expected[:37, 4:44], atol=1)
    np.testing.assert_allclose(picture[:37, :4], (expected[:37, :4] + HIDDEN) / 2, atol=1)
