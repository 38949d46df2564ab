"""Samples as pictures, and which of many samples are worth drawing.

Letters: H height, W width; h, w the same of a tile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pwc_exp.data.sample import Batch
from pwc_exp.flow.colour import flow_to_colour, legend
from pwc_exp.flow.warp import backward_warp

# Bounds and colours of KITTI's error maps: blue up to its 3 px, then yellow to red.
# https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php, devkit, log_colormap.h
ERROR_BOUNDS = np.array([0.1875, 0.375, 0.75, 1.5, 3, 6, 12, 24, 48])  # px
_HEX = "313695 4575b4 74add1 abd9e9 e0f3f8 fee090 fdae61 f46d43 d73027 a50026"
ERROR_COLOURS = np.frombuffer(bytes.fromhex(_HEX), np.uint8).reshape(-1, 3)

_TILE = 300  # longer side of a tile, in pixels
_LARGE_TILE = 420  # of one that has a place of its own on a page
_NARROWEST = 190  # a column, so that its caption fits
_LEGEND = 110  # column of the legends
_GAP = 8
_CAPTION = 20  # height of a line of text
_FONT_SIZE = 14

Tiles = dict[str, np.ndarray]  # caption -> [h, w, 3] uint8 RGB


class _Tile(NamedTuple):
    caption: str
    pixels: np.ndarray  # [h, w, 3] uint8


class Shown(NamedTuple):
    """A sample that is drawn."""

    aepe: float  # px
    number: int  # in its source
    id: str
    tiles: Tiles


class Gallery:
    """Keeps the pictures of the `count` worst and the `count` best of all samples it is offered.

    A sample is drawn only when it is among them, so that most of thousands are never drawn.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._worst: list[Shown] = []
        self._best: list[Shown] = []

    def offer(self, aepe: float, number: int, sample_id: str, draw: Callable[[], Tiles]) -> None:
        """Considers a sample; one whose AEPE is NaN, without a valid pixel, is never shown."""
        if np.isnan(aepe) or not self._count:
            return
        among_worst = len(self._worst) < self._count or aepe > self._worst[-1].aepe
        among_best = len(self._best) < self._count or aepe < self._best[-1].aepe
        if not (among_worst or among_best):
            return
        shown = Shown(aepe, number, sample_id, draw())
        if among_worst:
            self._worst = sorted([*self._worst, shown], key=lambda s: (-s.aepe, s.number))
            del self._worst[self._count :]
        if among_best:
            self._best = sorted([*self._best, shown], key=lambda s: (s.aepe, s.number))
            del self._best[self._count :]

    @property
    def worst(self) -> list[Shown]:
        """The worst first."""
        return self._worst

    @property
    def best(self) -> list[Shown]:
        """The best first, without those among the worst, where there are few samples."""
        worst = {shown.number for shown in self._worst}
        return [shown for shown in self._best if shown.number not in worst]


def panel_of(batch: Batch, estimate: Any, flows: Mapping[int, np.ndarray]) -> np.ndarray:
    """Draws the first sample of `batch` and of `estimate`, [B, H, W, 2]; see `panel`."""
    return panel(
        batch.frame1[0].numpy(),
        batch.frame2[0].numpy(),
        target=batch.flow[0].numpy(),
        valid=batch.valid[0].numpy(),
        estimate=estimate[0].numpy(),
        flows=flows,
    )


def panel(
    frame1: np.ndarray,
    frame2: np.ndarray,
    *,
    target: np.ndarray | None,
    valid: np.ndarray | None,
    estimate: np.ndarray,
    flows: Mapping[int, np.ndarray],
) -> np.ndarray:
    """Draws a sample as [h, w, 3] uint8 RGB.

    All flows share one colour code: full saturation is the speed that 99.9 % of the target's
    pixels do not exceed (of the estimate's, without a target). So pictures of one sample compare
    over levels and steps.

    Args:
        frame1: [H, W, 3] RGB in [0, 1]; `frame2` likewise.
        target: [H, W, 2] in pixels, where known; `valid`, [H, W], is 1 there; None: everywhere.
        estimate: [H, W, 2] in pixels.
        flows: {level: [≥ H/2^level, ≥ W/2^level, 2]}, in pixels of the frames; cells beyond the
            frame, below and right, come from padding and are left out.
    """
    height, width = frame1.shape[:2]
    size = _tile_size(height, width)
    everywhere = np.ones((height, width), bool)
    known = everywhere if valid is None else valid > 0
    max_speed = _full_speed(*((estimate, everywhere) if target is None else (target, known)))

    top = [_Tile("frame 1", _frame(frame1, size)), _Tile("frame 2", _frame(frame2, size))]
    legends = [_wheel(size[0], max_speed)]
    if target is not None:
        top.append(_flow_tile("ground truth", target, size, max_speed, known))
    top.append(_flow_tile("prediction", estimate, size, max_speed, everywhere))
    if target is not None:
        top.append(_error_tile(estimate, target, known, size))
        legends.insert(0, _error_scale(size[0]))
    bottom = [
        _level_tile(level, flows[level], (height, width), size, max_speed)
        for level in sorted(flows, reverse=True)
    ]
    return _compose([top, bottom], legends, size)


