"""From frames to flow with one network: compiled, at any size, within the available memory.

A compiled function is made once per network, and traced once per size of frames. Levels that are
too large for the memory are decoded in tiles. Tiles of the frames would show seams, because the
coarse levels read most of a frame. Here the pyramid and the coarse levels, which take little
memory, are those of the whole frame; only the decoding of a level, from its warp to its flow, is
done in tiles. It reads no further than `reach` pixels of its grid. Each tile is larger by that on
all sides, and only its inner part is kept: the flow is that of the whole frame, to rounding.

Letters: B batch, H height, W width, C channels; in tiles of a level's grid, unless said otherwise.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.errors import DeviceMemoryError
from pwc_exp.flow.metrics import error_sums
from pwc_exp.flow.resize import pad, padded_size, resize_flow, resize_frames, unpad
from pwc_exp.flow.tensorflow_ops import on_cpu, xla_pays
from pwc_exp.models.pwcnet import PWCNet

Estimate = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
EvalStep = Callable[[Batch], dict[str, tf.Tensor]]

KEPT_SIZES = 8  # sizes whose compiled functions are kept: many sizes must not fill the memory


class Levels(NamedTuple):
    """What a picture of one batch needs, all in full-resolution pixels."""

    estimate: tf.Tensor  # [B, H, W, 2]
    flows: dict[int, tf.Tensor]  # {level: [B, ≥ H/2^level, ≥ W/2^level, 2]}, of the padded frames


def make_estimate(model: PWCNet, *, xla: bool) -> Estimate:
    """`model.estimate`, compiled: frames [B, H, W, 3] -> flow [B, H, W, 2] in pixels.

    Args:
        model: the network.
        xla: let XLA compile the decoder where that pays: on processors on which oneDNN handles a
            single large image badly. It costs about 10 s per size of frames.
    """
    tf.get_logger().addFilter(_is_unexpected)
    if not (xla and xla_pays()):
        return tf.function(model.estimate)
    decode = tf.function(model.decode, jit_compile=True)
    return tf.function(lambda frame1, frame2: model.estimate(frame1, frame2, decode=decode))


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Filters TensorFlow's retracing warning: these functions trace once per size of frames."""
    message = record.getMessage()
    expected = ("PWCNet.estimate", "make_estimate", "make_eval_step", "make_levels")
    return "retracing" not in message or not any(name in message for name in expected)


def make_eval_step(estimate: Estimate) -> EvalStep:
    """batch -> the sums [B] of `error_sums`, compiled; for any estimate, of zero flow as well."""

    @tf.function
    def eval_step(batch: Batch) -> dict[str, tf.Tensor]:
        return error_sums(estimate(batch.frame1, batch.frame2), batch.flow, batch.valid)

    return eval_step


def make_levels(model: PWCNet) -> Callable[[Batch], Levels]:
    """batch -> the flow at every level and the estimate, compiled; frames of any size."""
    multiple = 2**model.levels

    @tf.function
    def levels(batch: Batch) -> Levels:
        flows = model((pad(batch.frame1, multiple), pad(batch.frame2, multiple)))
        in_pixels = {level: flow * model.units[level] for level, flow in flows.items()}
        height, width = batch.frame1.shape[1:3]
        return Levels(unpad(model.full_resolution(flows), height, width), in_pixels)

    return levels


class _Plan(NamedTuple):
    """How pairs of one padded size go through the network."""

    estimate: Estimate
    batch_size: int
    tiles: dict[int, int] | None  # of each level; None: all of it in one piece


