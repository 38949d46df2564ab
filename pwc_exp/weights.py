"""Weights from wherever they lie: run, checkpoint, .safetensors file, tfoptflow checkpoint."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models import tfoptflow
from pwc_exp.models.pwcnet import PWCNet

BEST_KEY = "val/aepe"  # the metric that checkpoints are ranked by
CHECKPOINTS = "checkpoints"  # their folder in that of a run


def load_weights(model: PWCNet, path: Path) -> Path:
    """Assigns the weights at `path` to `model`, all or none, and returns where they really lie.

    Of a run that averages its weights, these are the averages.

    Args:
        model: its architecture must be that of the weights.
        path: folder of a run (its best checkpoint, or its last one if none has been evaluated),
            folder of a checkpoint, .safetensors file, or prefix of a checkpoint of tfoptflow.

    Raises:
        MissingInputError: nothing of the kind is there.
        DataError: damaged, not finite, or weights of another architecture.
        ResumeError: a checkpoint of another version of this package.
    """
    if prefix := _tensorflow_prefix(path):
        arrays = _read_tfoptflow(model, prefix)
        found = prefix
    else:
        found = _checkpoint(path)
        arrays = dict(checkpoints.load(found).arrays)
    checkpoints.assign_weights(checkpoints.named_state(model), arrays, source=str(found))
    return found


def _checkpoint(path: Path) -> Path:
    folder = path / CHECKPOINTS
    if not folder.is_dir():
        return path
    found = checkpoints.best(folder, key=BEST_KEY) or checkpoints.latest(folder)
    if found is None:
        raise MissingInputError(f"{folder} must hold a checkpoint. Received: none")
    return found


def _tensorflow_prefix(path: Path) -> Path | None:
    """The prefix of a TensorFlow checkpoint that the prefix itself or one of its files names."""
    if path.suffix in (".index", ".meta") or ".data-" in path.suffix:
        path = path.with_suffix("")
    return path if Path(f"{path}.index").is_file() else None


def _read_tfoptflow(model: PWCNet, prefix: Path) -> dict[str, np.ndarray]:
    unlike = [
        f"model.{name}={value}"
        for name, value in tfoptflow.CONVENTIONS.items()
        if model.conventions[name] != value
    ]
    if unlike:
        raise DataError(f"{prefix}: weights of tfoptflow need {', '.join(unlike)}, as model=sm, lg")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if tfoptflow.weight_name(name)]
        tensors = {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DataError(f"{prefix} is not a readable TensorFlow checkpoint: {error}") from error
    if not tensors:
        raise DataError(f"{prefix} must hold variables under {tfoptflow.SCOPE}. Received: none")
    return {
        f"{checkpoints.MODEL_PREFIX}{model.name}/{name}": value
        for name, value in tfoptflow.convert(tensors).items()
    }
