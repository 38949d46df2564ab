"""A run in TensorBoard: an event file with scalars and images.

It is written without tf.summary: a thread that runs TensorFlow operations would set up its devices
before the run has configured them, and would show times of writing instead of the points' own.

The file's records are those of TFRecord: length, checksum, data, checksum.
"""

import io
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import PIL.Image
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.util import tensor_util

from pwc_exp.tracking.events import Item, Picture, Point

FOLDER = "tensorboard"  # in that of a run
_PREFIX = "events.out.tfevents."  # TensorBoard reads files with "tfevents" in their names
_TEMPORARY = ".tmp-rebuilt"
_HEADER = struct.Struct("<QI")  # length of the data, checksum of the length
_CHECKSUM = struct.Struct("<I")


class Drawn(NamedTuple):
    """An image of an event file. `png`: a file; `record`: the whole entry."""

    step: int
    time: int  # milliseconds since 1970
    key: str
    png: bytes
    record: bytes


class EventFile:
    """The event file of a run, in `folder`, which has no other.

    A process that is killed may leave a torn file, and one without the last points; so a run that
    goes on gets a new one, from the journal, with the images of the old.
    """

    def __init__(self, folder: Path, points: Sequence[Point]) -> None:
        """Writes a file with `points`, and with the images of the file that is there.

        At any moment `folder` holds exactly one file that TensorBoard reads, complete: the new one
        takes the old one's place, and only then a name that TensorBoard sees as new.
        """
        folder.mkdir(parents=True, exist_ok=True)
        old = sorted(folder.glob(f"{_PREFIX}*"))
        self._pictures: set[tuple[str, int]] = set()
        path = folder / _TEMPORARY
        try:
            self._rebuild(path, points)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        if old:
            path = path.replace(old[-1])
        name = f"{_PREFIX}{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = path.rename(folder / name).open("ab", buffering=0)

    def send_points(self, points: Sequence[Point]) -> None:
        """Writes each value of each point under its key."""
        self._write(b"".join(_point_record(point) for point in points))

    def send_item(self, item: Item) -> None:
        """Writes a picture that is not there yet; event files have no place for other kinds."""
        if isinstance(item, Picture) and (item.key, item.step) not in self._pictures:
            metadata = image_metadata.create_summary_metadata(display_name="", description="")
            value = _value(item.key, _image(item.pixels), metadata)
            self._write(_record(_event(item.step, item.time, [value])))
            self._pictures.add((item.key, item.step))

    def close(self, status: str) -> None:
        """Closes the file; it does not say how the run ended."""
        self._file.close()

    def _rebuild(self, path: Path, points: Sequence[Point]) -> None:
        with path.open("wb") as file:
            file.write(_record(Event(wall_time=time.time(), file_version="brain.Event:2")))
            # What a TensorBoard that runs has read from the old file is to be forgotten.
            file.write(_record(Event(step=0, session_log=SessionLog(status=SessionLog.START))))
            for drawn in read_pictures(path.parent):
                if (drawn.key, drawn.step) not in self._pictures:
                    self._pictures.add((drawn.key, drawn.step))
                    file.write(drawn.record)
            for point in points:
                file.write(_point_record(point))
            file.flush()
            os.fsync(file.fileno())  # the images are in no other place

    def _write(self, data: bytes) -> None:
        """Appends all of `data` or, as on a full disk, nothing: a torn record hides what follows.

        Raises:
            OSError: it cannot be written.
        """
        size = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(f"{written} of {len(data)} bytes were written")
        except OSError:
            self._file.truncate(size)
            raise


def read_pictures(folder: Path) -> Iterator[Drawn]:
    """The images of the event file, up to where it is torn, in the order of writing."""
    for event, record in _read(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == image_metadata.PLUGIN_NAME:
                png = tensor_util.make_ndarray(value.tensor)[2]
                yield Drawn(event.step, round(event.wall_time * 1000), value.tag, png, record)


def _read(folder: Path) -> Iterator[tuple[Event, bytes]]:
    """Each event, with its record."""
    with _open(folder) as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum:
                return
            body = file.read(length + _CHECKSUM.size)
            if len(body) < length + _CHECKSUM.size:
                return
            # The second checksum is not compared: it takes a second for some MB in Python, and
            # what a dying machine leaves instead of data is zeros, which are no event.
            try:
                event = Event.FromString(body[:length])
            except DecodeError:
                return
            yield event, header + body


def _open(folder: Path) -> IO[bytes]:
    """The event file, or nothing to read."""
    while files := sorted(folder.glob(f"{_PREFIX}*")):
        with suppress(FileNotFoundError):  # renamed meanwhile, by another thread's rebuild
            return files[-1].open("rb")
    return io.BytesIO()


def _point_record(point: Point) -> bytes:
    metadata = scalar_metadata.create_summary_metadata(display_name="", description="")
    values = [_value(key, np.float32(value), metadata) for key, value in point.values.items()]
    return _record(_event(point.step, point.time, values))


def _event(step: int, time: int, values: list[Summary.Value]) -> Event:
    return Event(wall_time=time / 1000, step=step, summary=Summary(value=values))


def _record(event: Event) -> bytes:
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [_CHECKSUM.pack(masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]


def _value(key: str, content: np.ndarray | np.generic, metadata: SummaryMetadata) -> Summary.Value:
    return Summary.Value(tag=key, tensor=tensor_util.make_tensor_proto(content), metadata=metadata)


def _image(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] as TensorBoard keeps it: width, height and a PNG file."""
    height, width, _ = pixels.shape
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format="png")
    return np.array([str(width).encode(), str(height).encode(), file.getvalue()], dtype=object)