class Estimator:
    """Frames [H, W, 3] float32 RGB in [0, 1] -> flow [H, W, 2] float32, in pixels.

    Frames are padded with zeros, below and right, to multiples of 2^levels; what that added is cut
    off again.

    Args:
        model: the network.
        size: (height, width) at which the network sees the frames; None: their own.
        scale: the same as a share of their own size.
        batch_size: pairs that go through the network together.
        memory_limit: GB that this process must not exceed; frames that would need more are decoded
            in tiles. None: what does not fit in the free memory is refused.
        xla: let XLA compile the decoder, where that pays.
    """

    def __init__(
        self,
        model: PWCNet,
        *,
        size: tuple[int, int] | None = None,
        scale: float | None = None,
        batch_size: int = 1,
        memory_limit: float | None = None,
        xla: bool = False,
    ) -> None:
        self.model = model
        self.size = size
        self.scale = scale
        self.batch_size = batch_size
        self.memory_limit = memory_limit
        self.xla = xla
        self._plans: OrderedDict[tuple[int, int], _Plan] = OrderedDict()

    def __call__(
        self, frames1: Sequence[np.ndarray], frames2: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The flows from `frames1` to `frames2`, all of one size.

        Raises:
            DeviceMemoryError: they do not fit in the memory.
        """
        height, width = frames1[0].shape[:2]
        seen, padded = self._sizes(height, width)
        plan = self._plan(padded)
        flows: list[np.ndarray] = []
        for start in range(0, len(frames1), plan.batch_size):
            chunk = slice(start, start + plan.batch_size)
            first, second = (_batch(frames[chunk], seen, padded) for frames in (frames1, frames2))
            try:
                flow = plan.estimate(first, second)[:, : seen[0], : seen[1]]
            except tf.errors.ResourceExhaustedError as error:
                raise self._too_large(padded) from error
            if seen != (height, width):
                flow = resize_flow(flow, height, width)
            flows.extend(flow.numpy())
        return flows

    def account(self, height: int, width: int) -> dict[str, Any]:
        """How frames of this size went through the network, for the record."""
        seen, padded = self._sizes(height, width)
        tiles = self._plan(padded).tiles
        return {
            "resized_to": list(seen) if seen != (height, width) else None,
            "padded_to": list(padded),
            "tiles_of_levels": tiles and {str(level): count for level, count in tiles.items()},
        }

    def _sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The size at which the network sees frames, before and after they are padded."""
        seen = self.size or (height, width)
        if self.scale:
            seen = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        return seen, padded_size(*seen, 2**self.model.levels)

    def _plan(self, padded: tuple[int, int]) -> _Plan:
        if padded not in self._plans:
            self._plans[padded] = self._make_plan(padded)
        self._plans.move_to_end(padded)
        while len(self._plans) > KEPT_SIZES:
            self._plans.popitem(last=False)
        return self._plans[padded]

    def _make_plan(self, padded: tuple[int, int]) -> _Plan:
        needed = whole_bytes(self.model, *padded)
        together = self.batch_size
        if self.memory_limit is None:
            if needed > psutil.virtual_memory().available and on_cpu():
                raise self._too_large(padded)
        else:
            room = int(0.95e9 * self.memory_limit - psutil.Process().memory_info().rss)
            if needed > room:
                tiled = TiledEstimate(self.model, *padded, memory=room)
                return _Plan(tiled, 1, tiled.tiles)
            together = min(together, room // needed)
        return _Plan(make_estimate(self.model, xla=self.xla), together, None)

    def _too_large(self, padded: tuple[int, int]) -> DeviceMemoryError:
        height, width = padded
        needed = self.batch_size * whole_bytes(self.model, *padded) / 1e9
        return DeviceMemoryError(
            f"{self.batch_size} pair(s) of {height} x {width} (height x width, padded) need about "
            f"{needed:.1f} GB, more than is free: set memory_limit=<GB> (tiles, the same result), "
            "a smaller batch_size, or scale=0.5"
        )


def _batch(
    frames: Sequence[np.ndarray], seen: tuple[int, int], padded: tuple[int, int]
) -> tf.Tensor:
    """Frames of one size as a batch [B, H, W, 3] of the padded size."""
    if frames[0].shape[:2] != seen:
        frames = [resize_frames(frame[None], *seen)[0].numpy() for frame in frames]
    batch = np.zeros((len(frames), *padded, 3), np.float32)
    batch[:, : seen[0], : seen[1]] = frames
    return tf.constant(batch)


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
