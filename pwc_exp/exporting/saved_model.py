"""The network as a SavedModel, for frames of any size; TensorFlow alone loads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.errors import DataError
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.graph import INPUTS, OUTPUT, owner, trace
from pwc_exp.models.pwcnet import PWCNet

SIGNATURE = "serving_default"


def write(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes `saved_model.pb` and the weights; one signature, for any size."""
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    signatures = {SIGNATURE: trace(model)}
    tf.saved_model.save(owner(model), str(folder), signatures=signatures, options=options)


def engines(folder: Path) -> dict[str, Runner]:
    """What runs it.

    Raises:
        DataError: no SavedModel, or one with another signature.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
        loaded.signatures[SIGNATURE]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise DataError(f"{folder}: no SavedModel of a network; {error}") from error

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        frames = dict(zip(INPUTS, map(tf.constant, (frame1, frame2)), strict=True))
        # The signature does not keep alive what it belongs to.
        return loaded.signatures[SIGNATURE](**frames)[OUTPUT].numpy()

    return {"TensorFlow": run}
