"""What the folders of children say: status, metrics, why a child failed; and tables of that."""

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pwc_exp.config.schema import ERROR_LOG
from pwc_exp.config.sweeps import SECONDS
from pwc_exp.errors import UserError
from pwc_exp.report.sweep import ChildRow, SeedGroup
from pwc_exp.stopping import asked_by_file
from pwc_exp.sweeps.folder import Child, rounded
from pwc_exp.tracking import journal, record
from pwc_exp.tracking.journal import Point
from pwc_exp.tracking.record import Record, short_commit

RATE = "time/steps_per_second"
_PRUNED = "pruned"  # how the reason begins that a run is given to stop


class Status(StrEnum):
    """Of a child. The first three are MLflow's."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"  # or stopped
    PRUNED = "PRUNED"
    WAITING = "WAITING"  # not started


class Outcome(NamedTuple):
    """The result of a child. `values` has the last value of each metric."""

    status: Status
    values: Mapping[str, float] = {}
    curve: Sequence[tuple[float, float]] = ()  # (step, value) of the metric that is compared
    steps: int = 0  # of the last point
    seconds: float = math.nan  # that the training steps took, see `training_seconds`
    wall: float = math.nan  # seconds from start to end, with compilation, evaluations and pauses
    reason: str = ""  # why it did not finish, one line
    commit: str = ""  # of the code, with + if files differed from it


class Objective(NamedTuple):
    """What children are compared by: the last value of the metric `key`, or `seconds`."""

    key: str
    lower_is_better: bool = True

    @property
    def unit(self) -> str:
        """Empty where it is not known."""
        return "s" if self.key == SECONDS else "px" if self.key.endswith("/aepe") else ""

    @property
    def label(self) -> str:
        """The key, with its unit."""
        return f"{self.key}, {self.unit}" if self.unit else self.key

    def value(self, outcome: Outcome) -> float:
        """NaN if the child has none."""
        return outcome.values.get(self.key, math.nan) if self.key != SECONDS else outcome.seconds


def pruning_reason(step: int, value: float) -> str:
    """What a run is told that is stopped early: `read_outcome` knows it by this."""
    return f"{_PRUNED} after step {step:,}, at {value:.4g}"


def read_outcome(run_dir: Path, metric: str) -> Outcome:
    """Reads the folder of a run that has ended. metric: the key of the curve."""
    if not (run_dir / record.FILE).is_file():
        reason = _logged_error(run_dir)
        return Outcome(Status.FAILED if reason else Status.WAITING, reason=reason)
    try:
        saved = Record.load(run_dir)
        points = journal.read(run_dir / journal.FILE) if (run_dir / journal.FILE).exists() else []
    except UserError as error:
        return Outcome(Status.FAILED, reason=str(error))
    status, reason = Status(saved.status), ""
    if status == Status.FAILED:
        reason = _logged_error(run_dir) or "no reason is on record"
    elif status == Status.KILLED:
        reason = asked_by_file(run_dir) or "it was stopped"
        status = Status.PRUNED if reason.startswith(_PRUNED) else Status.KILLED
    points.sort(key=lambda point: point.step)
    return Outcome(
        status=status,
        values={key: value for point in points for key, value in point.values.items()},
        curve=[(p.step, p.values[metric]) for p in points if metric in p.values],
        steps=points[-1].step if points else 0,
        seconds=training_seconds(points),
        wall=saved.wall_seconds,
        reason=reason,
        commit=short_commit(saved.about),
    )


def training_seconds(points: Sequence[Point]) -> float:
    """How long the training steps took, from the rates in `points`, by step; NaN without any rate.

    A rate is the mean over the steps since the last one; steps after the last rate count with that
    rate. Evaluations, pictures, checkpoints, compilation and pauses are not included.
    """
    total, last_step, rate = 0.0, 0, math.nan
    for point in points:
        if RATE in point.values:
            rate = point.values[RATE]
            total += (point.step - last_step) / rate
            last_step = point.step
    return total + (points[-1].step - last_step) / rate if points else math.nan


def _logged_error(run_dir: Path) -> str:
    """What was raised, from the traceback that the run left; without the module of its class."""
    try:
        lines = (run_dir / ERROR_LOG).read_text(encoding="utf-8").strip().splitlines()
    except OSError:
        return ""
    kind, _, message = lines[-1].partition(": ") if lines else ("", "", "")
    return message if kind.startswith("pwc_exp.") else f"{kind.rpartition('.')[2]}: {message}"


def table_row(child: Child, outcome: Outcome, objective: Objective) -> ChildRow:
    """A child as a row of the tables and of the page."""
    return ChildRow(
        number=child.number,
        name=child.name,
        values={key: rounded(value) for key, value in child.values.items()},
        status=outcome.status,
        aepe=objective.value(outcome),
        lower=outcome.values.get(f"{objective.key}_lower", math.nan),
        upper=outcome.values.get(f"{objective.key}_upper", math.nan),
        seconds=outcome.seconds,
        wall=outcome.wall,
        steps=outcome.steps,
        reason=outcome.reason,
        folder=child.folder,
        curve=outcome.curve,
    )


def seed_groups(
    children: Sequence[Child], outcomes: Mapping[int, Outcome], objective: Objective
) -> list[SeedGroup]:
    """Finished children that differ in nothing but their seed; none if no two of them do."""
    groups: dict[str, list[float]] = {}
    for child in children:
        outcome = outcomes[child.number]
        if "seed" in child.values and outcome.status == Status.FINISHED:
            others = " ".join(f"{k}={v}" for k, v in child.values.items() if k != "seed")
            groups.setdefault(others or "all", []).append(objective.value(outcome))
    if max(map(len, groups.values()), default=0) < 2:
        return []
    best = min if objective.lower_is_better else max
    return [
        SeedGroup(
            name=name,
            count=len(values),
            mean=statistics.fmean(values),
            deviation=statistics.stdev(values) if len(values) > 1 else math.nan,
            best=best(values),
        )
        for name, values in groups.items()
    ]
