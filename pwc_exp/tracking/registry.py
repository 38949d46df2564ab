"""Models in MLflow: the best run of a sweep, registered; an exported network, as a model to serve.

    mlflow.artifacts.download_artifacts("models:/<name>@best")

returns the folder of the best checkpoint of a sweep.

Letters: B batch, H height, W width.
"""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pwc_exp.errors import MissingInputError
from pwc_exp.tracking.mlflow_store import SyncState, clean_tags, connect, destination, mlflow_errors
from pwc_exp.tracking.record import Sweep, library_versions, sweep_of

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Run

ALIAS = "best"
BEST_TAG = "best"


class Registered(NamedTuple):
    """A version of a registered model."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """What MLflow loads and downloads it by, as long as it is the best."""
        return f"models:/{self.name}@{ALIAS}"


def register(
    run_dir: Path,
    *,
    checkpoint: str,
    metrics: Mapping[str, float],
    step: int,
    uri: str | None,
    outputs: Path,
) -> Registered:
    """Marks a child as the best of its sweep, and registers its checkpoint in MLflow as a model.

    A checkpoint that is registered already keeps its version, and gets the new tags.

    Args:
        run_dir: the folder of the child, which is completely in MLflow.
        checkpoint: its folder in the artifacts, such as `checkpoints/best`.
        metrics: of the checkpoint, such as val/aepe.
        step: of the checkpoint.
        uri: MLflow's address; None for where the run is.
        outputs: the folder of all runs.

    Raises:
        MissingInputError: the run is no child of a sweep, or MLflow lacks it or its checkpoint.
        BusyError: MLflow does not answer, or refuses.
    """
    sweep, state = sweep_of(run_dir), SyncState.load(run_dir)
    remedy = f"`python -m pwc_exp.sync {run_dir}` sends it"
    if sweep is None:
        raise MissingInputError(f"{run_dir.parent} must hold a sweep. Received: none")
    if state is None:
        raise MissingInputError(f"{run_dir} is not in MLflow: {remedy}")
    address = destination(run_dir, uri, outputs)
    tags = {key: f"{value:.6g}" for key, value in metrics.items()}
    tags |= {"step": str(step), "run_dir": str(run_dir), **sweep.values}
    with mlflow_errors(address, f"does not register {run_dir}"):
        client, _ = connect(address, state.experiment, outputs)
        run = client.get_run(state.run_id)
        if not client.list_artifacts(state.run_id, checkpoint):
            raise MissingInputError(f"MLflow lacks {checkpoint} of {run_dir}: {remedy}")
        registered = _version(client, run, sweep, checkpoint, clean_tags(tags))
        client.set_registered_model_alias(registered.name, ALIAS, registered.version)
        _mark(client, run, sweep)
    return registered


def _version(
    client: "mlflow.MlflowClient",
    run: "Run",
    sweep: Sweep,
    checkpoint: str,
    tags: Mapping[str, str],
) -> Registered:
    """The version that has the checkpoint; a new one if there is none."""
    name = re.sub(r"[/:'\"%]", "-", sweep.name)  # which names of models must not have
    source = f"{run.info.artifact_uri}/{checkpoint}"
    if not client.search_registered_models(f"name = '{name}'"):
        text = f"The best checkpoint of the sweep {sweep.name}: a folder for `weights=`"
        client.create_registered_model(name, description=text)
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.source == source:
            for key, value in tags.items():
                client.set_model_version_tag(name, known.version, key, value)
            return Registered(name, str(known.version))
    made = client.create_model_version(
        name, source, run.info.run_id, dict(tags), description=sweep.child
    )
    return Registered(name, str(made.version))


def _mark(client: "mlflow.MlflowClient", run: "Run", sweep: Sweep) -> None:
    """Tags the run as the best of the sweep, and no other run of it."""
    tagged = f"tags.{BEST_TAG} = 'true'"
    for other in client.search_runs([run.info.experiment_id], filter_string=tagged):
        if other.data.tags.get("parent") == sweep.name and other.info.run_id != run.info.run_id:
            client.delete_tag(other.info.run_id, BEST_TAG)
    client.set_tag(run.info.run_id, BEST_TAG, "true")


CODE = Path(__file__).with_name("served_code.py")
REQUIREMENTS = ("mlflow", "tensorflow", "numpy")
ANY = -1


def save_model(saved_model: Path, folder: Path) -> None:
    """Writes the folder of a model that maps uint8 frames to flow, in pixels.

    Args:
        saved_model: with a signature frame1, frame2 -> flow; it is copied.
        folder: it must be empty or missing.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

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


def load_model(folder: Path) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Loads such a model: two frames, uint8 [B, H, W, 3] -> flow [B, H, W, 2], pixels."""
    import mlflow

    loaded = mlflow.pyfunc.load_model(str(folder))

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return loaded.predict({"frame1": frame1, "frame2": frame2})

    return run
