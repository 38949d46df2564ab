"""The queue of a run, in its folder: a line of JSON for each point and each picture.

    metrics.jsonl    {"step": …, "time": …, "values": {…}}
    images.jsonl     {"step": …, "time": …, "key": …, "file": "images/….png"}

Times are milliseconds since 1970. TensorBoard and MLflow are fed from these files. JSON has no NaN
and no infinity; they are the strings "nan", "inf" and "-inf". All other values are read back with
the same bits.
"""

import hashlib
import io
import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import PIL.Image

from pwc_exp import storage
from pwc_exp.errors import DataError, OutputError

FILE = "metrics.jsonl"
PICTURE_FILE = "images.jsonl"
PICTURES = "images"  # folder
_LOG = logging.getLogger(__name__)
_MISMATCH = "step %d, computed again, gives %s=%r instead of %r; the first value is kept"
_VARYING = "time/"  # keys whose values differ when a step is computed again
_MAX_NAME = 100  # characters of a key in the name of its file
T = TypeVar("T")


class Point(NamedTuple):
    """Values of a step. time: when they were written, in milliseconds since 1970."""

    step: int
    time: int
    values: Mapping[str, float]


class Picture(NamedTuple):
    """An image of a step. file: its PNG file, relative to the run's folder."""

    step: int
    time: int
    key: str
    file: str


@dataclass
class Reader(Generic[T]):
    """Reads a file line by line, each complete line once, also while a process appends to it.

    Args:
        parse: the item of a line, without its newline; None if it is not one of this kind.
        kind: what a line is, for error messages.
        position: bytes of the complete lines read so far.
    """

    path: Path
    parse: Callable[[bytes], T | None]
    kind: str
    position: int = 0
    _lines: int = 0

    def read(self) -> list[T]:
        """The items that are new since the last call; an incomplete end is left for the next call.

        Raises:
            DataError: the file is damaged, and not only at its end.
        """
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.position)
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is incomplete
        items = [self.parse(line) for line in lines]
        while items and items[-1] is None:  # left by a dying machine
            items.pop()
        whole = [item for item in items if item is not None]
        if len(whole) < len(items):
            bad = items.index(None)
            raise DataError(
                f"{self.path}:{self._lines + bad + 1}: each line must be a {self.kind}. "
                f"Received: {lines[bad][:80]!r}"
            )
        self.position += sum(len(line) + 1 for line in lines[: len(items)])
        self._lines += len(items)
        return whole


def point_reader(run_dir: Path) -> Reader[Point]:
    """Reads the points of a run."""
    return Reader(run_dir / FILE, parse, "point")


def picture_reader(run_dir: Path) -> Reader[Picture]:
    """Reads the list of pictures of a run."""
    return Reader(run_dir / PICTURE_FILE, _parse_picture, "picture")


class Journal:
    """The points and pictures of a run, each (step, key) once; one process at a time writes them.

    mismatches: values of a repeated step that differ from those of the first time.
    """

    def __init__(self, run_dir: Path) -> None:
        """Creates the journal, or repairs and reads the existing one."""
        self.mismatches = 0
        self._run_dir = run_dir
        storage.remove_leftovers(run_dir / PICTURES)
        if not (run_dir / FILE).exists():
            storage.write_file(run_dir / FILE, b"")
        self._values: dict[str, dict[int, float]] = {}
        for point in repair(run_dir / FILE, point_reader(run_dir)):
            self._remember(point)
        pictures = repair(run_dir / PICTURE_FILE, picture_reader(run_dir))
        self._pictures = {(picture.step, picture.key) for picture in pictures}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes those of `values` that `step` does not have yet.

        A resumed run computes some steps again. They keep their first values and time, so that no
        store gets anything twice.
        """
        new = {}
        for key, value in values.items():
            first = self._values.get(key, {}).get(step)
            if first is None:
                new[key] = value
            # repr, because it tells all bits of a number apart, and one NaN is as good as another.
            elif repr(first) != repr(value) and not key.startswith(_VARYING):
                if not self.mismatches:
                    _LOG.warning(_MISMATCH, step, key, value, first)
                self.mismatches += 1
        if new:
            point = Point(step, _now(), new)
            append(self._run_dir / FILE, point)
            self._remember(point)

    def add_picture(self, step: int, key: str, pixels: np.ndarray) -> None:
        """Writes [H, W, 3] uint8 RGB `pixels` as a PNG file, unless `step` has a picture of `key`.

        A disk that is full costs the picture, not the run.
        """
        if (step, key) in self._pictures:
            return
        png = io.BytesIO()
        PIL.Image.fromarray(pixels).save(png, format="png")
        try:
            picture = write_picture(self._run_dir, step, _now(), key, png.getvalue())
            storage.append_line(self._run_dir / PICTURE_FILE, json.dumps(picture._asdict()))
        except OutputError as error:
            _LOG.warning("step %d: no picture %s: %s", step, key, error)
            return
        self._pictures.add((step, key))

    def history(self, key: str) -> dict[int, float]:
        """All values of `key` by step, including those from before a resume."""
        return dict(self._values.get(key, {}))

    def flush(self) -> None:
        """Returns when all points and pictures are safe on the disk."""
        sync_files(self._run_dir)

    def _remember(self, point: Point) -> None:
        for key, value in point.values.items():
            self._values.setdefault(key, {})[point.step] = value


def sync_files(run_dir: Path) -> None:
    """Forces points and pictures onto the disk."""
    for name in (FILE, PICTURE_FILE):
        if (run_dir / name).exists():
            storage.sync_file(run_dir / name)


def write_picture(run_dir: Path, step: int, time: int, key: str, png: bytes) -> Picture:
    """Writes the file of a picture that is not listed yet; durable."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", key)[-_MAX_NAME:]
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]  # tells similar keys apart
    picture = Picture(step, time, key, f"{PICTURES}/{step:08d}-{name}-{digest}.png")
    storage.make_folder(run_dir / PICTURES)
    storage.write_file(run_dir / picture.file, png)
    return picture


def append(path: Path, point: Point) -> None:
    """Adds a line; it is with the operating system when this returns."""
    values = {
        key: value if math.isfinite(value) else str(value) for key, value in point.values.items()
    }
    storage.append_line(path, json.dumps({**point._asdict(), "values": values}, allow_nan=False))


def read(path: Path) -> list[Point]:
    """Reads all points. Lines at the end that a dying machine did not finish are left out.

    Raises:
        DataError: the file is damaged elsewhere.
        FileNotFoundError: there is none.
    """
    path.stat()
    return Reader(path, parse, "point").read()


def repair(path: Path, reader: Reader[T]) -> list[T]:
    """Reads all items, and cuts off an incomplete end, on the disk too."""
    items = reader.read()
    if path.exists() and reader.position != path.stat().st_size:
        storage.truncate(path, reader.position)
    return items


def parse(line: bytes) -> Point | None:
    """The point of a line, without its newline; None if it is not one."""
    try:
        point = Point(**json.loads(line))
        values = {key: float(value) for key, value in point.values.items()}
        return Point(int(point.step), int(point.time), values)
    except (ValueError, TypeError, AttributeError):
        return None


def _parse_picture(line: bytes) -> Picture | None:
    try:
        picture = Picture(**json.loads(line))
        return Picture(int(picture.step), int(picture.time), str(picture.key), str(picture.file))
    except (ValueError, TypeError):
        return None


def _now() -> int:
    return time.time_ns() // 1_000_000
