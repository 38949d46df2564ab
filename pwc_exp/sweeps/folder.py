"""A sweep on disk: sweep.json with its arguments and children, and the results in their folders."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from pwc_exp import storage
from pwc_exp.config.schema import CONFIG_FILE, ERROR_LOG, SWEEP_FILE, to_yaml
from pwc_exp.config.sweeps import SECONDS
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import DataError, MissingInputError, UserError
from pwc_exp.stopping import STOP_FILE, asked_by_file
from pwc_exp.tracking import journal, record
from pwc_exp.tracking.journal import Point
from pwc_exp.tracking.record import Record, short_commit

PAGE, TABLE, PICTURES = "sweep.html", "sweep.md", "pictures"  # the summary
LOG = "output.log"  # in the folder of a child: what its process printed
RATE = "time/steps_per_second"
PRUNED = "pruned"  # how the reason begins that a run is given to stop early
_MAX_NAME = 60  # characters of a folder's name
_MAX_VALUE = 8  # characters of a number that is shown unrounded


class Child(NamedTuple):
    """A run of a sweep.

    folder: name of its folder, inside that of the sweep.
    name: its name in MLflow: the values that differ between children.
    values: what differs between children, in Hydra's grammar.
    overrides: all arguments of the run.
    """

    number: int
    folder: str
    name: str
    values: dict[str, str]
    overrides: list[str]


def make_child(number: int, values: Mapping[str, str], fixed: Sequence[str]) -> Child:
    """The child `number` with `values`; `fixed` are the arguments that all children share."""
    pairs = [f"{key.lstrip('+')}={rounded(value)}" for key, value in values.items()]
    # A folder name that needs no quotes in a shell, nor in Hydra's grammar.
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", pair).strip("-") for pair in pairs]
    return Child(
        number=number,
        folder="_".join([str(number), *words])[:_MAX_NAME].rstrip("-_."),
        name=" ".join(pairs) or str(number),
        values=dict(values),
        overrides=[*fixed, *(f"{key}={value}" for key, value in values.items())],
    )


def rounded(value: str) -> str:
    """`value`, to four digits if it is a longer number."""
    try:
        return f"{float(value):.4g}" if len(value) > _MAX_VALUE else value
    except ValueError:
        return value


@dataclass(kw_only=True)
class SweepFolder:
    """The content of sweep.json.

    arguments: of the command line, sorted: the same arguments continue the sweep.
    definition: all arguments, those of a preset's `hydra.sweeper.params` included, by key.
    """

    path: Path
    arguments: list[str]
    definition: dict[str, str]
    children: list[Child] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the sweep in the folder `path`.

        Raises:
            MissingInputError: the folder is not that of a sweep.
            DataError: its file is damaged.
        """
        file = path / SWEEP_FILE
        try:
            values = json.loads(file.read_bytes())
            children = [Child(**child) for child in values.pop("children")]
            return cls(path=path.absolute(), children=children, **values)
        except FileNotFoundError:
            raise MissingInputError(f"{file}: no such file; it makes a folder a sweep") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{file}: not the file of a sweep; {error!r}") from error

    def save(self) -> None:
        """Writes sweep.json."""
        storage.make_folder(self.path)
        content = {
            "arguments": self.arguments,
            "definition": self.definition,
            "children": [child._asdict() for child in self.children],
        }
        storage.write_file(self.path / SWEEP_FILE, (json.dumps(content, indent=1) + "\n").encode())

    def add(self, children: Iterable[tuple[Child, TrainConfig | None]]) -> None:
        """Adds children, or replaces those of the same number, and writes their configurations."""
        added = list(children)
        by_number = {child.number: child for child in [*self.children, *(c for c, _ in added)]}
        self.children = [by_number[number] for number in sorted(by_number)]
        self.save()
        for child, config in added:
            file = self.run_dir(child) / CONFIG_FILE
            storage.make_folder(file.parent)
            if config is not None and not file.exists():
                storage.write_file(file, to_yaml(config).encode())

    @property
    def params(self) -> dict[str, str]:
        """The definition as the parameters of the sweep's run in MLflow."""
        return {f"sweep.{key}": value for key, value in self.definition.items()}

    def run_dir(self, child: Child) -> Path:
        """The folder of a child's run."""
        return self.path / child.folder

    def ask_to_stop(self, child: Child, reason: str) -> None:
        """Makes a child save and end after its present step. May be called repeatedly."""
        file = self.run_dir(child) / STOP_FILE
        if not file.exists():
            storage.write_file(file, reason.encode())


def sweeps_in(folder: Path) -> list[SweepFolder]:
    """The sweeps in `folder`, newest first, without damaged ones."""
    found = []
    for file in sorted(folder.glob(f"*/{SWEEP_FILE}"), reverse=True):
        with suppress(DataError):
            found.append(SweepFolder.load(file.parent))
    return found


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
    maximize: bool = False

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

    def ranked(self, children: Iterable[Child], outcomes: Mapping[int, Outcome]) -> list[Child]:
        """The children that finished with a value, best first. outcomes: by number."""
        values = {number: self.value(outcome) for number, outcome in outcomes.items()}
        sign = -1 if self.maximize else 1
        found = [
            child
            for child in children
            if outcomes[child.number].status == Status.FINISHED
            and math.isfinite(values[child.number])
        ]
        return sorted(found, key=lambda child: (sign * values[child.number], child.number))


def read_outcome(run_dir: Path, metric: str) -> Outcome:
    """Reads the folder of a run that has ended. metric: the key of the curve."""
    if not (run_dir / record.FILE).is_file():
        reason = _logged_error(run_dir)
        return Outcome(Status.FAILED if reason else Status.WAITING, reason=reason)
    try:
        saved = Record.load(run_dir)
        points = journal.point_reader(run_dir).read()
    except UserError as error:
        return Outcome(Status.FAILED, reason=str(error))
    status, reason = Status(saved.status), ""
    if status == Status.FAILED:
        reason = _logged_error(run_dir) or "no reason is on record"
    elif status == Status.KILLED:
        reason = asked_by_file(run_dir) or "it was stopped"
        status = Status.PRUNED if reason.startswith(PRUNED) else Status.KILLED
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
