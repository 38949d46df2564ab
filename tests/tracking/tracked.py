"""Runs, points and stores for the tests of tracking."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from pwc_exp.tracking import Tracker
from pwc_exp.tracking.journal import Point
from pwc_exp.tracking.mlflow_store import MlflowStore
from pwc_exp.tracking.record import SWEEP_FILE, Record

TREE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
FAR = 30.0  # seconds that no test takes
RUN = Path("outputs/test/run")


def make_tracker(root: Path, **changes: Any) -> Tracker:
    options: dict[str, Any] = {
        "run_name": "test",
        "params": {},
        "tags": {},
        "uri": None,
        "experiment": "pwc_exp",
        "outputs": root / "outputs",
        "mlflow": False,
        "tensorboard": False,
    }
    return Tracker(root / RUN, **(options | changes))


def open_store(root: Path, folder: Path = RUN, **changes: Any) -> MlflowStore:
    """The run of `make_tracker` in MLflow, opened as by another process."""
    options: dict[str, Any] = {"params": {}, "artifacts": {}, "uri": None, "experiment": "pwc_exp"}
    return MlflowStore(root / folder, **(options | {"outputs": root / "outputs"} | changes))


def point(step: int, **values: float) -> Point:
    return Point(step, 1000 + step, values or {"train/loss": float(step)})


def in_mlflow(root: Path) -> tuple[Any, Any]:
    """The client, and the only run of its experiment."""
    import mlflow

    place = json.loads((root / RUN / "mlflow.json").read_text())
    client = mlflow.MlflowClient(place["uri"])
    found = client.get_experiment_by_name(place["experiment"])
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.run_id == place["run_id"]
    return client, run


def metrics(root: Path, key: str) -> list[tuple[int, int, float]]:
    """What MLflow has of `key`: step, time, value."""
    client, run = in_mlflow(root)
    history = client.get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.timestamp, metric.value) for metric in history]


def shown(root: Path) -> dict[str, list[int]]:
    """What TensorBoard has: the steps of each key, without the hyperparameters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG

    events = EventAccumulator(str(root / RUN / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    keys = [key for key in events.Tags()["tensors"] if key != SESSION_START_INFO_TAG]
    return {key: [event.step for event in events.Tensors(key)] for key in keys}


def images(root: Path) -> list[str]:
    client, run = in_mlflow(root)
    paths = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    return sorted(path.partition("+timestamp")[0] for path in paths if path.endswith(".png"))


class FakeStore:
    """Notes the statuses it is told; fails `failures` times, and hangs while `free` is clear."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.statuses: list[str | None] = []
        self.free = threading.Event()
        self.free.set()
        self.reached = threading.Event()

    def sync(self, status: str | None) -> None:
        self.reached.set()
        self.free.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody\nthere")
        self.statuses.append(status)


def make_sweep(folder: Path, children: dict[str, str]) -> Record:
    """What a sweep's folder holds. `children`: folder of each -> its name."""
    folder.mkdir(parents=True, exist_ok=True)
    described = [
        {
            "number": number,
            "folder": child,
            "name": name,
            "values": dict(value.split("=") for value in name.split()),
            "overrides": name.split(),
        }
        for number, (child, name) in enumerate(children.items())
    ]
    content = {"arguments": [], "definition": {}, "children": described}
    (folder / SWEEP_FILE).write_text(json.dumps(content))
    sweep = Record.new(f"{folder.parent.name}/{folder.name}", {"kind": "sweep"})
    sweep.save(folder)
    return sweep
