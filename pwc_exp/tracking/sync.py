"""Brings MLflow and TensorBoard up to what a run's folder holds: once, or every few seconds."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pwc_exp.tracking.journal import PICTURE_FILE
from pwc_exp.tracking.mlflow_store import MlflowStore, destination, mlflow_errors, shorten
from pwc_exp.tracking.record import Record

PERIOD = 2.0  # seconds
_LONGEST_PAUSE = 60.0  # seconds, between attempts at a store that fails
_LOG = logging.getLogger(__name__)


class Store(Protocol):
    """A place that shows a run. Opening and syncing it may fail in any way, and be repeated."""

    def sync(self, status: str | None) -> None:
        """Stores what it lacks. status: FINISHED, FAILED or KILLED; None while the run lasts."""


def sync(
    run_dir: Path,
    *,
    params: Mapping[str, object],
    artifacts: Mapping[str, Path],
    uri: str | None,
    experiment: str,
    outputs: Path,
    tensorboard: bool,
) -> MlflowStore:
    """Brings the stores up to what the folder of a run that no process trains holds.

    Args:
        run_dir: the run's folder, which must be locked.
        params: the flat configuration.
        artifacts: files and folders to copy, by their paths in MLflow.
        uri: MLflow's address; None for where the run is, $MLFLOW_TRACKING_URI, or an SQLite file.
        outputs: the folder of all runs.
        tensorboard: whether the run has an event file.

    Returns:
        The run in MLflow, which says what was sent, and where MLflow shows it.

    Raises:
        MissingInputError: the folder is not that of a run.
        DataError: its files are damaged.
        BusyError: MLflow does not answer, or refuses.
    """
    record = Record.load(run_dir)
    import_pictures(run_dir)
    if tensorboard:
        open_event_file(run_dir, params).sync(record.status)
    with mlflow_errors(destination(run_dir, uri, outputs), "does not take what is sent"):
        store = MlflowStore(
            run_dir,
            params=params,
            artifacts=artifacts,
            uri=uri,
            experiment=experiment,
            outputs=outputs,
        )
        store.sync(record.status, record.ended_at)
    return store


def import_pictures(run_dir: Path) -> None:
    """Lists the pictures of a run of an earlier version, which are in its event file only."""
    folder, *known = (run_dir / name for name in ("tensorboard", "tensorboard.json", PICTURE_FILE))
    if folder.exists() and not any(path.exists() for path in known):
        from pwc_exp.tracking import tensorboard_store

        tensorboard_store.import_pictures(run_dir)


def open_event_file(run_dir: Path, params: Mapping[str, object]) -> Store:
    """The run in TensorBoard, whose import takes long."""
    from pwc_exp.tracking.tensorboard_store import EventFile

    return EventFile(run_dir, params)


class BackgroundSync:
    """A thread that keeps one store up to date; a store that is slow or fails stops no run.

    The first failure is logged as a warning, and so is a store that is incomplete when the run
    ends.
    """

    def __init__(
        self, name: str, open_store: Callable[[], Store], *, remedy: str, required: bool = False
    ) -> None:
        """Starts.

        Args:
            name: of the store, in warnings.
            open_store: called in the thread, and again after each failure.
            remedy: what sends the rest, in warnings.
            required: the caller of `wait_until_open` reports a store that cannot be opened.
        """
        self._name = name
        self._open_store = open_store
        self._remedy = remedy
        self._store: Store | None = None
        self._status: str | None = None
        self._ended = threading.Event()
        self._opened = threading.Event()
        self._complete = False
        self._warned = required
        self._reason = "it does not answer"
        # A daemon, because a store that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"{name} sync", daemon=True)
        self._thread.start()

    def wait_until_open(self, seconds: float) -> str | None:
        """Waits for the store, and returns what is wrong if it cannot be opened by then."""
        opened = self._opened.wait(seconds)
        return None if opened else f"{self._name} cannot be reached ({self._reason})"

    def end(self, status: str) -> None:
        """Has the store told `status` after everything else; returns at once."""
        self._status = status
        self._ended.set()

    def join(self, deadline: float) -> None:
        """Waits for that, and gives up when `time.monotonic()` is `deadline`."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if not self._complete:
            _LOG.warning(
                "%s is incomplete at the end of the run (%s); %s",
                self._name,
                self._reason,
                self._remedy,
            )

    def _run(self) -> None:
        failures = 0
        while True:
            ended = self._ended.is_set()  # before the attempt, which then includes the end
            failures = 0 if self._attempt() else failures + 1
            if ended:
                self._complete = failures == 0
                return
            self._ended.wait(min(PERIOD * 2 ** min(failures, 10), _LONGEST_PAUSE))

    def _attempt(self) -> bool:
        try:
            if self._store is None:
                self._store = self._open_store()
                if not self._opened.is_set():
                    self._opened.set()
                    self._warned = False
            self._store.sync(self._status)
        except Exception as error:  # of whatever kind: the run is worth more than its pictures
            self._store = None
            self._reason = shorten(error)
            if not self._warned:
                _LOG.warning(
                    "%s does not take what is sent; the run continues, and %s (%s)",
                    self._name,
                    self._remedy,
                    self._reason,
                )
            self._warned = True
            return False
        return True
