"""What a command tells about its run: values, pictures, files, texts and data sets."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, SupportsFloat

import numpy as np

from pwc_exp import durable
from pwc_exp.tracking import journal
from pwc_exp.tracking.events import Artifact, Dataset, Event, Params, Picture, Point, Store, Text
from pwc_exp.tracking.provenance import describe_process
from pwc_exp.tracking.sender import Sender

_CLOSE_SECONDS = 60.0  # for what waits to be sent when the run ends


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
    ) -> None:
        """Prepares; nothing is written before the context is entered.

        Args:
            run_dir: the run's folder.
            params: the flat configuration.
            uri: MLflow's address; None for $MLFLOW_TRACKING_URI, or else an SQLite file.
            outputs: the folder of all runs, in whose `mlflow/` that SQLite file lies.
            mlflow: whether to send to MLflow.
            tensorboard: whether to write an event file.
        """
        self._run_dir = run_dir
        self._run_name = run_name
        self._params = params
        self._tags = {**describe_process(), **tags}
        self._uri = uri
        self._experiment = experiment
        self._outputs = outputs
        self._stores = {"TensorBoard": self._open_tensorboard} if tensorboard else {}
        self._stores |= {"MLflow": self._open_mlflow} if mlflow else {}
        self._senders: list[Sender] = []

    def __enter__(self) -> Self:
        """Writes run.json and starts sending.

        Raises:
            OutputError: the run's folder cannot be written.
        """
        durable.make_folder(self._run_dir)
        about = {"name": self._run_name, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        text = json.dumps(about | self._tags, indent=2) + "\n"
        durable.write_file(self._run_dir / "run.json", text.encode())
        self._senders = [Sender(name, opened) for name, opened in self._stores.items()]
        self._send(Params({key: str(value) for key, value in self._params.items()}))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the run as FINISHED, as KILLED if it was asked to stop, or else as FAILED."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        for sender in self._senders:
            sender.close(_status(error), deadline=deadline)

    def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Writes values of a step to the journal, and from there to the stores.

        Raises:
            OutputError: the journal cannot be written.
        """
        floats = {key: float(value) for key, value in values.items()}
        point = Point(step, _milliseconds(), floats)
        journal.append(self._run_dir / "metrics.jsonl", point)
        self._send(point)

    def image(self, step: int, key: str, pixels: np.ndarray) -> None:
        """Shows `pixels`, [H, W, 3] uint8 RGB, which must not change afterwards."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            received = f"{pixels.shape} {pixels.dtype}"
            raise ValueError(f"A picture must be [H, W, 3] uint8. Received: {key} {received}")
        self._send(Picture(step, _milliseconds(), key, pixels))

    def artifact(self, path: Path, folder: str) -> None:
        """Copies a file, or a folder's content, to `folder` in MLflow, over what is there.

        The copy is made later: a path that has been removed by then is left out, and of two folders
        for one place only the second is copied.
        """
        self._send(Artifact(path, folder))

    def text(self, name: str, text: str) -> None:
        """Keeps a text file in MLflow."""
        self._send(Text(name, text))

    def dataset(self, name: str, *, digest: str, sizes: Mapping[str, int], context: str) -> None:
        """Notes in MLflow which data the run reads. `sizes`: samples of each split."""
        self._send(Dataset(name, digest, sizes, context))

    def _send(self, event: Event) -> None:
        for sender in self._senders:
            sender.put(event)

    def _open_tensorboard(self) -> Store:
        from pwc_exp.tracking.tensorboard import EventFile  # takes long

        return EventFile(self._run_dir / "tensorboard")

    def _open_mlflow(self) -> Store:
        from pwc_exp.tracking.mlflow_run import MlflowRun

        return MlflowRun(
            self._run_dir,
            run_name=self._run_name,
            tags=self._tags,
            uri=self._uri,
            experiment=self._experiment,
            outputs=self._outputs,
        )


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "FINISHED"
        case KeyboardInterrupt() | SystemExit():
            return "KILLED"
        case _:
            return "FAILED"


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
