"""The flow of pairs of any size, in batches, within the available memory; and colour scaling.

Letters: B batch, H height, W width.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil
import tensorflow as tf

from pwc_exp.errors import DeviceMemoryError
from pwc_exp.flow.resize import padded_size, resize_flow, resize_frames
from pwc_exp.flow.tensorflow_ops import on_cpu
from pwc_exp.inference import Estimate, make_estimate
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.prediction.sources import OF_ONE_PAIR, Source
from pwc_exp.prediction.tiling import TiledEstimate, whole_bytes

KEPT_SIZES = 8  # sizes whose compiled functions are kept: many sizes must not fill the memory
SAMPLED_PAIRS = 9  # from which the speed of full colour is found
SAMPLED_SIDE = 512  # px; larger frames are made smaller for that
FULL_COLOUR = 99  # percent of their pixels that are not faster than full colour


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


def find_max_speed(source: Source, model: PWCNet, flow: np.ndarray) -> float:
    """The speed of full colour, in px, from a few small pairs of a source.

    flow: used where the source has no sample, as a stream.
    """
    found = []
    estimators: dict[float, Estimator] = {}
    for pair in source.sample(SAMPLED_PAIRS):
        try:
            scale = min(1.0, SAMPLED_SIDE / max(pair.size))
            estimate = estimators.setdefault(scale, Estimator(model, scale=scale))
            found += estimate([pair.frame1.pixels], [pair.frame2.pixels])
        except OF_ONE_PAIR:
            continue  # reported when its turn comes
    return full_speed(found or [flow])


def full_speed(flows: Sequence[np.ndarray]) -> float:
    """The speed, in px, that 99 % of the pixels of flows [H, W, 2] do not exceed; at least 1.

    It is rounded up to two digits, so that rounding in the network does not change the colours.
    """
    speeds = np.concatenate([np.hypot(flow[..., 0], flow[..., 1]).ravel() for flow in flows])
    finite = speeds[np.isfinite(speeds)]
    speed = max(1.0, float(np.percentile(finite, FULL_COLOUR))) if finite.size else 1.0
    digit = 10.0 ** (math.floor(math.log10(speed)) - 1)
    return round(math.ceil(speed / digit) * digit, 6)


def _batch(
    frames: Sequence[np.ndarray], seen: tuple[int, int], padded: tuple[int, int]
) -> tf.Tensor:
    """Frames of one size as a batch [B, H, W, 3] of the padded size."""
    if frames[0].shape[:2] != seen:
        frames = [resize_frames(frame[None], *seen)[0].numpy() for frame in frames]
    batch = np.zeros((len(frames), *padded, 3), np.float32)
    batch[:, : seen[0], : seen[1]] = frames
    return tf.constant(batch)
