"""metrics.jsonl: one line for each point, `{"step": …, "time": …, "values": {…}}`.

It is the truth about a run's metrics; TensorBoard and MLflow are fed from it. JSON has no NaN and
no infinity; they are the strings "nan", "inf" and "-inf". All other values come back with the same
bits.
"""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from pwc_exp import storage
from pwc_exp.errors import DataError
from pwc_exp.tracking.events import Point

FILE = "metrics.jsonl"
_LOG = logging.getLogger(__name__)
_VARYING = "time/"  # keys whose values no replay repeats


class Journal:
    """The points of a run, each (step, key) once, in a file that one process at a time writes.

    points: what the file held when it was opened.
    mismatches: values of a replayed step that were not those of the first time.
    """

    def __init__(self, path: Path) -> None:
        """Makes the file, or repairs and reads the one that is there.

        Raises:
            OutputError: it cannot be written.
            DataError: it is damaged, and not only at its end.
        """
        self._path = path
        if not path.exists():
            storage.write_file(path, b"")
        self.points = repair(path)
        self.mismatches = 0
        self._values: dict[str, dict[int, float]] = {}
        for point in self.points:
            self._remember(point)

    def add(self, step: int, values: Mapping[str, float]) -> Point | None:
        """Writes those of `values` that `step` does not have yet; None if it has them all.

        A run that goes on from a checkpoint computes steps again. What they had the first time
        stays, with its time, so that no store gets anything twice.

        Raises:
            OutputError: the journal cannot be written.
        """
        new = {}
        for key, value in values.items():
            if step in self._values.get(key, {}):
                self._compare(step, key, value)
            else:
                new[key] = value
        if not new:
            return None
        point = Point(step, time.time_ns() // 1_000_000, new)
        append(self._path, point)
        self._remember(point)
        return point

    def history(self, key: str) -> dict[int, float]:
        """All values of `key` by step, those of before a resume included."""
        return dict(self._values.get(key, {}))

    def flush(self) -> None:
        """Returns when all points are safe on the disk.

        Raises:
            OutputError: the disk does not take them.
        """
        storage.sync_file(self._path)

    def _remember(self, point: Point) -> None:
        for key, value in point.values.items():
            self._values.setdefault(key, {}).setdefault(point.step, value)

    def _compare(self, step: int, key: str, value: float) -> None:
        first = self._values[key][step]
        # repr, because it tells all bits of a number apart, and one NaN is as good as another.
        if key.startswith(_VARYING) or repr(first) == repr(value):
            return
        if not self.mismatches:
            _LOG.warning(
                "step %d, computed again, gives %s=%r where it gave %r; the first value is kept",
                step,
                key,
                value,
                first,
            )
        self.mismatches += 1


def append(path: Path, point: Point) -> None:
    """Adds a line; it is with the operating system when this returns.

    Raises:
        OutputError: the line cannot be written.
    """
    values = {
        key: value if math.isfinite(value) else str(value) for key, value in point.values.items()
    }
    storage.append_line(path, json.dumps({**point._asdict(), "values": values}, allow_nan=False))


def read(path: Path) -> list[Point]:
    """Reads all points. Lines at the end that a dying machine did not finish are left out.

    Raises:
        DataError: the file is damaged elsewhere.
    """
    return [point for point, _ in _whole_lines(path)]


def repair(path: Path) -> list[Point]:
    """Reads all points, and cuts off what `read` leaves out, on the disk too."""
    lines = _whole_lines(path)
    size = sum(length for _, length in lines)
    if size != path.stat().st_size:
        storage.truncate(path, size)
    return [point for point, _ in lines]


def _whole_lines(path: Path) -> list[tuple[Point, int]]:
    """Each point with the bytes that it takes."""
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is no line
    points = [(parse(line), len(line) + 1) for line in lines]
    while points and points[-1][0] is None:
        points.pop()
    whole = [(point, length) for point, length in points if point is not None]
    if len(whole) < len(points):
        number = [point for point, _ in points].index(None) + 1
        received = lines[number - 1][:80]
        raise DataError(f"{path}:{number}: each line must be a point. Received: {received!r}")
    return whole


def parse(line: bytes) -> Point | None:
    """The point of a line, without its newline; None if it is not one."""
    try:
        point = Point(**json.loads(line))
        values = {key: float(value) for key, value in point.values.items()}
        return Point(int(point.step), int(point.time), values)
    except (ValueError, TypeError, AttributeError):
        return None