def sheet(examples: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
    """Draws examples of one size below each other, as [h, w, 3] uint8 RGB.

    A row holds the frames, frame 2 warped by the flow, and the flow. Where the flow is right, the
    warped frame looks like frame 1; what is occluded in frame 2 appears twice in it.

    examples: for each caption frame1, frame2 [H, W, 3] RGB in [0, 1], flow [H, W, 2] in pixels and
    valid [H, W], 0 or 1. Where it is 0, the last two pictures are black.
    """
    rows = []
    wheels = []
    for caption, (frame1, frame2, flow, valid) in examples.items():
        size = _tile_size(*valid.shape)
        max_speed = _full_speed(flow, valid > 0)
        warped = np.asarray(backward_warp(frame2[None], flow[None], border="zero"))[0]
        tiles = [
            _Tile(caption, _frame(frame1, size)),
            _Tile("frame 2", _frame(frame2, size)),
            _Tile("frame 2, warped", _frame(warped * (valid[..., None] > 0), size)),
            _flow_tile("flow", flow, size, max_speed, valid > 0),
        ]
        rows.append(tiles)
        wheels.append(_wheel(size[0], max_speed))
    return _compose(rows, wheels, size)


def tiles(
    frame1: np.ndarray,
    frame2: np.ndarray,
    *,
    target: np.ndarray,
    valid: np.ndarray,
    estimate: np.ndarray,
) -> Tiles:
    """Draws a sample as four pictures of one size, [h, w, 3] uint8 RGB, by their captions.

    The overlaid frames; prediction and ground truth in one colour code; the error. The arguments
    are those of `panel`.
    """
    known = valid > 0
    height, width = known.shape
    size = _tile_size(height, width, _LARGE_TILE)
    max_speed = _full_speed(target, known)
    parts = (
        _Tile("frame overlay", _frame((frame1 + frame2) / 2, size)),
        _flow_tile("prediction", estimate, size, max_speed, np.ones_like(known)),
        _flow_tile("ground truth", target, size, max_speed, known),
        _error_tile(estimate, target, known, size),
    )
    return {part.caption: part.pixels for part in parts}


def error_to_colour(error: np.ndarray, *, valid: np.ndarray | None = None) -> np.ndarray:
    """Colours an endpoint error, [H, W] in pixels, as [H, W, 3] uint8; not `valid` is black."""
    colour = ERROR_COLOURS[np.digitize(error, ERROR_BOUNDS)]  # NaN counts as the largest
    return colour if valid is None else np.where((valid > 0)[..., None], colour, np.uint8(0))


def _flow_tile(
    name: str, flow: np.ndarray, size: tuple[int, int], max_speed: float, valid: np.ndarray
) -> _Tile:
    fastest = _speed(flow)[valid].max(initial=0.0)
    shrunk, known = _shrink(flow, size, valid)
    colour = flow_to_colour(shrunk, max_speed=max_speed, valid=known)
    return _Tile(f"{name}, max {fastest:.1f} px", colour)


def _error_tile(
    estimate: np.ndarray, target: np.ndarray, valid: np.ndarray, size: tuple[int, int]
) -> _Tile:
    error = _speed(estimate - target)
    aepe = error[valid].mean() if valid.any() else np.nan
    shrunk, known = _shrink(error[..., None], size, valid)
    return _Tile(f"error, AEPE {aepe:.2f} px", error_to_colour(shrunk[..., 0], valid=known))


def _level_tile(
    level: int,
    flow: np.ndarray,
    frame_size: tuple[int, int],
    size: tuple[int, int],
    max_speed: float,
) -> _Tile:
    """Shows each cell of the level's grid as a block."""
    # The cell that a tile's pixel lies in, for each row and each column.
    rows, columns = (
        ((np.arange(shown) + 0.5) * full / shown).astype(np.intp) >> level
        for shown, full in zip(size, frame_size, strict=True)
    )
    colour = flow_to_colour(flow, max_speed=max_speed)
    height, width = flow.shape[:2]
    return _Tile(f"level {level}, {width} x {height}", colour[np.ix_(rows, columns)])


def _wheel(height: int, max_speed: float) -> _Tile:
    return _Tile(f"max {max_speed:.1f} px", legend(min(height, _LEGEND)))


def _error_scale(height: int) -> _Tile:
    """The error's colours, smallest at the bottom, each with its upper bound."""
    count = len(ERROR_COLOURS)
    image = PIL.Image.new("RGB", (_LEGEND, height), "white")
    draw = PIL.ImageDraw.Draw(image)
    edges = np.linspace(height, 0, count + 1).astype(int)
    for colour, lower, upper in zip(ERROR_COLOURS, edges, edges[1:], strict=False):
        draw.rectangle((0, upper, 24, lower - 1), fill=tuple(int(part) for part in colour))
    font = PIL.ImageFont.load_default(11)
    for bound, edge in zip(ERROR_BOUNDS[::2], edges[1::2], strict=True):  # all would not fit
        draw.text((30, edge), f"{bound:.2g}", fill="black", font=font, anchor="lm")
    return _Tile("error, px", np.asarray(image))


def _compose(
    rows: Sequence[Sequence[_Tile]], legends: Sequence[_Tile], size: tuple[int, int]
) -> np.ndarray:
    """Places rows of tiles below each other and the legends in a column on the right."""
    height, width = size
    column = max(width, _NARROWEST) + _GAP
    count = max(len(row) for row in rows)
    row_height = height + _CAPTION + _GAP
    canvas_size = (_GAP + count * column + _LEGEND + _GAP, len(rows) * row_height)
    canvas = PIL.Image.new("RGB", canvas_size, "white")
    draw = PIL.ImageDraw.Draw(canvas)
    for index, row in enumerate(rows):
        for place, tile in enumerate(row):
            x, y = _GAP + place * column, index * row_height
            _paste(canvas, tile, (x, y))
            # A border, because zero flow is as white as the canvas.
            y += _CAPTION
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline="lightgray")
    first = len(rows) - len(legends)
    for index, tile in enumerate(legends, start=first):
        _paste(canvas, tile, (_GAP + count * column, index * row_height))
    return np.asarray(canvas)


