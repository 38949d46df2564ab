"""Pictures: what is drawn where, in colours that mean the same in every tile."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.report import pictures
from pwc_exp.report.pictures import Gallery, Tiles

HEIGHT, WIDTH = 100, 200  # a tile of 150 x 300
EVERYWHERE = np.ones((HEIGHT, WIDTH), np.float32)


def constant(x: float, y: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.tile(np.array([x, y], np.float32), (height, width, 1))


def colour_of(x: float, y: float, max_speed: float = 8) -> np.ndarray:
    return flow_to_colour(constant(x, y, 1, 1), max_speed=max_speed)[0, 0]


def draw(
    flow: np.ndarray | None = None,
    valid: np.ndarray = EVERYWHERE,
    *,
    estimate: np.ndarray | None = None,
    flows: dict[int, np.ndarray] | None = None,
    frames: np.ndarray | None = None,
) -> np.ndarray:
    flow = constant(8, 0) if flow is None else flow
    frame1, frame2 = np.full((2, *valid.shape, 3), 0.5) if frames is None else frames
    estimate = flow if estimate is None else estimate
    return pictures.panel(frame1, frame2, flow, valid, estimate=estimate, flows=flows or {})


def tile(panel: np.ndarray, row: int, column: int) -> np.ndarray:
    """The pixels of a tile, [150, 300, 3]."""
    y, x = 20 + row * 178, 8 + column * 308
    return panel[y : y + 150, x : x + 300]


def test_tiles_are_in_order_and_keep_the_shape_of_the_frames() -> None:
    red, blue = np.zeros((2, HEIGHT, WIDTH, 3), np.float32)
    red[..., 0] = blue[..., 2] = 1
    levels = {2: constant(-8, 0, 25, 50), 3: constant(0, -8, 13, 25)}
    panel = draw(estimate=constant(0, 8), flows=levels, frames=np.stack([red, blue]))
    assert panel.dtype == np.uint8
    assert panel.shape == (2 * 178, 8 + 5 * 308 + 118, 3)
    colours = {
        (0, 0): np.array([255, 0, 0]),
        (0, 1): np.array([0, 0, 255]),
        (0, 2): colour_of(8, 0),
        (0, 3): colour_of(0, 8),
        (1, 0): colour_of(0, -8),
        (1, 1): colour_of(-8, 0),
    }
    for (row, column), colour in colours.items():
        shown = tile(panel, row, column)
        np.testing.assert_array_equal(shown, np.broadcast_to(colour, shown.shape))


def test_every_flow_has_the_colours_of_the_target() -> None:
    panel = draw(estimate=constant(4, 0), flows={2: constant(4, 0, 25, 50)})
    for place in ((0, 3), (1, 0)):
        np.testing.assert_array_equal(tile(panel, *place)[75, 150], colour_of(4, 0))


def test_unknown_target_is_black_and_counts_for_nothing() -> None:
    valid, target = EVERYWHERE.copy(), constant(8, 0)
    valid[:, WIDTH // 2 :] = 0
    target[:, WIDTH // 2 :] = (np.nan, 1e9)
    panel = draw(target, valid, estimate=constant(8, 4))
    for column in (2, 4):
        assert (tile(panel, 0, column)[:, 150:] == 0).all()
    np.testing.assert_array_equal(tile(panel, 0, 2)[75, 75], colour_of(8, 0))
    np.testing.assert_array_equal(tile(panel, 0, 4)[75, 75], pictures.ERROR_COLOURS[5])


def test_sparse_target_is_not_darkened() -> None:
    valid = np.zeros((300, 600), np.float32)
    valid[::2, ::2] = 1
    shown = tile(draw(constant(8, 0, 300, 600), valid), 0, 2)
    np.testing.assert_array_equal(shown, np.broadcast_to(colour_of(8, 0), shown.shape))


def test_level_is_shown_in_blocks_without_its_padding() -> None:
    """100 x 200 px at level 5 are 4 x 7 cells, of which the last row and column reach beyond."""
    flow = constant(0, 0, 4, 7)
    flow[2, 1] = (8, 0)
    flow[3, :] = (0, 8)
    shown = tile(draw(flows={5: flow}), 1, 0)
    block = flow_to_colour(flow, max_speed=8)
    np.testing.assert_array_equal(shown[96, 48], block[2, 1])  # 64 px down, 32 px right
    np.testing.assert_array_equal(shown[143, 95], block[2, 1])
    np.testing.assert_array_equal(shown[95, 48], block[1, 1])
    np.testing.assert_array_equal(shown[96, 47], block[2, 0])
    np.testing.assert_array_equal(shown[144, 0], block[3, 0])  # 96 px down, 4 px high
    assert (shown[:144] != block[3, 0]).any(axis=-1).all()


def test_errors_have_the_colours_of_kitti() -> None:
    errors = np.array([[0.0, 0.18, 0.19, 2.9, 3.1, 47, 49, np.nan]])
    colours = pictures.error_to_colour(errors, np.ones(errors.shape, bool))
    np.testing.assert_array_equal(colours[0], pictures.ERROR_COLOURS[[0, 0, 1, 4, 5, 8, 9, 9]])


@pytest.mark.filterwarnings("error")
def test_diverged_estimate_is_drawn() -> None:
    panel = draw(valid=np.zeros((HEIGHT, WIDTH)), estimate=np.full((HEIGHT, WIDTH, 2), np.nan))
    assert (tile(panel, 0, 3) == 0).all()


def test_upright_frames_stay_upright() -> None:
    panel = draw(constant(8, 0, 200, 100), np.ones((200, 100)), frames=np.zeros((2, 200, 100, 3)))
    black = (panel == 0).all(axis=-1)[20:320]
    assert black[:, 8:158].all()
    assert not black[:, 158:186].any()


def test_real_sample_is_readable_at_the_width_of_a_screen(shared: Path) -> None:
    folder = shared / "data/MPI-Sintel/training/clean/alley_1"
    frames = [
        np.asarray(PIL.Image.open(folder / f"frame_000{number}.png"), np.float32) / 255
        for number in (1, 2)
    ]
    flow = constant(3, -1, 436, 1024)
    flows = {level: constant(3, -1, 448 >> level, 1024 >> level) for level in range(2, 7)}
    panel = draw(flow, np.ones((436, 1024)), flows=flows, frames=np.stack(frames))
    assert 1200 <= panel.shape[1] <= 1800


def test_a_sheet_shows_frame2_where_the_flow_points_and_black_where_it_is_unknown() -> None:
    columns = np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32)[:, None], (HEIGHT, 1, 3))
    moved = np.roll(columns, 40, axis=1)
    valid = EVERYWHERE.copy()
    valid[: HEIGHT // 2] = 0
    examples = {name: [columns, moved, constant(40, 0), valid] for name in ("1. a", "2. b")}
    sheet = pictures.sheet(examples)
    assert sheet.shape == (2 * 178, 8 + 4 * 308 + 118, 3)
    for row in (0, 1):
        frame1, frame2, warped, flow = (tile(sheet, row, column) for column in range(4))
        known, unknown = np.s_[80:, 5:230], np.s_[:70]
        difference = np.abs(warped[known].astype(int) - frame1[known])
        assert difference.max() <= 2
        assert np.abs(frame2[known].astype(int) - frame1[known]).mean() > 20
        assert not warped[unknown].any() and not flow[unknown].any()
        np.testing.assert_array_equal(flow[100, 100], colour_of(40, 0, max_speed=40))


def test_pictures_for_a_page_share_their_size_and_the_colours_of_the_truth() -> None:
    target, valid = constant(4, 0, 4, 6), np.ones((4, 6))
    target[0], valid[0] = np.nan, 0
    frame1, frame2 = np.zeros((4, 6, 3)), np.ones((4, 6, 3))
    made = pictures.tiles(frame1, frame2, target, valid, estimate=target / 2)
    both, estimate, truth, error = made.values()
    assert {tile.shape for tile in made.values()} == {(280, 420, 3)}
    assert abs(int(both[100, 100, 0]) - 127) <= 1
    np.testing.assert_array_equal(truth[200, 200], colour_of(4, 0, max_speed=4))
    np.testing.assert_array_equal(estimate[200, 200], colour_of(2, 0, max_speed=4))
    assert not truth[0].any() and not error[0].any()
    assert list(made)[-1] == "error, AEPE 2.00 px"


def shown(errors: list[float], count: int) -> tuple[Gallery, int]:
    """The gallery, and how many samples were drawn."""
    gallery, drawn = Gallery(count), []
    for number, error in enumerate(errors):

        def draw_it(number: int = number) -> Tiles:
            drawn.append(number)
            return {}

        gallery.offer(error, number, str(number), draw_it)
    return gallery, len(drawn)


def test_of_many_samples_the_worst_and_the_best_are_kept_in_order() -> None:
    errors = np.random.default_rng(0).permutation(1000).astype(float).tolist()
    gallery, drawn = shown(errors, 3)
    assert [s.aepe for s in gallery.worst] == [999, 998, 997]
    assert [s.aepe for s in gallery.best] == [0, 1, 2]
    assert [errors[s.number] for s in gallery.best] == [0, 1, 2]
    assert drawn < 100


def test_of_few_samples_none_is_shown_twice_and_none_without_an_error() -> None:
    gallery, drawn = shown([2.0, 1.0, 3.0], 2)
    assert ([s.aepe for s in gallery.worst], [s.aepe for s in gallery.best]) == ([3, 2], [1])
    assert drawn == 3
    assert shown([float("nan")], 2)[1] == shown([1.0], 0)[1] == 0
