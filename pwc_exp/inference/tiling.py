"""The same flow in less memory: levels that are too large are decoded in tiles.

Tiles of the frames would show seams, because the coarse levels read most of a frame. Here the
pyramid and the coarse levels, which take little memory, are those of the whole frame. Only the
decoding of a level, from its warp to its flow, is done in tiles. It reads no further than `reach`
pixels of its grid. Each tile is larger by that on all sides, and only its inner part is kept: the
flow is that of the whole frame, to rounding.

Letters: B batch, H height, W width, C channels; of a level's grid, unless said otherwise.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.errors import DeviceMemoryError
from pwc_exp.models.pwcnet import PWCNet

LEAST_TILE = 16  # cells of a tile's inner side: with less, most of the work is for the borders


class Span(NamedTuple):
    """One tile along one axis: what is read, and the part of it that is kept."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int


Grid = tuple[list[Span], list[Span]]  # the tiles of a level: every row with every column


class TiledEstimate:
    """Frames [1, H, W, 3] of one size, multiples of 2^levels -> flow [1, H, W, 2], in pixels.

    memory: bytes that this may take beside the frames, about.

    Raises:
        DeviceMemoryError: even the smallest tiles take more.
    """

    def __init__(self, model: PWCNet, height: int, width: int, *, memory: int) -> None:
        self.model = model
        sizes = {level: (height >> level, width >> level) for level in model.estimators}
        room = memory - kept_bytes(model, height, width)
        least = max(least_bytes(model, level, size) for level, size in sizes.items())
        if room < least:
            raise DeviceMemoryError(
                f"memory_limit must be {(least - room) / 1e9:.2f} GB higher, at least, for frames "
                f"of {height} x {width} (height x width, padded)"
            )
        self.grids = {
            level: _grid(size, reach(model, level), most=room // decoding_bytes(model, level))
            for level, size in sizes.items()
        }
        self.tiles = {k: len(rows) * len(columns) for k, (rows, columns) in self.grids.items()}
        self._encode = tf.function(model.frame_features)
        # One function for each level, so that each is traced once.
        self._compare = {k: tf.function(partial(model.compared, k)) for k in self.grids}
        self._decode = {k: tf.function(partial(model.decode_level, k)) for k in self.grids}
        self._finish = tf.function(model.full_resolution)

    def __call__(self, frame1: tf.Tensor, frame2: tf.Tensor) -> tf.Tensor:
        """The flow from `frame1` to `frame2`."""
        pyramid1, pyramid2 = self._encode(frame1), self._encode(frame2)
        from_coarser: list[tf.Tensor] = []
        for level, grid in self.grids.items():
            features1, features2 = pyramid1.pop(level), pyramid2.pop(level)
            compared = self._compare[level](features1, features2, from_coarser)
            del features2
            inputs = [features1, *compared, *from_coarser]
            flow, *from_coarser = self._decode_tiles(level, grid, inputs)
        return self._finish({level: flow})

    def _decode_tiles(self, level: int, grid: Grid, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        """`decode_level` on each tile of its inputs, [1, H, W, C] each, put together."""
        rows, columns = grid
        bands = []
        for row in rows:
            band = []
            for column in columns:
                area = np.s_[:, row.start : row.stop, column.start : column.stop]
                features1, cost1, cost2, *from_coarser = (values[area] for values in inputs)
                flow, to_finer = self._decode[level](features1, (cost1, cost2), from_coarser)
                band.append([_keep(values, row, column) for values in (flow, *to_finer)])
            bands.append([tf.concat(parts, axis=2) for parts in zip(*band, strict=True)])
        return [tf.concat(parts, axis=1) for parts in zip(*bands, strict=True)]


def reach(model: PWCNet, level: int) -> int:
    """How far a pixel of `decode_level` reads, in pixels of that level's grid."""
    cells = model.search_range + len(model.estimators[level].convolutions) + 1  # and its head
    if level in model.contexts:
        convolutions = model.contexts[level].convolutions
        cells += sum(convolution.dilation for convolution in convolutions) + 1
    return cells + 1  # half of the 4 x 4 kernels that lead to the finer level


def spans(size: int, inner: int, border: int) -> list[Span]:
    """Tiles over `size` cells, all of one length; a tile keeps at most `inner` of its cells.

    border: cells between what is kept and what is read, but at the ends, where nothing is beyond.
    """
    count = -(-size // inner)
    inner = -(-size // count)
    length = min(size, inner + 2 * border)
    if length == size:
        return [Span(0, size, 0, size)]
    tiles = []
    for kept_start in range(0, size, inner):
        start = min(max(kept_start - border, 0), size - length)
        tiles.append(Span(start, start + length, kept_start, min(kept_start + inner, size)))
    return tiles


def least_bytes(model: PWCNet, level: int, size: tuple[int, int]) -> int:
    """What the smallest tile of a level takes."""
    height, width = (min(length, LEAST_TILE + 2 * reach(model, level)) for length in size)
    return height * width * decoding_bytes(model, level)


def _grid(size: tuple[int, int], border: int, *, most: int) -> Grid:
    """Few tiles of at most so many cells, about square; the smallest tile has no more."""
    inner = list(size)
    while True:
        rows, columns = (spans(*axis, border) for axis in zip(size, inner, strict=True))
        if (rows[0].stop - rows[0].start) * (columns[0].stop - columns[0].start) <= most:
            return rows, columns
        longer = int(inner[1] > inner[0])
        inner[longer] = max(LEAST_TILE, inner[longer] * 7 // 8)


def _keep(values: tf.Tensor, row: Span, column: Span) -> tf.Tensor:
    """The inner part of a tile, at the tile's resolution or twice that."""
    factor = values.shape[1] // (row.stop - row.start)
    top, bottom = (factor * (edge - row.start) for edge in (row.kept_start, row.kept_stop))
    left, right = (factor * (edge - column.start) for edge in (column.kept_start, column.kept_stop))
    return values[:, top:bottom, left:right]


def whole_bytes(model: PWCNet, height: int, width: int) -> int:
    """What the flow of one pair, in one piece, takes beside the weights, about."""
    level = model.output_level
    cells = (height >> level) * (width >> level)
    return kept_bytes(model, height, width) + cells * decoding_bytes(model, level)


def kept_bytes(model: PWCNet, height: int, width: int) -> int:
    """What is held of whole frames while the finest level is decoded, about.

    Frames as they were read, padded, and as tensors; flow; features of both frames and their warp.
    """
    level = model.output_level
    features = 4 * model.pyramid.blocks[level - 1][-1].channels / 4**level
    return int(4 * height * width * (20 + features))


def decoding_bytes(model: PWCNet, level: int) -> int:
    """What `decode_level` takes for each pixel of a level, about.

    The factors were measured, as the peak of a process on two cores: 7.2 to 7.5 kB for lg, 1.6 to
    2.2 kB for sm, 1.1 to 1.5 kB for tiny.
    """
    widths = [convolution.channels for convolution in model.estimators[level].convolutions]
    inputs = (2 * model.search_range + 1) ** 2 + model.pyramid.blocks[level - 1][-1].channels + 4
    if model.estimators[level].dense:
        return round(4 * 3.3 * (inputs + sum(widths)))
    return round(4 * 1.6 * (inputs + 2 * max(widths)))
