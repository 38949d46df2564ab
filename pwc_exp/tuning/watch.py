"""What a run has reached, from its metrics.jsonl, also while another process writes it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pwc_exp.config.sweeps import SECONDS
from pwc_exp.errors import DataError
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Point

RATE = "time/steps_per_second"


class Reading(NamedTuple):
    """The value of a metric at a step."""

    step: int
    value: float


class Watch:
    """Follows one metric of a run, from its first point on; each step is read once.

    A line that is not whole yet is left for the next look. A run that was killed and goes on cuts
    such a line off and writes steps again that the power took: the file is then read from its
    start, and what was read before is not told again.
    """

    def __init__(self, run_dir: Path, key: str) -> None:
        self._path = run_dir / journal.FILE
        self._key = key
        self._offset = 0
        self._steps: set[int] = set()

    def look(self) -> list[Reading]:
        """What is new since the last look; nothing while there is no file."""
        readings = []
        for point in self._new_points():
            if self._key in point.values and point.step not in self._steps:
                self._steps.add(point.step)
                readings.append(Reading(point.step, point.values[self._key]))
        return readings

    def _new_points(self) -> list[Point]:
        try:
            with self._path.open("rb") as file:
                # One byte earlier: a newline, as long as the file is the one that was read.
                file.seek(max(0, self._offset - 1))
                if self._offset > 0 and file.read(1) != b"\n":
                    self._offset = 0
                    file.seek(0)
                data = file.read()
        except FileNotFoundError:
            return []
        points = []
        for line in data.split(b"\n")[:-1]:  # what follows the last newline is not whole yet
            point = journal.parse(line)
            if point is None:
                break
            points.append(point)
            self._offset += len(line) + 1
        return points


def measure(run_dir: Path, objectives: Iterable[str]) -> dict[str, float]:
    """What a run has reached, of each objective: the last value of a metric, or `seconds`.

    Raises:
        DataError: the run has no such metric, or its metrics.jsonl is damaged.
        FileNotFoundError: it has none.
    """
    path = run_dir / journal.FILE
    points = journal.read(path)
    reached = {}
    for key in objectives:
        value = seconds(points) if key == SECONDS else _last(points, key)
        if value is None:
            known = ", ".join(sorted({known for point in points for known in point.values}))
            raise DataError(
                f"{path}: must have the objective {key}. Received: {known or 'nothing'}"
            )
        reached[key] = value
    return reached


def seconds(points: Sequence[Point]) -> float | None:
    """How long the training steps took, all of them; None if no rate was logged.

    Between two points with a rate, the steps divided by the later rate, which is that of the steps
    since the point before. A step's time is its wait for data, the update and its bookkeeping;
    evaluations, pictures, checkpoints and the time between a kill and its resume are not in it.
    The step in which a process compiles is not in a rate, so it counts as long as the others of
    its point. Steps after the last rate count with that rate. A step that is made again after a
    resume counts once: a journal keeps the first value of a point.
    """
    total, before, rate = 0.0, 0, None
    for point in sorted(points, key=lambda point: point.step):
        if RATE in point.values:
            rate = point.values[RATE]
            total += (point.step - before) / rate
            before = point.step
    if rate is None:
        return None
    return total + (max(point.step for point in points) - before) / rate


def _last(points: Sequence[Point], key: str) -> float | None:
    readings = {point.step: point.values[key] for point in points if key in point.values}
    return readings[max(readings)] if readings else None
