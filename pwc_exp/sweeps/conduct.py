"""Conducts a sweep: starts children, follows them, and sums up, for the terminal and MLflow."""

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pwc_exp import storage
from pwc_exp.config.data import name_of
from pwc_exp.config.schema import ERROR_LOG
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import SweepError, UserError
from pwc_exp.report.sweep import SweepSummary, render
from pwc_exp.report.sweep_text import markdown_table, text_table
from pwc_exp.stopping import StopSignals, log
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import FILE, LOCK_FILE, PAGE, PICTURES, TABLE, SweepFolder
from pwc_exp.sweeps.launch import Launch
from pwc_exp.sweeps.objective import Objective
from pwc_exp.sweeps.outcome import FAILED, FINISHED, PRUNED, WAITING, Outcome, read
from pwc_exp.sweeps.registration import register_best
from pwc_exp.sweeps.standing import row_of, seed_groups
from pwc_exp.tracking import Tracker, record
from pwc_exp.tracking.provenance import command_line
from pwc_exp.tracking.record import place_name

_NOTE = "mlflow.note.content"  # what MLflow shows as the description of a run, in Markdown
_GOES_ON = ("sweep.continue=", "hydra.sweeper.continued=")


@dataclass(kw_only=True)
class Conductor:
    """A sweep at work.

    sweep: its folder.
    name: what it is called in MLflow.
    config: of a child; where the runs are tracked is the same for all.
    tracker: of the sweep's own run.
    signals: what may ask it to stop.
    objective: by what children are compared.
    outcomes: what has become of each child, by number.
    """

    sweep: SweepFolder
    name: str
    config: TrainConfig
    tracker: Tracker
    signals: StopSignals
    objective: Objective
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def add(self, child: Child, config: TrainConfig) -> Outcome:
        """Takes a child on, and reads what has become of it before."""
        self.sweep.add(child, config)
        return self.look_at(child)

    def refuse(self, child: Child, error: UserError) -> None:
        """Notes a child whose values are refused: it has failed."""
        self.sweep.add(child, None)
        run_dir = self.sweep.run_dir(child)
        storage.make_folder(run_dir)
        told = f"{type(error).__module__}.{type(error).__name__}: {error}\n"
        storage.write_file(run_dir / ERROR_LOG, told.encode())
        log(f"{child.name}   {self.look_at(child).status}   {error}")
        self._tell()

    def look_at(self, child: Child, reason: str = "") -> Outcome:
        """Reads what became of a child. reason: what its process said last, if it failed."""
        outcome = read(self.sweep.run_dir(child), self.objective.key)
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
        before: int,
        total: int,
        on_end: Callable[[Child, Outcome], None] = lambda child, outcome: None,
    ) -> None:
        """Runs children and notes what becomes of them.

        Args:
            children: to run.
            launch: runs them.
            before: how many have ended before.
            total: how many there will be, these included.
            on_end: told of each.
        """
        places: dict[int, str] = {}

        def start(child: Child) -> None:
            places[child.number] = f"[{before + len(places) + 1}/{total}] {child.name}"
            log(f"{places[child.number]}   {self.sweep.log(child)}")

        for ended in launch(iter(children), start):
            child = ended.child
            outcome = self.look_at(child, ended.reason)
            on_end(child, outcome)
            told = outcome.reason or self.objective.text(outcome)
            log(f"{places[child.number]}   {outcome.status}   {told}")
            self._tell()

    def best(self) -> Child | None:
        """The child with the best value, of those that finished."""
        values = {
            child.number: self.objective.value(self.outcomes[child.number])
            for child in self.sweep.children
            if self.outcomes[child.number].status == FINISHED
        }
        found = [number for number, value in values.items() if not math.isnan(value)]
        sign = 1 if self.objective.lower_is_better else -1
        best = min(found, key=lambda number: (sign * values[number], number), default=None)
        return next((child for child in self.sweep.children if child.number == best), None)

    def close(self, summary: SweepSummary) -> None:
        """Sums up: on the terminal, in the sweep's folder and in MLflow."""
        log(text_table(summary))
        for name, content in ((PAGE, render(summary)), (TABLE, markdown_table(summary))):
            storage.write_file(self.sweep.path / name, content.encode())
            self.tracker.artifact(self.sweep.path / name, "")
        pictures = self.sweep.path / PICTURES
        for name, png in summary.pictures.items():
            storage.make_folder(pictures)
            storage.write_file(pictures / f"{name.replace(' ', '_')}.png", png)
            self.tracker.artifact(pictures, PICTURES)
        self.tracker.artifact(self.sweep.path / FILE, "")
        log(f"sweep   {self.sweep.path}\npage    {self.sweep.path / PAGE}")
        model = self._register()
        self.tracker.tag(_NOTE, f"{model}\n\n{markdown_table(summary)}".strip())

    def summary(
        self, *, notes: Sequence[str] = (), pictures: Mapping[str, bytes] | None = None
    ) -> SweepSummary:
        """What tables and page are made of."""
        best = self.best()
        return SweepSummary(
            title=f"Sweep {self.name}",
            command=shlex.join(_own_command()),
            children=[
                row_of(child, self.outcomes[child.number], self.objective)
                for child in self.sweep.children
            ],
            objective=self.objective.label,
            lower_is_better=self.objective.lower_is_better,
            best=best.number if best else None,
            groups=seed_groups(self.sweep.children, self.outcomes, self.objective),
            notes=[*notes, *_of_commits(self.outcomes.values())],
            pictures=pictures or {},
        )

    def require_all(self) -> None:
        """Ends the command with an error unless all children finished."""
        self._stop_if_asked()
        good = (FINISHED, PRUNED)
        failed = [c for c in self.sweep.children if self.outcomes[c.number].status not in good]
        if failed:
            raise SweepError(
                f"{len(failed)} of {len(self.sweep.children)} children did not finish; "
                f"{failed[0].name}: {self.outcomes[failed[0].number].reason}. "
                f"To try them again: {self._to_go_on()}"
            )

    def require_any(self) -> None:
        """Ends the command with an error unless a child finished."""
        self._stop_if_asked()
        if self.best() is None:
            reasons = [outcome.reason for outcome in self.outcomes.values() if outcome.reason]
            raise SweepError(
                f"none of {len(self.sweep.children)} children finished; the last: "
                f"{reasons[-1] if reasons else 'no reason is on record'}"
            )

    def _stop_if_asked(self) -> None:
        if self.signals.received is not None:
            log(f"stopped. To go on: {self._to_go_on()}")
            raise SystemExit(128 + self.signals.received)

    def _to_go_on(self) -> str:
        """The command that goes on: this process's own, and where the sweep lies."""
        return shlex.join([*_own_command(), f"sweep.continue={self.sweep.path}"])

    def _tell(self) -> None:
        """Tells MLflow how many have ended, and the best value so far.

        A child that ends once more, tried again after a failure, is another point.
        """
        statuses = [outcome.status for outcome in self.outcomes.values()]
        values = {
            f"sweep/{status.lower()}": float(statuses.count(status))
            for status in (FINISHED, FAILED, PRUNED)
        }
        if best := self.best():
            values["sweep/best"] = self.objective.value(self.outcomes[best.number])
            self.tracker.tag("best_child", best.name)
        told = self.tracker.history("sweep/finished")
        self.tracker.scalars(max(told, default=0) + 1, values)

    def _register(self) -> str:
        """Makes the best child's best checkpoint a model in MLflow; the link to it, as Markdown."""
        best = self.best()
        if best is None or not self.config.tracking.mlflow:
            return ""
        uri, outputs = self.config.tracking.uri, Path(self.config.outputs)
        try:
            registered = register_best(self.sweep.run_dir(best), uri=uri, outputs=outputs)
        except UserError as error:
            log(f"model   not registered: {error}")
            return ""
        log(f"model   {registered.uri}, version {registered.version}")
        address = f"#/models/{registered.name}/versions/{registered.version}"
        return f"Best: [{best.name}]({address})"


