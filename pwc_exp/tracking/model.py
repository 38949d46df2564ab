"""An MLflow model around a SavedModel: it is served, and loaded, without this package.

Letters: B batch, H height, W width.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from pwc_exp.tracking.provenance import library_versions

CODE = Path(__file__).with_name("served_code.py")
REQUIREMENTS = ("mlflow", "tensorflow", "numpy")
ANY = -1


def save(saved_model: Path, folder: Path) -> None:
    """Writes the folder of a model that maps uint8 frames to flow, in pixels.

    Args:
        saved_model: with a signature frame1, frame2 -> flow; it is copied.
        folder: it must be empty or missing.
    """
    frame = np.dtype(np.uint8), (ANY, ANY, ANY, 3)
    flow = np.dtype(np.float32), (ANY, ANY, ANY, 2)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(*frame, "frame1"), TensorSpec(*frame, "frame2")]),
        outputs=Schema([TensorSpec(*flow)]),
    )
    versions = library_versions()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that an example of the input could be given
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts={"savedmodel": str(saved_model)},
            signature=signature,
            pip_requirements=[f"{name}=={versions[name]}" for name in REQUIREMENTS],
        )


def load(folder: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Loads such a model: two frames, uint8 [B, H, W, 3] -> flow [B, H, W, 2], pixels."""
    loaded = mlflow.pyfunc.load_model(str(folder))

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return loaded.predict({"frame1": frame1, "frame2": frame2})

    return run
