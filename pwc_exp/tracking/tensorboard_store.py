"""A run in TensorBoard: one event file with scalars and images.

It is written without tf.summary: a thread that runs TensorFlow operations would initialize its
devices before the run has configured them, and would show times of writing instead of the points'
own. tensorboard.json says how much of the file is valid, and which points and pictures that is;
what a killed process has written behind that is cut off and written again.
"""

import io
import itertools
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from pwc_exp import storage
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Picture, Point

FOLDER = "tensorboard"  # in that of a run
STATE_FILE = "tensorboard.json"
_PREFIX = "events.out.tfevents."  # TensorBoard reads files with "tfevents" in their names
_AT_ONCE = 2**24  # bytes in one write


@dataclass(kw_only=True)
class _State:
    """The content of tensorboard.json. size: valid bytes; points, pictures: lines in these."""

    file: str
    size: int = 0
    points: int = 0
    pictures: int = 0


class EventFile:
    """The event file of a run, which no other process writes; its folder holds only this one."""

    def __init__(self, run_dir: Path, params: Mapping[str, object] | None = None) -> None:
        """Opens the file where it is valid, or makes a new one from the journal.

        params: hyperparameters, which are at the head of a new file. TensorBoard's HParams page
            shows them beside the last value of each metric.
        """
        self._run_dir = run_dir
        self._params = params or {}
        self._folder = run_dir / FOLDER
        self._points = journal.point_reader(run_dir)
        self._pictures = journal.picture_reader(run_dir)
        points, pictures = self._points.read(), self._pictures.read()
        try:
            state = _State(**json.loads((run_dir / STATE_FILE).read_bytes()))
            path = self._folder / state.file
            counted = state.points <= len(points) and state.pictures <= len(pictures)
            known = counted and path.is_file() and path.stat().st_size >= state.size
        except (FileNotFoundError, ValueError, TypeError):
            known = False
        if known:
            storage.truncate(path, state.size)
        else:
            state = self._make()
        self._state = state
        self._write(points[state.points :], pictures[state.pictures :])

    def sync(self, status: str | None = None) -> None:
        """Writes what the file lacks of what the run's folder holds."""
        self._write(self._points.read(), self._pictures.read())

    def _make(self) -> _State:
        """Starts a new file in the place of all others."""
        storage.make_folder(self._folder)
        for old in _event_files(self._run_dir):
            old.unlink()
        state = _State(file=f"{_PREFIX}{time.time():.6f}.{socket.gethostname()}.{os.getpid()}")
        head = [
            Event(wall_time=time.time(), file_version="brain.Event:2"),
            # A running TensorBoard must forget what it has read from the old file.
            Event(step=0, session_log=SessionLog(status=SessionLog.START)),
        ]
        if self._params:
            kinds = (bool, int, float, str)
            params = {k: v if isinstance(v, kinds) else str(v) for k, v in self._params.items()}
            summary = hparams.hparams_pb(params, trial_id=str(self._run_dir))
            head.append(Event(wall_time=time.time(), summary=summary))
        storage.write_file(self._folder / state.file, b"".join(_batches(head)))
        state.size = (self._folder / state.file).stat().st_size
        return state

    def _write(self, points: list[Point], pictures: list[Picture]) -> None:
        if not points and not pictures:
            return
        # First to the disk: the state must not count lines that a power cut may take.
        journal.sync_files(self._run_dir)
        path, size = self._folder / self._state.file, self._state.size
        for data in _batches([*_point_events(points), *self._picture_events(pictures)]):
            storage.append(path, data)
            size += len(data)
        storage.sync_file(path)
        self._state.size = size
        self._state.points += len(points)
        self._state.pictures += len(pictures)
        content = json.dumps(asdict(self._state)) + "\n"
        storage.write_file(self._run_dir / STATE_FILE, content.encode())

    def _picture_events(self, pictures: Iterable[Picture]) -> Iterator[Event]:
        metadata = image_metadata.create_summary_metadata(display_name="", description="")
        for picture in pictures:
            file = self._run_dir / picture.file
            if not file.exists():
                continue  # somebody has removed it
            with PIL.Image.open(file) as image:
                size = [str(length).encode() for length in image.size]
            # An image in TensorBoard: width, height and a PNG file.
            content = np.array([*size, file.read_bytes()], dtype=object)
            yield _event(picture.step, picture.time, {picture.key: content}, metadata)


def import_pictures(run_dir: Path) -> None:
    """Makes files of the pictures in the event file, where earlier versions kept them."""
    lines = []
    for event in itertools.chain.from_iterable(map(_read, _event_files(run_dir)[-1:])):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == image_metadata.PLUGIN_NAME:
                png = tensor_util.make_ndarray(value.tensor)[2]
                moment = round(event.wall_time * 1000)
                picture = journal.write_picture(run_dir, event.step, moment, value.tag, png)
                lines.append(json.dumps(picture._asdict()) + "\n")
    storage.write_file(run_dir / journal.PICTURE_FILE, "".join(lines).encode())  # all or none


def _event_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / FOLDER).glob(f"{_PREFIX}*"))


def _read(path: Path) -> Iterator[Event]:
    """The events of a file, up to where it is torn."""
    reader = PyRecordReader_New(str(path))
    while True:
        try:
            reader.GetNext()
            yield Event.FromString(reader.record())
        except (errors.OutOfRangeError, errors.DataLossError, DecodeError):
            return


def _batches(events: Iterable[Event]) -> Iterator[bytes]:
    """The records of `events`, some MB at once."""
    batch = io.BytesIO()
    for event in events:
        RecordWriter(batch).write(event.SerializeToString())
        if batch.tell() > _AT_ONCE:
            yield batch.getvalue()
            batch = io.BytesIO()
    yield batch.getvalue()


def _point_events(points: Iterable[Point]) -> Iterator[Event]:
    metadata = scalar_metadata.create_summary_metadata(display_name="", description="")
    for point in points:
        values = {key: np.float32(value) for key, value in point.values.items()}
        yield _event(point.step, point.time, values, metadata)


def _event(
    step: int, time: int, values: Mapping[str, np.ndarray | np.generic], metadata: SummaryMetadata
) -> Event:
    """One of tensors by their keys. time: in milliseconds."""
    tensors = [
        Summary.Value(tag=key, tensor=tensor_util.make_tensor_proto(value), metadata=metadata)
        for key, value in values.items()
    ]
    return Event(wall_time=time / 1000, step=step, summary=Summary(value=tensors))
