"""Conducts a sweep: starts children, follows them, and sums up, for the terminal and MLflow."""

import math
import shlex
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pwc_exp import durable
from pwc_exp.commands.training import TrainConfig
from pwc_exp.config import BEST_KEY
from pwc_exp.errors import SweepError
from pwc_exp.report.sweep import ChildRow, SeedGroup, SweepSummary, render
from pwc_exp.report.sweep_text import markdown_table, text_table
from pwc_exp.stopping import StopSignals, say
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import FILE, LOCK_FILE, SweepFolder
from pwc_exp.sweeps.local import Launch
from pwc_exp.sweeps.outcome import FAILED, FINISHED, PRUNED, WAITING, Outcome, read
from pwc_exp.tracking import Tracker, record
from pwc_exp.tracking.provenance import command_line
from pwc_exp.tracking.record import place_name

PAGE, TABLE = "sweep.html", "sweep.md"
SEED = "seed"
GOES_ON = "hydra.sweeper.continued"  # what sweep.continue stands for


class Conductor:
    """A sweep at work.

    Args:
        sweep: its folder.
        name: what it is called in MLflow.
        tracker: of the sweep's own run.
        signals: what may ask it to stop.
        metric: the value of a child, by which they are compared; the lowest is the best.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        name: str,
        tracker: Tracker,
        signals: StopSignals,
        *,
        metric: str = BEST_KEY,
    ) -> None:
        self.sweep = sweep
        self.name = name
        self.tracker = tracker
        self.signals = signals
        self.metric = metric
        self.outcomes: dict[int, Outcome] = {}
        for child in sweep.children:
            self.look_at(child)

    def look_at(self, child: Child, reason: str = "") -> Outcome:
        """Reads what became of a child. reason: what its process said last, if it failed."""
        outcome = read(self.sweep.run_dir(child), self.metric)
        if reason and outcome.status not in (FINISHED, PRUNED):
            status = FAILED if outcome.status == WAITING else outcome.status
            outcome = outcome._replace(status=status, reason=reason)
        self.outcomes[child.number] = outcome
        return outcome

    def run(
        self,
        children: Iterable[Child],
        launch: Launch,
        *,
        total: int,
        on_end: Callable[[Child, Outcome], None] = lambda child, outcome: None,
    ) -> None:
        """Runs children and notes what becomes of them. on_end: told of each."""

        def start(child: Child) -> None:
            say(f"[{child.number + 1}/{total}] {child.name}   {self.sweep.log(child)}")

        for ended in launch(iter(children), start):
            child = ended.child
            outcome = self.look_at(child, ended.reason)
            on_end(child, outcome)
            say(f"[{child.number + 1}/{total}] {child.name}   {_in_short(outcome)}")
            self._tell()

    def close(self, notes: Sequence[str] = (), pictures: Mapping[str, bytes] | None = None) -> None:
        """Sums up. The files lie in the sweep's folder and in its run in MLflow."""
        summary = self.summary(notes, pictures or {})
        say(text_table(summary))
        for name, content in ((PAGE, render(summary)), (TABLE, markdown_table(summary))):
            durable.write_file(self.sweep.path / name, content.encode())
            self.tracker.artifact(self.sweep.path / name, "")
        self.tracker.artifact(self.sweep.path / FILE, "")
        say(f"sweep   {self.sweep.path}\npage    {self.sweep.path / PAGE}")

    def best(self) -> Child | None:
        """The child with the lowest value, of those that finished."""
        found = [
            (outcome.values[self.metric], number)
            for number, outcome in self.outcomes.items()
            if outcome.status == FINISHED
            and not math.isnan(outcome.values.get(self.metric, math.nan))
        ]
        return self._child(min(found)[1]) if found else None

    def summary(self, notes: Sequence[str], pictures: Mapping[str, bytes]) -> SweepSummary:
        """What tables and page are made of."""
        best = self.best()
        return SweepSummary(
            title=f"Sweep {self.name}",
            command=command_line(),
            children=[self._row(child) for child in self.sweep.children],
            objective=f"{self.metric}, px",
            best=best.number if best else None,
            groups=self.seed_groups(),
            notes=notes,
            pictures=pictures,
        )

    def seed_groups(self) -> list[SeedGroup]:
        """Children alike but for their seed, with their mean; none where no two are."""
        groups: dict[str, list[float]] = {}
        for child in self.sweep.children:
            outcome = self.outcomes[child.number]
            if SEED in child.values and outcome.status == FINISHED:
                others = " ".join(f"{k}={v}" for k, v in child.values.items() if k != SEED)
                groups.setdefault(others, []).append(outcome.values.get(self.metric, math.nan))
        if max(map(len, groups.values()), default=0) < 2:
            return []
        return [
            SeedGroup(
                name=name or "all",
                count=len(values),
                mean=statistics.fmean(values),
                deviation=statistics.stdev(values) if len(values) > 1 else math.nan,
                best=min(values),
            )
            for name, values in groups.items()
        ]

    def failed(self) -> list[Child]:
        """Children that were begun and did not finish, but those that were pruned."""
        good = (FINISHED, PRUNED, WAITING)
        return [c for c in self.sweep.children if self.outcomes[c.number].status not in good]

    def _child(self, number: int) -> Child:
        return next(child for child in self.sweep.children if child.number == number)

    def _row(self, child: Child) -> ChildRow:
        outcome = self.outcomes[child.number]
        values = outcome.values
        return ChildRow(
            number=child.number,
            name=child.name,
            values=child.values,
            status=outcome.status,
            aepe=values.get(self.metric, math.nan),
            lower=values.get(f"{self.metric}_lower", math.nan),
            upper=values.get(f"{self.metric}_upper", math.nan),
            seconds=outcome.seconds,
            steps=outcome.steps,
            reason=outcome.reason,
            folder=child.folder,
            curve=outcome.curve,
        )

    def _tell(self) -> None:
        """Tells MLflow how many have ended, and the best value so far."""
        statuses = [outcome.status for outcome in self.outcomes.values()]
        ended = sum(status != WAITING for status in statuses)
        values = {
            f"sweep/{status.lower()}": float(statuses.count(status))
            for status in (FINISHED, FAILED, PRUNED)
        }
        if best := self.best():
            values[self.metric] = self.outcomes[best.number].values[self.metric]
            self.tracker.tag("best_child", best.name)
        self.tracker.scalars(ended, values)