def _own_command() -> list[str]:
    """Of this process, as if the sweep were new."""
    given = shlex.split(command_line())
    return [argument for argument in given if not argument.startswith(_GOES_ON)]


def _of_commits(outcomes: Iterable[Outcome]) -> list[str]:
    """That children ran with different code, if they did."""
    commits = sorted({outcome.commit for outcome in outcomes if outcome.commit})
    if len(commits) < 2:
        return []
    return [f"children ran on different commits (+: with changed files): {', '.join(commits)}"]


@contextmanager
def conducted(sweep: SweepFolder, config: TrainConfig, objective: Objective) -> Iterator[Conductor]:
    """Holds the sweep's folder and its run in MLflow while the block conducts it.

    Raises:
        BusyError: another process conducts the sweep.
    """
    storage.make_folder(sweep.path)
    with ExitStack() as stack:
        stack.enter_context(storage.lock(sweep.path / LOCK_FILE))
        sweep.save()
        signals = stack.enter_context(StopSignals())
        name = place_name(sweep.path, Path(config.outputs))
        tracker = stack.enter_context(_make_tracker(sweep, config, name))
        tracker.wait_for_mlflow()  # so that children find the run that they belong to
        conductor = Conductor(
            sweep=sweep,
            name=name,
            config=config,
            tracker=tracker,
            signals=signals,
            objective=objective,
        )
        for child in sweep.children:
            conductor.look_at(child)
        yield conductor


def _make_tracker(sweep: SweepFolder, config: TrainConfig, name: str) -> Tracker:
    begun = (sweep.path / record.FILE).exists()
    return Tracker(
        sweep.path,
        run_name=name,
        params=sweep.params,
        tags={
            "kind": "sweep",
            "run_dir": str(sweep.path),
            "recipe": config.name,
            "dataset": name_of(config.data),
        },
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=False,
        required=config.tracking.required,
        resumed_at=len(sweep.children) if begun else None,
    )
