"""What a command tells about its run: values, pictures, files, texts and data sets."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsFloat

import numpy as np

from pwc_exp import storage
from pwc_exp.errors import BusyError, OutputError
from pwc_exp.tracking import journal, record
from pwc_exp.tracking.connection import is_file
from pwc_exp.tracking.events import Artifact, Dataset, Event, Picture, Store, Tag, Text
from pwc_exp.tracking.journal import Journal
from pwc_exp.tracking.ledger import destination
from pwc_exp.tracking.provenance import without_password
from pwc_exp.tracking.record import Record
from pwc_exp.tracking.sender import Sender

_LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 60.0  # for what waits to be sent when the run ends
_PICTURE_SECONDS = 20.0  # for the event file to be made, which takes some
_SERVER_SECONDS = 15.0  # for a required server to answer
_FILE_SECONDS = 120.0  # for a required SQLite file, whose tables may have to be made


class Tracker:
    """Follows one run; a context, which ends the run in the stores as it ended here.

    Its methods only write to the run's folder and to queues: a store that is slow or gone costs the
    caller nothing. With both stores off, the folder still gets metrics.jsonl and run.json.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        uri: str | None,
        experiment: str,
        outputs: Path,
        mlflow: bool,
        tensorboard: bool,
        required: bool = False,
        resumed_at: int | None = None,
        changes: Mapping[str, tuple[object, object]] | None = None,
    ) -> None:
        """Prepares; nothing is written before the context is entered.

        Args:
            run_dir: the run's folder.
            params: the flat configuration.
            uri: MLflow's address; None for that of a resumed run, $MLFLOW_TRACKING_URI, or else an
                SQLite file.
            outputs: the folder of all runs, in whose `mlflow/` that SQLite file lies.
            mlflow: whether to send to MLflow.
            tensorboard: whether to write an event file.
            required: whether to refuse to start without MLflow.
            resumed_at: step of the checkpoint that the run goes on from; None for a new run.
            changes: (old, new) values of the knobs that a resumed run changes.
        """
        self._run_dir = run_dir
        self._run_name = run_name
        self._params = params
        self._tags = tags
        self._uri = uri
        self._experiment = experiment
        self._outputs = outputs
        self._mlflow = mlflow
        self._tensorboard = tensorboard
        self._required = required
        self._resumed_at = resumed_at
        self._changes = changes or {}
        self._record: Record
        self._journal: Journal
        self._senders: list[Sender] = []
        self._to_mlflow: Sender | None = None
        self._patience = _SERVER_SECONDS  # for MLflow to answer
        self._pictured: Sender | None = None  # to the event file

    def __enter__(self) -> Self:
        """Writes run.json, repairs the journal of a resumed run, and starts sending.

        Raises:
            OutputError: the run's folder cannot be written.
            DataError: the journal or record of a resumed run is damaged.
            BusyError: MLflow is required, and cannot be reached.
        """
        storage.make_folder(self._run_dir)
        storage.remove_leftovers(self._run_dir)
        self._journal = Journal(self._run_dir / journal.FILE)
        self._record = self._make_record()
        self._record.save(self._run_dir)
        if self._mlflow:
            self._to_mlflow = self._start_mlflow()
            self._senders.append(self._to_mlflow)
        if self._tensorboard:
            remedy = "resuming the run writes all of it again"
            self._pictured = Sender("TensorBoard", self._open_tensorboard, remedy=remedy)
            self._senders.append(self._pictured)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the run as FINISHED, as KILLED if it was asked to stop, or else as FAILED."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        status = _status(error)
        for sender in self._senders:
            sender.end(status)
        for sender in self._senders:
            sender.join(deadline)
        self._record_end(status)  # last: a run that is FINISHED here is so everywhere

    @property
    def replay_mismatches(self) -> int:
        """How many values a step, computed again after a resume, gave otherwise than before."""
        return self._record.mismatches + self._journal.mismatches

    def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Writes values of a step to the journal, and from there to the stores.

        What the journal has for the step already stays as it is, see `Journal.add`.

        Raises:
            OutputError: the journal cannot be written.
        """
        mismatches = self.replay_mismatches
        point = self._journal.add(step, {key: float(value) for key, value in values.items()})
        if point is not None:
            self._send(point)
        if self.replay_mismatches > mismatches:
            self._send(Tag("replay_mismatches", str(self.replay_mismatches)))

    def history(self, key: str) -> dict[int, float]:
        """All values of `key` by step, those of before a resume included."""
        return self._journal.history(key)

    def flush(self) -> None:
        """Returns when all points so far are safe on the disk, whatever becomes of the process.

        And when the event file, which is where a run that goes on finds its pictures, has these,
        unless it cannot be written.

        Raises:
            OutputError: the disk does not take the points.
        """
        self._journal.flush()
        if self._pictured is not None:
            self._pictured.wait_for_pictures(_PICTURE_SECONDS)

    def image(self, step: int, key: str, pixels: np.ndarray) -> None:
        """Shows `pixels`, [H, W, 3] uint8 RGB, which must not change afterwards.

        Nothing happens if the stores have a picture of that key and step.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            received = f"{pixels.shape} {pixels.dtype}"
            raise ValueError(f"A picture must be [H, W, 3] uint8. Received: {key} {received}")
        self._send(Picture(step, time.time_ns() // 1_000_000, key, pixels))

    def artifact(self, path: Path, folder: str) -> None:
        """Copies a file, or a folder's content, to `folder` in MLflow, over what is there.

        The copy is made later: a path that has been removed by then is left out, and of two folders
        for one place only the second is copied.
        """
        self._send(Artifact(path, folder))

    def tag(self, name: str, value: str) -> None:
        """Says something about the run in MLflow, over what was said under that name."""
        self._send(Tag(name, value))

    def wait_for_mlflow(self) -> None:
        """Returns when the run is in MLflow, or MLflow has not answered for as long as it may."""
        if self._to_mlflow is not None:
            self._to_mlflow.wait_until_open(self._patience)

    def text(self, name: str, text: str) -> None:
        """Keeps a text file in MLflow."""
        self._send(Text(name, text))

    def dataset(self, name: str, *, digest: str, sizes: Mapping[str, int], context: str) -> None:
        """Notes which data the run reads. `sizes`: samples of each split; `context`: what for.

        Raises:
            OutputError: run.json cannot be written.
        """
        dataset = Dataset(name, digest, sizes, context)
        self._record.add_dataset(dataset)
        self._record.save(self._run_dir)
        self._send(dataset)

    def _make_record(self) -> Record:
        path = self._run_dir / record.FILE
        if self._resumed_at is None or not path.exists():  # or it was killed before that
            return Record.new(self._run_name, self._tags)
        resumed = Record.load(self._run_dir)
        resumed.resume(self._resumed_at, self._changes)
        return resumed

    def _start_mlflow(self) -> Sender:
        uri = destination(self._run_dir, self._uri, self._outputs)
        self._patience = _FILE_SECONDS if is_file(uri) else _SERVER_SECONDS
        sender = Sender(
            f"MLflow at {without_password(uri)}",
            self._open_mlflow,
            remedy=f"`python -m pwc_exp.sync {self._run_dir}` sends the rest",
            required=self._required,
        )
        for point in self._journal.points:  # the store leaves out what it has
            sender.put(point)
        if self._required:
            wrong = sender.wait_until_open(self._patience)
            if wrong:
                sender.end("FAILED")
                self._record_end("FAILED")
                raise BusyError(f"{wrong}, and tracking.required=true")
        return sender

    def _record_end(self, status: str) -> None:
        self._record.end(status)
        self._record.mismatches = self.replay_mismatches
        try:
            self._record.save(self._run_dir)
        except OutputError as error:  # what ended the run is more worth telling
            _LOG.warning("The end of the run is not on record: %s", error)

    def _send(self, event: Event) -> None:
        for sender in self._senders:
            sender.put(event)

    def _open_tensorboard(self) -> Store:
        from pwc_exp.tracking.tensorboard import FOLDER, EventFile  # takes long

        return EventFile(self._run_dir / FOLDER, self._journal.points)

    def _open_mlflow(self) -> Store:
        from pwc_exp.tracking.catch_up import send_pictures
        from pwc_exp.tracking.mlflow_run import MlflowRun

        run = MlflowRun(
            self._run_dir,
            record=self._record,
            params=self._params,
            uri=self._uri,
            experiment=self._experiment,
            outputs=self._outputs,
        )
        run.go_on()
        if self._resumed_at is not None:  # they may have waited in a process that was killed
            send_pictures(self._run_dir, run)
        return run


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "FINISHED"
        case KeyboardInterrupt() | SystemExit():
            return "KILLED"
        case _:
            return "FAILED"
