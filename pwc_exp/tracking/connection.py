"""The way to MLflow: which tracking server or SQLite file, and its first use."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwc_exp import durable

if TYPE_CHECKING:
    import mlflow

_SQLITE = "sqlite:"


class Connection(NamedTuple):
    """A client, and the experiment that it is used for."""

    client: "mlflow.MlflowClient"
    experiment_id: str


def store_folder(outputs: Path) -> Path:
    """Where the runs of `outputs` are tracked if nothing else is said."""
    return outputs.absolute() / "mlflow"


def tracking_uri(uri: str | None, outputs: Path) -> str:
    """`uri`, else $MLFLOW_TRACKING_URI, else the SQLite file of `outputs`."""
    default = f"{_SQLITE}///{store_folder(outputs) / 'mlflow.db'}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default


def is_file(uri: str) -> bool:
    """Whether runs lie in an SQLite file, and not behind a server."""
    return uri.startswith(_SQLITE)


def is_gone(uri: str) -> bool:
    """Whether the SQLite file of `uri` is not there."""
    return is_file(uri) and not Path(re.sub(rf"^{_SQLITE}///", "", uri)).exists()


def connect(uri: str, experiment: str, outputs: Path) -> Connection:
    """Connects, and makes the experiment if it is not there.

    MLflow is imported here, not with this file, because that takes more than a second.
    """
    _set_up_environment()
    import mlflow

    _silence()
    folder = store_folder(outputs)
    # The first use creates the tables; processes that do so at once destroy each other's.
    with _lock(folder) if is_file(uri) else nullcontext():
        client = mlflow.MlflowClient(uri)
        if found := client.get_experiment_by_name(experiment):
            return Connection(client, found.experiment_id)
        artifacts = (folder / "artifacts" / experiment).as_uri() if is_file(uri) else None
        return Connection(client, client.create_experiment(experiment, artifacts))


def _set_up_environment() -> None:
    """Sets what MLflow reads from the environment when it is imported; the user's own stays."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its 7 block for minutes, and one that creates a run may create two. The sender tries
        # again, and looks first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)


def _silence() -> None:
    """Stops messages about tables, and tracebacks of what is tried again: the sender tells."""
    for logger in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Waits for `folder`/.lock, which the system frees if this process dies."""
    durable.make_folder(folder)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
