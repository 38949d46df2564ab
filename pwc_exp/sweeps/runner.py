"""Runs a sweep: starts children, logs their results, summarizes them for terminal and MLflow."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pwc_exp import checkpoints, storage
from pwc_exp.config.data import name_of
from pwc_exp.config.schema import CHECKPOINTS, CONFIG_FILE, ERROR_LOG, LOCK_FILE, SWEEP_FILE, load
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import MissingInputError, SweepError, UserError
from pwc_exp.stopping import STOP_FILE, StopSignals, log
from pwc_exp.sweeps.folder import (
    LOG,
    PAGE,
    PICTURES,
    TABLE,
    Child,
    Objective,
    Outcome,
    Status,
    SweepFolder,
    read_outcome,
)
from pwc_exp.sweeps.launchers import Launcher
from pwc_exp.sweeps.report import SweepSummary, markdown_table, render, text_table
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.mlflow_store import where_to_look
from pwc_exp.tracking.record import command_line, place_name
from pwc_exp.tracking.registry import Registered, register

_GOOD = (Status.FINISHED, Status.PRUNED)
_NEW = ("sweep.resume=null", "hydra.sweeper.resume=null")
_NOTE = "mlflow.note.content"  # what MLflow shows as the description of a run, in Markdown


@dataclass
class SweepRunner:
    """A sweep that this process runs.

    name: of the sweep's run in MLflow.
    config: of a child; all children are tracked at the same place.
    tracker: of the sweep's run.
    objectives: the first one ranks the children.
    outcomes: of each child, by number.
    """

    sweep: SweepFolder
    name: str
    config: TrainConfig
    tracker: Tracker
    signals: StopSignals
    objectives: Sequence[Objective]
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def add(self, children: Iterable[tuple[Child, TrainConfig | None]]) -> None:
        """Adds children, each with its configuration, and reads their results so far."""
        added = list(children)
        self.sweep.add(added)
        for child, _ in added:
            self.read(child)

    def add_refused(self, child: Child, error: UserError) -> None:
        """Adds a child of which the values are refused: it has failed."""
        self.sweep.add([(child, None)])
        line = f"{type(error).__module__}.{type(error).__name__}: {error}\n"
        storage.write_file(self.sweep.run_dir(child) / ERROR_LOG, line.encode())
        log(f"{child.name}   {self.read(child).status}   {error}")
        self._log()

    def read(self, child: Child, reason: str = "") -> Outcome:
        """Reads the result of a child. reason: why its process failed, if it did."""
        outcome = read_outcome(self.sweep.run_dir(child), self.objectives[0].key)
        if reason and outcome.status not in _GOOD:
            status = Status.FAILED if outcome.status == Status.WAITING else outcome.status
            outcome = outcome._replace(status=status, reason=reason)
        self.outcomes[child.number] = outcome
        return outcome

    def run(
        self,
        children: Iterator[Child],
        launcher: Launcher,
        *,
        done: int,
        total: int,
        on_end: Callable[[Child, Outcome], None] = lambda child, outcome: None,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs children; `done` of `total` have ended before.

        `on_end` is given each result; `poll` is called while children run.
        """
        labels: dict[int, str] = {}
        objective = self.objectives[0]

        def starting() -> Iterator[Child]:
            for child in children:
                run_dir = self.sweep.run_dir(child)
                (run_dir / STOP_FILE).unlink(missing_ok=True)  # of the time before
                (run_dir / ERROR_LOG).unlink(missing_ok=True)
                labels[child.number] = f"[{done + len(labels) + 1}/{total}] {child.name}"
                log(f"{labels[child.number]}   {run_dir / LOG}")
                yield child

        for child, reason in launcher.run(starting(), poll):
            outcome = self.read(child, reason)
            on_end(child, outcome)
            value = f"{objective.value(outcome):.4g} {objective.unit}".rstrip()
            log(f"{labels[child.number]}   {outcome.status}   {outcome.reason or value}")
            self._log()

    def best(self) -> Child | None:
        """The finished child with the best value."""
        ranked = self.objectives[0].ranked(self.sweep.children, self.outcomes)
        return ranked[0] if ranked else None

    def close(
        self,
        *,
        notes: Sequence[str] = (),
        pictures: Mapping[str, bytes] | None = None,
        front: Sequence[int] = (),
    ) -> None:
        """Summarizes the sweep on the terminal, in its folder and in MLflow: see `SweepSummary`."""
        commits = sorted({each.commit for each in self.outcomes.values() if each.commit})
        if len(commits) > 1:
            differ = "children ran on different commits (+: with changed files)"
            notes = [*notes, f"{differ}: {', '.join(commits)}"]
        summary = SweepSummary(
            title=f"Sweep {self.name}",
            command=_command(),
            children=self.sweep.children,
            outcomes=self.outcomes,
            objectives=self.objectives,
            notes=notes,
            pictures=pictures or {},
            front=front,
        )
        log(text_table(summary))
        folder, tracking = self.sweep.path, self.config.tracking
        storage.write_file(folder / PAGE, render(summary).encode())
        storage.write_file(folder / TABLE, markdown_table(summary).encode())
        for name, png in summary.pictures.items():
            storage.make_folder(folder / PICTURES)
            storage.write_file(folder / PICTURES / f"{name.replace(' ', '_')}.png", png)
        if summary.pictures:
            self.tracker.artifact(folder / PICTURES, PICTURES)
        for name in (PAGE, TABLE, SWEEP_FILE):
            self.tracker.artifact(folder / name, "")
        log(f"page    {folder / PAGE}")
        if tracking.mlflow or tracking.tensorboard:
            lines = where_to_look(
                folder,
                uri=tracking.uri,
                experiment=tracking.experiment,
                outputs=Path(self.config.outputs),
                mlflow=tracking.mlflow,
            )
            log("\n".join(lines))
        link = self._register_best() if tracking.mlflow else ""
        self.tracker.tag(_NOTE, f"{link}\n\n{markdown_table(summary)}".strip())

    def finish(self, *, all_needed: bool) -> None:
        """Ends the process with an error unless all children have finished, or at least one.

        Raises:
            SystemExit: the sweep was asked to stop.
            SweepError: children did not finish.
        """
        if self.signals.received is not None:
            log(f"stopped. The same command continues: {_command()}")
            raise SystemExit(128 + self.signals.received)
        children, outcomes = self.sweep.children, self.outcomes
        failed = [child for child in children if outcomes[child.number].status not in _GOOD]
        if failed and all_needed:
            raise SweepError(
                f"{len(failed)} of {len(children)} children did not finish; "
                f"{failed[0].name}: {outcomes[failed[0].number].reason}. "
                f"The same command tries them again: {_command()}"
            )
        if self.best() is None:
            last = outcomes[failed[-1].number].reason if failed else "it has no value"
            raise SweepError(f"none of {len(children)} children finished; the last: {last}")

    def _log(self) -> None:
        """Logs how many children have ended, and the best value so far.

        The step is a count: a child that was tried again after a failure ends twice.
        """
        statuses = [outcome.status for outcome in self.outcomes.values()]
        values = {
            f"sweep/{status.lower()}": float(statuses.count(status))
            for status in (Status.FINISHED, Status.FAILED, Status.PRUNED)
        }
        if best := self.best():
            values["sweep/best"] = self.objectives[0].value(self.outcomes[best.number])
            self.tracker.tag("best_child", best.name)
        logged = self.tracker.history("sweep/finished")
        self.tracker.scalars(max(logged, default=0) + 1, values)

    def _register_best(self) -> str:
        """Registers the best child's best checkpoint in MLflow; the link to it, as Markdown."""
        best, uri, outputs = self.best(), self.config.tracking.uri, Path(self.config.outputs)
        if best is None:
            return ""
        try:
            registered = register_best(self.sweep.run_dir(best), uri=uri, outputs=outputs)
        except UserError as error:
            log(f"model   not registered: {error}")
            return ""
        log(f"model   {registered.uri}, version {registered.version}")
        address = f"#/models/{registered.name}/versions/{registered.version}"
        return f"Best: [{best.name}]({address})"