def _paste(canvas: PIL.Image.Image, tile: _Tile, corner: tuple[int, int]) -> None:
    """Puts a tile at `corner` (x, y), below its caption."""
    x, y = corner
    font = PIL.ImageFont.load_default(_FONT_SIZE)
    draw = PIL.ImageDraw.Draw(canvas)
    draw.text((x, y + _CAPTION - 3), tile.caption, fill="black", font=font, anchor="ls")
    canvas.paste(PIL.Image.fromarray(tile.pixels), (x, y + _CAPTION))


def _tile_size(height: int, width: int, longer: int = _TILE) -> tuple[int, int]:
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrink(
    values: np.ndarray, size: tuple[int, int], valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Averages `values`, [H, W, C], over the valid pixels of each block that becomes one.

    Returns them, [h, w, C], and where a block had any, [h, w].
    """
    height, width = size

    def reduce(channel: np.ndarray) -> np.ndarray:
        image = PIL.Image.fromarray(channel.astype(np.float32))
        return np.asarray(image.resize((width, height), PIL.Image.Resampling.BOX))

    known = np.where(valid[..., None], values, 0.0)  # what is not valid may be NaN
    share = reduce(valid)
    sums = [reduce(channel) for channel in np.moveaxis(known, -1, 0)]
    return np.stack(sums, axis=-1) / np.maximum(share, 1e-6)[..., None], share > 0


def _full_speed(flow: np.ndarray, valid: np.ndarray) -> float:
    """The speed of full saturation; at least 1 px, so that noise in a still scene stays pale."""
    speed = _speed(flow)[valid]
    finite = speed[np.isfinite(speed)]
    return max(1.0, float(np.percentile(finite, 99.9))) if finite.size else 1.0


def _speed(flow: np.ndarray) -> np.ndarray:
    x, y = np.moveaxis(flow, -1, 0)
    speed: np.ndarray = np.hypot(x, y)
    return speed


def _frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    image = PIL.Image.fromarray((255 * frame.clip(0, 1)).round().astype(np.uint8))
    return np.asarray(image.resize((width, height), PIL.Image.Resampling.BOX))
