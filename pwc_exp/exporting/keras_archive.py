"""The network as Keras's own archive, and its weights as a file of tensors.

The archive names classes of this package, so only programs that have it can load the archive. The
tensors are for everybody; `weights=` of every command reads them too.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save

from pwc_exp import checkpoints, storage
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.models.pwcnet import PWCNet

ARCHIVE = "flow.keras"
TENSORS = "weights.safetensors"


def write(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes both files; for any size."""
    model.save(folder / ARCHIVE)
    state = checkpoints.named_state(model)
    tensors = {name: keras.ops.convert_to_numpy(variable) for name, variable in state.items()}
    storage.write_file(folder / TENSORS, save(tensors))


def engines(folder: Path) -> dict[str, Runner]:
    """What runs it."""
    # In safe mode, which is the default, no code of the archive is run.
    return {"Keras": runner(keras.saving.load_model(folder / ARCHIVE))}


def runner(model: PWCNet) -> Runner:
    """The network itself, with the operations that this package trains it with; not compiled."""

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        frames = (tf.constant(frame, tf.float32) / 255.0 for frame in (frame1, frame2))
        return model.estimate(*frames).numpy()

    return run
