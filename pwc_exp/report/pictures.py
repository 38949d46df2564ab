"""Samples as pictures, and which of many samples are worth drawing.

Letters: H height, W width; h, w the same of a tile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pwc_exp.flow.colour import flow_to_colour, legend, to_bytes
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

_Size = tuple[int, int]  # height, width
_Tile = tuple[str, np.ndarray]  # caption, [h, w, 3] uint8 RGB
Tiles = dict[str, np.ndarray]  # caption -> [h, w, 3] uint8 RGB


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
        self.worst: list[Shown] = []  # the worst first
        self._best: list[Shown] = []

    def offer(self, aepe: float, number: int, sample_id: str, draw: Callable[[], Tiles]) -> None:
        """Considers a sample; one whose AEPE is NaN, without a valid pixel, is never shown."""
        if np.isnan(aepe) or not self._count:
            return
        among_worst = len(self.worst) < self._count or aepe > self.worst[-1].aepe
        among_best = len(self._best) < self._count or aepe < self._best[-1].aepe
        if among_worst or among_best:
            shown = Shown(aepe, number, sample_id, draw())
            self.worst = sorted([*self.worst, shown], key=lambda s: (-s.aepe, s.number))
            self._best = sorted([*self._best, shown], key=lambda s: (s.aepe, s.number))
            del self.worst[self._count :], self._best[self._count :]

    @property
    def best(self) -> list[Shown]:
        """The best first, without those among the worst, where there are few samples."""
        worst = {shown.number for shown in self.worst}
        return [shown for shown in self._best if shown.number not in worst]


def panel(
    frame1: np.ndarray,
    frame2: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray,
    *,
    estimate: np.ndarray,
    flows: Mapping[int, np.ndarray],
) -> np.ndarray:
    """Draws a sample as [h, w, 3] uint8 RGB.

    All flows share one colour code: full saturation is the speed that 99.9 % of the target's
    pixels do not exceed. So pictures of one sample compare over levels and steps.

    Args:
        frame1: [H, W, 3] RGB in [0, 1]; `frame2` likewise.
        target: [H, W, 2] in pixels, where `valid`, [H, W], is 1.
        estimate: [H, W, 2] in pixels.
        flows: {level: [≥ H/2^level, ≥ W/2^level, 2]}, in pixels of the frames; cells beyond the
            frame, below and right, come from padding and are left out.
    """
    known = valid > 0
    size = _tile_size(*known.shape)
    max_speed = _full_speed(target, known)
    top = [
        ("frame 1", _frame(frame1, size)),
        ("frame 2", _frame(frame2, size)),
        _flow_tile("ground truth", target, size, max_speed, known),
        _flow_tile("prediction", estimate, size, max_speed, np.ones_like(known)),
        _error_tile(estimate, target, known, size),
    ]
    bottom = [
        _level_tile(level, flows[level], known.shape, size, max_speed)
        for level in sorted(flows, reverse=True)
    ]
    return _compose([top, bottom], [_error_scale(size[0]), _wheel(size[0], max_speed)], size)


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
        known = valid > 0
        size = _tile_size(*known.shape)
        max_speed = _full_speed(flow, known)
        warped = np.asarray(backward_warp(frame2[None], flow[None], border="zero"))[0]
        rows.append(
            [
                (caption, _frame(frame1, size)),
                ("frame 2", _frame(frame2, size)),
                ("frame 2, warped", _frame(warped * known[..., None], size)),
                _flow_tile("flow", flow, size, max_speed, known),
            ]
        )
        wheels.append(_wheel(size[0], max_speed))
    return _compose(rows, wheels, size)


def tiles(
    frame1: np.ndarray,
    frame2: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray,
    *,
    estimate: np.ndarray,
) -> Tiles:
    """Draws a sample as four pictures of one size, by their captions; arguments as in `panel`.

    The overlaid frames; prediction and ground truth in one colour code; the error.
    """
    known = valid > 0
    height, width = known.shape
    size = _tile_size(height, width, _LARGE_TILE)
    max_speed = _full_speed(target, known)
    return dict(
        [
            ("frame overlay", _frame((frame1 + frame2) / 2, size)),
            _flow_tile("prediction", estimate, size, max_speed, np.ones_like(known)),
            _flow_tile("ground truth", target, size, max_speed, known),
            _error_tile(estimate, target, known, size),
        ]
    )


def error_to_colour(error: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Colours an endpoint error, [H, W] in pixels, as [H, W, 3] uint8; not `valid` is black."""
    colour = ERROR_COLOURS[np.digitize(error, ERROR_BOUNDS)]  # NaN counts as the largest
    return np.where(valid[..., None], colour, np.uint8(0))