@contextmanager
def conducted(sweep: SweepFolder, config: TrainConfig) -> Iterator[Conductor]:
    """Holds the sweep's folder and its run in MLflow while the block conducts it.

    config: of a child; where the runs are tracked is the same for all.

    Raises:
        BusyError: another process conducts the sweep.
        SweepError: children failed, and all others have ended.
        SystemExit: a signal asked to stop.
    """
    durable.make_folder(sweep.path)
    with ExitStack() as stack:
        stack.enter_context(durable.lock(sweep.path / LOCK_FILE))
        sweep.save()
        signals = stack.enter_context(StopSignals())
        name = place_name(sweep.path, Path(config.outputs))
        tracker = _open_tracker(sweep, config, name)
        stack.enter_context(tracker)
        tracker.wait_for_mlflow()  # so that children find the run that they belong to
        conductor = Conductor(sweep, name, tracker, signals)
        yield conductor
        if signals.received is not None:
            say(f"stopped. To go on: {to_go_on(sweep)}")
            raise SystemExit(128 + signals.received)
        if failed := conductor.failed():
            reason = conductor.outcomes[failed[0].number].reason
            raise SweepError(
                f"{len(failed)} of {len(sweep.children)} children did not finish; "
                f"{failed[0].name}: {reason}. To try them again: {to_go_on(sweep)}"
            )


def to_go_on(sweep: SweepFolder) -> str:
    """The command that goes on with a sweep: this process's own, and where the sweep lies."""
    given = shlex.split(command_line())
    kept = [argument for argument in given if not argument.startswith(("sweep.cont", GOES_ON))]
    return shlex.join([*kept, f"sweep.continue={sweep.path}"])


def _open_tracker(sweep: SweepFolder, config: TrainConfig, name: str) -> Tracker:
    begun = (sweep.path / record.FILE).exists()
    return Tracker(
        sweep.path,
        run_name=name,
        params={f"sweep.{key}": value for key, value in sweep.definition.items()},
        tags={"kind": "sweep", "run_dir": str(sweep.path), "recipe": config.name},
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=False,
        required=config.tracking.required,
        resumed_at=len(sweep.children) if begun else None,
    )


def _in_short(outcome: Outcome) -> str:
    value = f"{outcome.curve[-1][1]:.3f} px" if outcome.curve else outcome.reason
    return (
        f"{outcome.status}   {value}" if outcome.status != FAILED else f"FAILED   {outcome.reason}"
    )
