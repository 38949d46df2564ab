"""The Python API: `pwc_exp.load` and helpers for flow, all with NumPy arrays in and out.

Flow is in pixels, (x, y) = (right, down), from frame 1 to frame 2. Invalid arguments raise a
ValueError that says what must hold and what was received.

Letters: B batch, H height, W width, C channels.
"""

import logging
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from pwc_exp import pretrained
from pwc_exp.cli import check_input, newest_run
from pwc_exp.config.commands import STANDARD_INPUT, PredictConfig
from pwc_exp.config.composition import read_model
from pwc_exp.config.training import InferencePrecision, InferencePrecisionConfig
from pwc_exp.data.formats import io
from pwc_exp.data.formats.io import WRITERS
from pwc_exp.data.sample import Batch
from pwc_exp.flow.colour import flow_to_colour, to_bytes
from pwc_exp.flow.warp import backward_warp, occlusion
from pwc_exp.inference import Estimator, make_levels
from pwc_exp.weights import Network, load_network

FRAMES = "uint8, or float in [0, 1]; [H, W, 3], [H, W] (grey) or [B, H, W, 3]"
WARPED = (
    "image must be uint8 or float, [H, W], [H, W, C] or [B, H, W, C], and flow [H, W, 2] or "
    "[B, H, W, 2] of the same size, at least 2 x 2"
)
_log = logging.getLogger("pwc_exp")


