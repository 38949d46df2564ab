"""The flow of a network: compiled functions, and any number of pairs of any size.

A compiled function is made once per network, and traced once per size of frames.

Letters: B batch, H height, W width.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.errors import DeviceMemoryError
from pwc_exp.flow.metrics import error_sums
from pwc_exp.flow.resize import pad, padded_size, resize_flow, resize_frames, unpad
from pwc_exp.flow.tensorflow_ops import on_cpu, xla_pays
from pwc_exp.inference.tiling import TiledEstimate, whole_bytes
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
