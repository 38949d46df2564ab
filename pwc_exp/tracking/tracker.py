"""What a command logs about its run, and the stores that are brought up to date with it.

Values, pictures, tags, files and data sets go to the folder of the run. `sync` brings MLflow and
TensorBoard up to what the folder holds, once; `Synchronizer`, every few seconds in a thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, SupportsFloat

import numpy as np

from pwc_exp import storage
from pwc_exp.errors import BusyError, OutputError
from pwc_exp.tracking.journal import PICTURE_FILE, Journal
from pwc_exp.tracking.mlflow_store import MlflowStore, destination, is_file, mlflow_errors, shorten
from pwc_exp.tracking.record import FILE as RECORD_FILE
from pwc_exp.tracking.record import Record, without_password

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


_CLOSE_SECONDS = 60.0  # for what is not sent yet when the run ends
_SERVER_SECONDS = 15.0  # for a required server to answer
_FILE_SECONDS = 120.0  # for a required SQLite file, whose tables may have to be created


@dataclass
class Tracker:
    """Tracks one run; a context, which ends the run in the stores as it ended here.

    Its methods only write to the run's folder; a thread for each store brings that up to date, so
    one that is slow or gone costs the caller nothing.

    Args:
        run_dir: the run's folder; nothing is written there before the context is entered.
        params: the flat configuration.
        uri: MLflow's address; None for that of a resumed run, $MLFLOW_TRACKING_URI, or else an
            SQLite file.
        outputs: the folder of all runs, whose `mlflow/` holds that SQLite file.
        mlflow: whether to send to MLflow.
        tensorboard: whether to write an event file.
        required: whether to refuse to start without MLflow.
        resumed_at: step of the checkpoint that the run resumes from; None for a new run.
        changes: (old, new) values of the settings that a resumed run changes.
    """

    run_dir: Path
    _: KW_ONLY
    run_name: str
    params: Mapping[str, object]
    tags: Mapping[str, str]
    uri: str | None
    experiment: str
    outputs: Path
    mlflow: bool
    tensorboard: bool
    required: bool = False
    resumed_at: int | None = None
    changes: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Writes run.json, repairs the journal of a resumed run, and starts the threads.

        Raises:
            OutputError: the run's folder cannot be written.
            DataError: the journal or record of a resumed run is damaged.
            BusyError: MLflow is required, and cannot be reached.
        """
        storage.make_folder(self.run_dir)
        storage.remove_leftovers(self.run_dir)
        import_pictures(self.run_dir)
        self._journal = Journal(self.run_dir)
        self._record = self._make_record()
        self._record.save(self.run_dir)
        self._earlier_mismatches = self._record.mismatches
        self._artifacts: dict[str, Path] = {}  # by their paths in MLflow
        self._stores: list[BackgroundSync] = []
        self._to_mlflow = self._start_mlflow() if self.mlflow else None
        if self.tensorboard:
            self._start("TensorBoard", lambda: open_event_file(self.run_dir, self.params))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the run as FINISHED, as KILLED if it was asked to stop, or else as FAILED."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        for store in self._stores:
            store.end(status)
        for store in self._stores:
            store.join(deadline)
        self._record_end(status)  # last: a run that is FINISHED here is so everywhere

    @property
    def replay_mismatches(self) -> int:
        """How many values differ where steps were computed again after a resume."""
        return self._earlier_mismatches + self._journal.mismatches

    def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Logs values of a step. What the journal has for the step stays, see `Journal.add`."""
        self._journal.add(step, {key: float(value) for key, value in values.items()})
        if self.replay_mismatches > self._record.mismatches:
            self._record.mismatches = self.replay_mismatches
            self._record.save(self.run_dir)

    def image(self, step: int, key: str, pixels: np.ndarray) -> None:
        """Logs `pixels`, [H, W, 3] uint8 RGB, unless the run has a picture of that key and step."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            received = f"{pixels.shape} {pixels.dtype}"
            raise ValueError(f"A picture must be [H, W, 3] uint8. Received: {key} {received}")
        self._journal.add_picture(step, key, pixels)

    def history(self, key: str) -> dict[int, float]:
        """All values of `key` by step, including those from before a resume."""
        return self._journal.history(key)

    def flush(self) -> None:
        """Returns when all points and pictures so far are safe on the disk."""
        self._journal.flush()

    def artifact(self, path: Path, folder: str) -> None:
        """Copies a file, or a folder's content, to `folder` in MLflow, replacing what is there.

        It is copied later: a path that has been removed by then is left out, and of two folders for
        one place only the second is copied.
        """
        place = folder if path.is_dir() or not folder else f"{folder}/{path.name}"
        self._artifacts[place or path.name] = path

    def tag(self, name: str, value: str) -> None:
        """Sets a tag of the run in run.json and MLflow."""
        self._record.about[name] = value
        self._record.save(self.run_dir)

    def dataset(self, name: str, *, digest: str, sizes: Mapping[str, int], context: str) -> None:
        """Logs which data the run reads. sizes: samples of each split; context: what for."""
        self._record.add_dataset(name, digest=digest, sizes=sizes, context=context)
        self._record.save(self.run_dir)

    def wait_for_mlflow(self) -> str | None:
        """Waits until the run is in MLflow; why it is not, if MLflow takes longer than it may."""
        if self._to_mlflow is None:
            return None
        uri = destination(self.run_dir, self.uri, self.outputs)
        return self._to_mlflow.wait_until_open(_FILE_SECONDS if is_file(uri) else _SERVER_SECONDS)

    def _make_record(self) -> Record:
        path = self.run_dir / RECORD_FILE
        if self.resumed_at is None or not path.exists():  # or it was killed before that
            return Record.new(self.run_name, self.tags)
        resumed = Record.load(self.run_dir)
        resumed.resume(self.resumed_at, self.changes)
        return resumed

    def _start(self, name: str, open_store: Callable[[], Store], **options: bool) -> BackgroundSync:
        remedy = f"`python -m pwc_exp.sync {self.run_dir}` sends the rest"
        started = BackgroundSync(name, open_store, remedy=remedy, **options)
        self._stores.append(started)
        return started

    def _start_mlflow(self) -> BackgroundSync:
        uri = without_password(destination(self.run_dir, self.uri, self.outputs))
        started = self._start(f"MLflow at {uri}", self._open_mlflow, required=self.required)
        self._to_mlflow = started
        if self.required and (problem := self.wait_for_mlflow()):
            started.end("FAILED")
            self._record_end("FAILED")
            raise BusyError(f"{problem}, and tracking.required=true")
        return started

    def _open_mlflow(self) -> MlflowStore:
        return MlflowStore(
            self.run_dir,
            params=self.params,
            artifacts=self._artifacts,
            uri=self.uri,
            experiment=self.experiment,
            outputs=self.outputs,
            live=True,
        )

    def _record_end(self, status: str) -> None:
        self._record.end(status)
        try:
            self._record.save(self.run_dir)
        except OutputError as error:  # what ended the run is more important
            _LOG.warning("The end of the run could not be recorded: %s", error)