def _flow_tile(
    name: str, flow: np.ndarray, size: _Size, max_speed: float, valid: np.ndarray
) -> _Tile:
    fastest = _speed(flow)[valid].max(initial=0.0)
    shrunk, known = _shrink(flow, size, valid)
    colour = flow_to_colour(shrunk, max_speed=max_speed, valid=known)
    return (f"{name}, max {fastest:.1f} px", colour)


def _error_tile(estimate: np.ndarray, target: np.ndarray, valid: np.ndarray, size: _Size) -> _Tile:
    error = _speed(estimate - target)
    aepe = error[valid].mean() if valid.any() else np.nan
    shrunk, known = _shrink(error[..., None], size, valid)
    return (f"error, AEPE {aepe:.2f} px", error_to_colour(shrunk[..., 0], known))


def _level_tile(
    level: int, flow: np.ndarray, frame_size: _Size, size: _Size, max_speed: float
) -> _Tile:
    """Shows each cell of the level's grid as a block."""
    # The cell that a tile's pixel lies in, for each row and each column.
    rows, columns = (
        ((np.arange(shown) + 0.5) * full / shown).astype(np.intp) >> level
        for shown, full in zip(size, frame_size, strict=True)
    )
    colour = flow_to_colour(flow, max_speed=max_speed)
    height, width = flow.shape[:2]
    return (f"level {level}, {width} x {height}", colour[np.ix_(rows, columns)])


def _wheel(height: int, max_speed: float) -> _Tile:
    return (f"max {max_speed:.1f} px", legend(min(height, _LEGEND)))


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
    return ("error, px", np.asarray(image))


def _compose(rows: Sequence[Sequence[_Tile]], legends: Sequence[_Tile], size: _Size) -> np.ndarray:
    """Places rows of tiles below each other and the legends in a column on the right."""
    height, width = size
    column = max(width, _NARROWEST) + _GAP
    count = max(len(row) for row in rows)
    row_height = height + _CAPTION + _GAP
    canvas_size = (_GAP + count * column + _LEGEND + _GAP, len(rows) * row_height)
    canvas = PIL.Image.new("RGB", canvas_size, "white")
    draw = PIL.ImageDraw.Draw(canvas)
    font = PIL.ImageFont.load_default(_FONT_SIZE)

    def paste(tile: _Tile, x: int, y: int) -> None:
        caption, pixels = tile
        draw.text((x, y + _CAPTION - 3), caption, fill="black", font=font, anchor="ls")
        canvas.paste(PIL.Image.fromarray(pixels), (x, y + _CAPTION))

    for index, row in enumerate(rows):
        for place, tile in enumerate(row):
            x, y = _GAP + place * column, index * row_height
            paste(tile, x, y)
            # A border, because zero flow is as white as the canvas.
            y += _CAPTION
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline="lightgray")
    for index, tile in enumerate(legends, start=len(rows) - len(legends)):
        paste(tile, _GAP + count * column, index * row_height)
    return np.asarray(canvas)


def _tile_size(height: int, width: int, longer: int = _TILE) -> _Size:
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrink(values: np.ndarray, size: _Size, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    speed: np.ndarray = np.hypot(flow[..., 0], flow[..., 1])
    return speed


def _frame(frame: np.ndarray, size: _Size) -> np.ndarray:
    height, width = size
    image = PIL.Image.fromarray(to_bytes(frame))
    return np.asarray(image.resize((width, height), PIL.Image.Resampling.BOX))
