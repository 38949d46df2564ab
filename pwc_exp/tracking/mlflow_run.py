"""A run in MLflow: on a tracking server, or in the SQLite file that all runs share."""

import fcntl
import getpass
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pwc_exp import durable
from pwc_exp.tracking.events import Artifact, Dataset, Item, Params, Picture, Point, Text
from pwc_exp.tracking.provenance import program_name, without_password

if TYPE_CHECKING:
    import mlflow

# MLflow's own limits, https://mlflow.org/docs/latest/api_reference/rest-api.html#request-limits
_MAX_KEY = 250
_MAX_PARAM_VALUE = 6000
_MAX_TAG_VALUE = 8000
_MAX_DIGEST = 36


def store_folder(outputs: Path) -> Path:
    """Where the runs of `outputs` are tracked if nothing else is said."""
    return outputs.absolute() / "mlflow"


def tracking_uri(uri: str | None, outputs: Path) -> str:
    """`uri`, else $MLFLOW_TRACKING_URI, else the SQLite file of `outputs`."""
    default = f"sqlite:///{store_folder(outputs) / 'mlflow.db'}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default


class MlflowRun:
    """Creates a run and fills it; `run_dir`/mlflow.json says which it is.

    MLflow is imported here, not with this file, because that takes more than a second.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        run_name: str,
        tags: Mapping[str, str],
        uri: str | None,
        experiment: str,
        outputs: Path,
    ) -> None:
        uri = tracking_uri(uri, outputs)
        _set_up_environment()
        import mlflow

        from pwc_exp.tracking.system import SystemMonitor

        _silence()
        self._system = SystemMonitor()
        folder = store_folder(outputs)
        local = uri.startswith("sqlite:")
        # The first use creates the tables; processes that do so at once destroy each other's.
        with _lock(folder) if local else nullcontext():
            self._client = mlflow.MlflowClient(uri)
            artifacts = (folder / "artifacts" / experiment).as_uri() if local else None
            experiment_id = _experiment_id(self._client, experiment, artifacts)
        run = self._client.create_run(experiment_id, run_name=run_name, tags=_run_tags(tags))
        self._run_id = run.info.run_id
        place = {"uri": without_password(uri), "experiment": experiment, "run_id": self._run_id}
        durable.write_file(run_dir / "mlflow.json", (json.dumps(place, indent=2) + "\n").encode())

    def send_points(self, points: Sequence[Point]) -> None:
        """Stores values with the points' own times, which makes sending them twice harmless."""
        from mlflow.entities import Metric

        last = points[-1]
        load = Point(last.step, last.time, self._system.sample())
        metrics = [
            Metric(_key(key), value, point.time, point.step)
            for point in (*points, load)
            for key, value in point.values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def send_item(self, item: Item) -> None:
        """Stores an item."""
        match item:
            case Picture(step, time, key, pixels):
                self._client.log_image(
                    self._run_id, pixels, key=_key(key), step=step, timestamp=time
                )
            case Artifact(path, folder) if path.is_dir():
                self._client.log_artifacts(self._run_id, str(path), folder)
            case Artifact(path, folder) if path.exists():  # else it has been removed since
                self._client.log_artifact(self._run_id, str(path), folder or None)
            case Text(name, text):
                self._client.log_text(self._run_id, text, name)
            case Params(values):
                self._send_params(values)
            case Dataset():
                self._send_dataset(item)

    def close(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._run_id, status)

    def _send_params(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [
            Param(_key(key), without_password(value)[:_MAX_PARAM_VALUE])
            for key, value in values.items()
        ]
        self._client.log_batch(self._run_id, params=params)

    def _send_dataset(self, dataset: Dataset) -> None:
        from mlflow.entities import Dataset as DatasetEntity
        from mlflow.entities import DatasetInput, InputTag

        entity = DatasetEntity(
            name=dataset.name,
            digest=dataset.digest[:_MAX_DIGEST],
            source_type="local",
            source=json.dumps({"uri": dataset.name}),
            profile=json.dumps(dict(dataset.sizes)),
        )
        tag = InputTag("mlflow.data.context", dataset.context)
        self._client.log_inputs(self._run_id, [DatasetInput(entity, [tag])])


def _set_up_environment() -> None:
    """Sets what MLflow reads from the environment when it is imported; the user's own stays."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its 7 block for minutes; the sender tries again
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)


def _silence() -> None:
    """Stops messages about tables and retries: the sender says what matters."""
    for logger in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)


def _experiment_id(client: "mlflow.MlflowClient", experiment: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(experiment)
    return found.experiment_id if found else client.create_experiment(experiment, artifacts)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds `folder`/.lock, which the system frees if this process dies."""
    durable.make_folder(folder)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    own = {"mlflow.source.type": "LOCAL", "mlflow.source.name": program_name()}
    if "commit" in tags:
        own["mlflow.source.git.commit"] = tags["commit"]
    with suppress(OSError, KeyError):  # a user without a name, as in some containers
        own["mlflow.user"] = getpass.getuser()
    return own | {_key(key): value[:_MAX_TAG_VALUE] for key, value in tags.items()}


def _key(key: str) -> str:
    """`key` as MLflow takes it: letters, digits and `_-./ ` only, and a path that leads down."""
    clean = posixpath.normpath(re.sub(r"[^A-Za-z0-9_\-./ ]", "_", key))
    return re.sub(r"^(\.*/)+|^\.+$", "_", clean)[:_MAX_KEY]
