"""The way to MLflow: which tracking server or SQLite file, and its first use."""

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwc_exp import storage
from pwc_exp.errors import BusyError, MissingInputError, UserError
from pwc_exp.tracking.provenance import without_password
from pwc_exp.tracking.sender import in_short

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
    return is_file(uri) and not _path(uri).exists()


def connect(uri: str, experiment: str, outputs: Path) -> Connection:
    """Connects, and makes the experiment if it is not there.

    MLflow is imported here, not with this file, because that takes more than a second.
    """
    _set_up_environment()
    import mlflow

    _silence()
    folder = store_folder(outputs)
    with _tables(_path(uri)) if is_file(uri) else nullcontext():
        client = mlflow.MlflowClient(uri)
        if found := client.get_experiment_by_name(experiment):
            return Connection(client, found.experiment_id)
        artifacts = (folder / "artifacts" / experiment).as_uri() if is_file(uri) else None
        return Connection(client, client.create_experiment(experiment, artifacts))


def connect_to_existing(uri: str, experiment: str) -> Connection:
    """Connects to what is there, and makes nothing.

    Raises:
        MissingInputError: the SQLite file or the experiment is not there.
    """
    if is_gone(uri):
        raise MissingInputError(f"{_path(uri)}: no such file; MLflow has no runs there")
    _set_up_environment()
    import mlflow

    _silence()
    client = mlflow.MlflowClient(uri)
    if found := client.get_experiment_by_name(experiment):
        return Connection(client, found.experiment_id)
    known = ", ".join(sorted(each.name for each in client.search_experiments()))
    raise MissingInputError(
        f"tracking.experiment must be one of {known} at {without_password(uri)}. "
        f"Received: {experiment}"
    )


@contextmanager
def asked(uri: str, failure: str) -> Iterator[None]:
    """Makes one line of what MLflow, a database or a network raise in the block, of any kind.

    failure: what MLflow then does not do, such as "does not answer".

    Raises:
        BusyError: something was raised that is not a `UserError` already.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = without_password(uri)
        raise BusyError(f"MLflow at {place} {failure} ({in_short(error)})") from error


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
def _tables(file: Path) -> Iterator[None]:
    """Makes an SQLite file with MLflow's tables, if it is not there, for one process at a time.

    MLflow makes them where they stay, one by one. Processes that do so at once destroy each
    other's, and what a process that is killed leaves is never completed. So they are made beside.
    """
    storage.make_folder(file.parent)
    with (file.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which the system frees if this process dies
        if not file.exists():
            _make_tables(file)
        yield


def _make_tables(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for leftover in file.parent.glob(f".tmp-{file.name}.*"):
        leftover.unlink(missing_ok=True)
    # Another name each time: MLflow keeps what it has opened by a name until the process ends.
    new = file.with_name(f".tmp-{file.name}.{secrets.token_hex(4)}")
    SqlAlchemyStore(f"{_SQLITE}///{new}", str(file.parent / "artifacts")).engine.dispose()
    storage.rename(new, file)


def _path(uri: str) -> Path:
    return Path(re.sub(rf"^{_SQLITE}///", "", uri))
