"""The network as one function of TensorFlow: frames of 8 bits in, flow in pixels out.

Letters: B batch, H height, W width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pwc_exp.exporting.engine import Runner
from pwc_exp.flow.portability import portable_only
from pwc_exp.models.pwcnet import PWCNet

ANY_SHAPE = (None, None, None)
INPUTS = ("frame1", "frame2")
OUTPUT = "flow"


def trace(model: PWCNet, shape: Sequence[int | None] = ANY_SHAPE) -> Any:
    """frame1, frame2: uint8 [B, H, W, 3], RGB -> {"flow": [B, H, W, 2], pixels}, a graph.

    Of plain operations only: whatever reads the graph needs neither this package nor XLA.

    Args:
        model: it stays the owner of the weights.
        shape: B, H and W; None where any will do.
    """
    frames = tf.TensorSpec([*shape, 3], tf.uint8)

    @tf.function(autograph=False)
    def estimate(frame1: tf.Tensor, frame2: tf.Tensor) -> dict[str, tf.Tensor]:
        frames = (tf.cast(frame, tf.float32) / 255.0 for frame in (frame1, frame2))
        return {OUTPUT: model.estimate(*frames)}

    with portable_only():
        return estimate.get_concrete_function(frames, frames)


def owner(model: PWCNet) -> tf.Module:
    """What owns the weights in TensorFlow's eyes, which keys of dictionaries confuse otherwise."""
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    return module


def runner(model: PWCNet) -> Runner:
    """The same for frames of any size, in this process; traced once."""
    function = trace(model)

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return function(tf.constant(frame1), tf.constant(frame2))[OUTPUT].numpy()

    return run