@contextmanager
def open_runner(
    sweep: SweepFolder, config: TrainConfig, objectives: Sequence[Objective]
) -> Iterator[SweepRunner]:
    """Holds the sweep's folder, and its run in MLflow, while the block runs it.

    Raises:
        BusyError: another process runs the sweep.
    """
    storage.make_folder(sweep.path)
    outputs, tracking = Path(config.outputs), config.tracking
    name = place_name(sweep.path, outputs)
    with ExitStack() as stack:
        stack.enter_context(storage.lock(sweep.path / LOCK_FILE))
        continued = (sweep.path / SWEEP_FILE).exists()
        note = ", continued; sweep.resume=null starts a new one" if continued else ""
        log(f"sweep   {sweep.path}{note}")
        sweep.save()
        signals = stack.enter_context(StopSignals())
        tracker = Tracker(
            sweep.path,
            run_name=name,
            params=sweep.params,
            tags={
                "run_dir": str(sweep.path),
                "kind": "sweep",
                "recipe": config.name,
                "dataset": name_of(config.data),
            },
            uri=tracking.uri,
            experiment=tracking.experiment,
            outputs=outputs,
            mlflow=tracking.mlflow,
            tensorboard=False,
            required=tracking.required,
            resumed_at=len(sweep.children) if continued else None,
        )
        stack.enter_context(tracker)
        tracker.wait_for_mlflow()  # so that children find the run that they are children of
        runner = SweepRunner(sweep, name, config, tracker, signals, objectives)
        for child in sweep.children:
            runner.read(child)
        yield runner


def register_best(run_dir: Path, *, uri: str | None, outputs: Path) -> Registered:
    """Marks a child as the best of its sweep, and registers its best checkpoint: see `register`.

    Raises:
        MissingInputError: it has no evaluated checkpoint, is no child, or is not in MLflow.
        DataError: the checkpoint is damaged.
        BusyError: MLflow does not answer, or refuses.
    """
    key = load(run_dir / CONFIG_FILE).best_metric
    best = checkpoints.best(run_dir / CHECKPOINTS, key=key)
    if best is None:
        raise MissingInputError(f"{run_dir / CHECKPOINTS} must hold an evaluated checkpoint")
    manifest = checkpoints.load(best).manifest
    return register(
        run_dir,
        checkpoint=f"{CHECKPOINTS}/best",
        metrics={key: manifest.metrics[key]},
        step=manifest.step,
        uri=uri,
        outputs=outputs,
    )


def _command() -> str:
    """The command of this process; it continues the sweep, so nothing asks for a new one."""
    given = shlex.split(command_line())
    return shlex.join(argument for argument in given if argument not in _NEW)