class FlowNetwork:
    """A network with weights, callable on two frames; made by `load`.

    Frames are RGB, uint8 or float in [0, 1], of any size: [H, W, 3], [H, W] (grey) or a batch
    [B, H, W, 3], both of one shape. Results of a batch have B as their first dimension, too.

    Attributes:
        model: the Keras model.
        info: the `WeightsInfo` of its weights: path, sha256, licence, training data.
    """

    def __init__(self, network: Network, config: PredictConfig) -> None:
        self.model, self.info = network
        self._estimator = Estimator(
            self.model, batch_size=config.batch_size, memory_limit=config.memory_limit
        )
        self._levels = make_levels(self.model)
        self._thresholds = {
            "relative": config.occlusion_relative,
            "absolute": config.occlusion_absolute,
        }

    def __call__(self, frame1: ArrayLike, frame2: ArrayLike) -> np.ndarray:
        """The flow from `frame1` to `frame2`, [H, W, 2] or [B, H, W, 2] float32, in pixels."""
        frames1, frames2 = _pair(frame1, frame2)
        if frames1.ndim == 3:
            return self._estimator([frames1], [frames2])[0]
        return np.stack(self._estimator(list(frames1), list(frames2)))

    def levels(self, frame1: ArrayLike, frame2: ArrayLike) -> dict[int, np.ndarray]:
        """The flow of every level of the pyramid, from coarse to fine, before it is enlarged.

        Returns:
            {level: [⌈H / 2^level⌉, ⌈W / 2^level⌉, 2] float32}, in pixels of the frames, as the
            result of a call; divided by 2^level they are pixels of the level's own grid.
        """
        frames1, frames2 = _pair(frame1, frame2)
        height, width = frames1.shape[-3:-1]
        pairs = [np.reshape(each, (-1, height, width, 3)) for each in (frames1, frames2)]
        unused = (tf.zeros(0),) * 3  # ground truth
        together = self._estimator.batch_size
        chunks = []
        for start in range(0, len(pairs[0]), together):
            first, second = (tf.constant(each[start : start + together]) for each in pairs)
            chunks.append(self._levels(Batch(first, second, *unused)).flows)
        flows = {}
        for level in sorted(chunks[0], reverse=True):
            flow = np.concatenate([chunk[level] for chunk in chunks])
            cut = flow[:, : -(-height // 2**level), : -(-width // 2**level)]
            flows[level] = cut if frames1.ndim == 4 else cut[0]
        return flows

    def occlusion(self, frame1: ArrayLike, frame2: ArrayLike) -> np.ndarray:
        """True where a pixel of `frame1` is hidden in `frame2` or outside of it: [H, W] bool.

        By forward-backward consistency, as the output `occlusion` of the command `predict`: two
        passes through the network, and also true where one of the flows is wrong.
        """
        flow, backward = self(frame1, frame2), self(frame2, frame1)
        height, width = flow.shape[-3:-1]
        if min(height, width) < 2:
            raise ValueError(
                f"occlusion needs frames of at least 2 x 2. Received: {height} x {width}"
            )
        there, back = (np.reshape(each, (-1, height, width, 2)) for each in (flow, backward))
        hidden = np.asarray(occlusion(there, back, **self._thresholds)) > 0
        return hidden.reshape(flow.shape[:-1])


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    precision: str = "auto",
    *,
    model: str | None = None,
    batch_size: int = 8,
    memory_limit: float | None = None,
) -> FlowNetwork:
    """Loads a network, as the command `predict` does.

    Which weights ship, and what precision=auto decided, goes to the logger `pwc_exp` at level INFO.
    If a licence restricts the use of the weights, a line on stderr says so.

    Args:
        name_or_path: name of shipped weights, a training run (also `latest`, or a folder of runs),
            a checkpoint or a file of weights; None: the default of the shipped weights.
        precision: fp32, bf16 or fp16; auto: bf16 where it is fast and accurate, else fp32.
        model: choice of the group `model`; needed for weights that do not say it, such as those of
            other projects.
        batch_size: pairs of a batch that go through the network together.
        memory_limit: GB; frames for which the process would need more are decoded in tiles.

    Raises:
        ValueError: an argument is not one of the above; or the weights are damaged, not finite or
            of another architecture.
        FileNotFoundError: there are no such weights.
    """
    if precision not in list(InferencePrecision):
        known = ", ".join(InferencePrecision)
        raise ValueError(f"precision must be one of {known}. Received: {precision}")
    weights = None if name_or_path is None else os.fspath(name_or_path)
    if weights is not None and weights not in pretrained.names():
        weights = str(newest_run(weights) or weights)
        check_input("weights", weights)
    config = PredictConfig(
        frames=STANDARD_INPUT,  # unused
        weights=weights,
        model=read_model(model) if model else None,
        precision=InferencePrecisionConfig(policy=InferencePrecision(precision)),
        batch_size=batch_size,
        memory_limit=memory_limit,
    )
    policy = keras.config.dtype_policy()  # the caller's own, which building a network changes
    try:
        network = load_network(
            run=None,
            weights=config.weights,
            model=config.model,
            precision=config.precision.policy,
            log=_log.info,
        )
    finally:
        keras.config.set_dtype_policy(policy)
    return FlowNetwork(network, config)


def read_flow(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reads .flo, .pfm, .flo5, .npy or KITTI's 16-bit PNG; the content tells the format.

    Returns:
        The flow, [H, W, 2] float32 in pixels, 0 where it is unknown; and where it is known, [H, W]
        float32, 1 or 0.
    """
    return io.read_flow(Path(path))


def write_flow(
    path: str | os.PathLike[str], flow: ArrayLike, valid: ArrayLike | None = None
) -> None:
    """Writes `flow`, [H, W, 2] in pixels, in the format of the suffix of `path`.

    Args:
        path: ends in .flo, .npy, .png (KITTI's, to 1/64 px), .flo5 or .pfm; an existing file is
            replaced.
        flow: [H, W, 2].
        valid: [H, W], above 0 where the flow is known; None: everywhere.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"path must end in one of {', '.join(WRITERS)}. Received: {path}")
    known = None if valid is None else np.asarray(valid)
    WRITERS[suffix](Path(path), _flow(flow), known)


def flow_to_image(
    flow: ArrayLike, *, max_speed: float | None = None, valid: ArrayLike | None = None
) -> np.ndarray:
    """`flow`, [H, W, 2] in pixels, in Middlebury's colours: [H, W, 3] uint8 RGB.

    Args:
        flow: unknown and non-finite pixels are black.
        max_speed: speed of full colour, in pixels; None: the largest of this flow.
        valid: [H, W], above 0 where the flow is known; None: everywhere.
    """
    known = None if valid is None else np.asarray(valid)
    motion = _flow(flow)
    if known is not None and known.shape != motion.shape[:2]:
        raise ValueError(f"valid must be [H, W], {motion.shape[:2]}. Received: {known.shape}")
    return flow_to_colour(motion, max_speed=max_speed, valid=known)


def warp(image: ArrayLike, flow: ArrayLike, *, border: str = "edge") -> np.ndarray:
    """Samples `image` at x + flow(x), bilinearly: frame 2 becomes what frame 1 looks like.

    Args:
        image: [H, W], [H, W, C] or [B, H, W, C], uint8 or float.
        flow: [H, W, 2] or [B, H, W, 2], in pixels.
        border: what is outside of the image: "edge" (the nearest pixel) or "zero".

    Returns:
        Of the shape and dtype of `image`.
    """
    pixels, motion = np.asarray(image), np.asarray(flow)
    size = motion.shape[:-1]
    of_flow = len(size) in (2, 3) and motion.shape[-1] == 2 and min(size[-2:]) >= 2
    of_image = pixels.shape[: len(size)] == size and pixels.ndim - len(size) in (0, 1)
    if not (of_flow and of_image and pixels.size and _is_image(pixels)):
        received = f"{pixels.dtype} {pixels.shape} and {motion.dtype} {motion.shape}"
        raise ValueError(f"{WARPED}. Received: {received}")
    for name, values in (("image", pixels), ("flow", motion)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite. Received: NaN or infinite values")
    channels = pixels.shape[-1] if pixels.ndim > len(size) else 1
    height, width = size[-2:]
    features = pixels.reshape((-1, height, width, channels)).astype(np.float32)
    motion = motion.reshape((-1, height, width, 2)).astype(np.float32)
    sampled = np.asarray(backward_warp(features, motion, border=border)).reshape(pixels.shape)
    return to_bytes(sampled / 255) if pixels.dtype == np.uint8 else sampled.astype(pixels.dtype)


def _pair(frame1: ArrayLike, frame2: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both frames as [H, W, 3] or [B, H, W, 3] float32, after refusing what they must not be."""
    frames1, frames2 = _frames("frame1", frame1), _frames("frame2", frame2)
    if frames1.shape != frames2.shape:
        raise ValueError(
            f"frame1 and frame2 must be of one size. Received: {frames1.shape} and {frames2.shape}"
        )
    return frames1, frames2


def _frames(name: str, frames: ArrayLike) -> np.ndarray:
    given = np.asarray(frames)
    pixels = given[..., None] if given.ndim == 2 else given
    fits = pixels.ndim in (3, 4) and pixels.shape[-1] in (1, 3) and pixels.size
    if not (fits and _is_image(given)):
        raise ValueError(f"{name} must be {FRAMES}. Received: {given.dtype} {given.shape}")
    if given.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(255)
    elif not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN too
        received = f"{given.dtype} from {pixels.min()} to {pixels.max()}"
        raise ValueError(f"{name} must be {FRAMES}, without NaN. Received: {received}")
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3)).astype(np.float32)


def _is_image(values: np.ndarray) -> bool:
    return values.dtype == np.uint8 or np.issubdtype(values.dtype, np.floating)


def _flow(flow: ArrayLike) -> np.ndarray:
    motion = np.asarray(flow)
    if motion.ndim != 3 or motion.shape[-1] != 2 or motion.dtype.kind not in "fiu":
        raise ValueError(
            f"flow must be numbers, [H, W, 2]. Received: {motion.dtype} {motion.shape}"
        )
    return motion
