"""A run in TensorBoard: an event file with scalars and images.

It is written without tf.summary: a thread that runs TensorFlow operations would set up its devices
before the run has configured them, and would show times of writing instead of the points' own.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

from pwc_exp.tracking.events import Item, Picture, Point


class EventFile:
    """Writes an event file into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._writer = EventFileWriter(str(folder))

    def send_points(self, points: Sequence[Point]) -> None:
        """Writes each value of each point under its key."""
        metadata = scalar_metadata.create_summary_metadata(display_name="", description="")
        for point in points:
            values = [
                _value(key, np.float32(value), metadata) for key, value in point.values.items()
            ]
            self._write(point.step, point.time, values)
        self._writer.flush()

    def send_item(self, item: Item) -> None:
        """Writes a picture; event files have no place for the other kinds."""
        if isinstance(item, Picture):
            metadata = image_metadata.create_summary_metadata(display_name="", description="")
            value = _value(item.key, _image(item.pixels), metadata)
            self._write(item.step, item.time, [value])
            self._writer.flush()

    def close(self, status: str) -> None:
        """Closes the file; it does not say how the run ended."""
        self._writer.close()

    def _write(self, step: int, time: int, values: list[Summary.Value]) -> None:
        event = Event(wall_time=time / 1000, step=step, summary=Summary(value=values))
        self._writer.add_event(event)


def _value(key: str, content: np.ndarray | np.generic, metadata: SummaryMetadata) -> Summary.Value:
    return Summary.Value(tag=key, tensor=tensor_util.make_tensor_proto(content), metadata=metadata)


def _image(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] as TensorBoard keeps it: width, height and a PNG file."""
    height, width, _ = pixels.shape
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format="png")
    return np.array([str(width).encode(), str(height).encode(), file.getvalue()], dtype=object)
