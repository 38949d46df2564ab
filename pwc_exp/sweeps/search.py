"""A sweep of which Optuna proposes the values: hydra/sweeper=optuna."""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from optuna.trial import TrialState

from pwc_exp.config.composition import changes
from pwc_exp.config.fields import check, nearest
from pwc_exp.config.schema import CONFIG_FILE
from pwc_exp.config.sweeps import Direction, OptunaConfig
from pwc_exp.config.training import OWN, TrainConfig
from pwc_exp.errors import ConfigError, DataError, ResumeError, UserError
from pwc_exp.stopping import log
from pwc_exp.sweeps.context import SweepContext, refuse_changes
from pwc_exp.sweeps.folder import Child, make_child
from pwc_exp.sweeps.launchers import polling
from pwc_exp.sweeps.results import Objective, Outcome, Status, pruning_reason
from pwc_exp.sweeps.runner import SweepRunner, open_runner
from pwc_exp.sweeps.study import Search, distribution, draw, first_values
from pwc_exp.tracking.journal import Point, Reader, point_reader

# Others were stopped: they continue when the sweep does.
_ENDS = {
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}


def sweep(config: OptunaConfig, context: SweepContext) -> None:
    """Runs `config.trials` children, each with values that Optuna proposes.

    Raises:
        UserError: an argument is refused, or no child finished.
    """
    overrides = context.parse(config.params)
    keys = {o.get_key_element(): o for o in overrides if o.is_sweep_override()}
    if not keys:
        raise ConfigError("sweep.params: must name a key and what it may be, such as model=tiny,sm")
    space = {key: distribution(key, override) for key, override in keys.items()}
    fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
    folder = context.open_folder(overrides, may_grow=False)
    sample = make_child(-1, first_values(space), fixed)
    base = context.compose(sample, folder)
    _check_config(config, base)
    for child in folder.children:
        if (folder.run_dir(child) / CONFIG_FILE).is_file():
            context.compose(child, folder)  # refuses values that have changed
    objectives = [Objective(k, d == Direction.minimize) for k, d in config.directions.items()]
    with open_runner(folder, base, objectives[0]) as runner:
        launcher = context.make_launcher(folder, runner.signals, at_once=config.at_once)
        jobs = launcher.at_once or 1
        search = Search(folder.path, runner.name, space, config, jobs=jobs, steps=base.steps)
        trials = _Trials(search, runner, context, objectives, sample)
        trials.restore()
        with polling(trials.report_all):
            runner.run(
                trials.children(config.trials),
                launcher,
                done=search.finished,
                total=config.trials,
                on_end=trials.end,
            )
        pictures, notes = draw(search)
        summary = runner.summary(notes=notes, pictures=pictures)
        if len(objectives) > 1:
            finished = {n: o for n, o in runner.outcomes.items() if o.status == Status.FINISHED}
            values = {
                one.label: {n: one.value(o) for n, o in finished.items()} for one in objectives
            }
            summary = replace(summary, fronts=search.front(), objectives=values)
        runner.close(summary)
        runner.finish(all_needed=False)


def _check_config(config: OptunaConfig, base: TrainConfig) -> None:
    """Refuses objectives that the runs do not measure, and a pruner that would start too late."""
    known = base.validation_metrics()
    for key in config.objectives:
        metric = key.removesuffix("_lower").removesuffix("_upper")  # ends of an interval
        holds = not key.startswith(f"{OWN}/") or metric in known
        requirement = f"must be of those that are validated on, {', '.join(known)}"
        check(holds, "sweep.objectives", f"{requirement}{nearest(key, known)}", key)
    holds = (config.min_resource or 1) <= base.steps
    requirement = f"must be at most the {base.steps} steps"
    check(holds, "sweep.min_resource", requirement, config.min_resource)


@dataclass
class _Trials:
    """The trials of a search as children of a sweep. Used by two threads, one at a time.

    sample: a child with the first values of the space, by which an edited preset is noticed.
    """

    search: Search
    runner: SweepRunner
    context: SweepContext
    objectives: Sequence[Objective]
    sample: Child
    tails: dict[int, tuple[Child, Reader[Point]]] = field(default_factory=dict)
    interrupted: list[Child] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def restore(self) -> None:
        """Takes over the running trials of a process that has ended: finished ones, and others."""
        for number, values in self.search.running():
            child = self._add(number, values)
            outcome = self.runner.outcomes[number]
            if child and outcome.status in (Status.FINISHED, Status.PRUNED):
                log(f"{child.name}   {outcome.status} meanwhile")
                self.end(child, outcome)
            elif child:
                self.interrupted.append(child)

    def children(self, count: int) -> Iterator[Child]:
        """The interrupted ones, then new ones, until there are `count` trials."""
        yield from self.interrupted
        while len(self.search.trials) < count:
            with self.lock:
                child = self._add(*self.search.ask())
            if child:
                yield child

    def end(self, child: Child, outcome: Outcome) -> None:
        """Records the result of a child."""
        with self.lock:
            self._report(child)
            del self.tails[child.number]
            values = {objective.key: objective.value(outcome) for objective in self.objectives}
            missing = [key for key, value in values.items() if math.isnan(value)]
            if outcome.status == Status.FINISHED and missing:
                known = ", ".join(sorted(outcome.values)) or "nothing"
                log(f"{child.name}   must have {', '.join(missing)}. Received: {known}")
            if state := _ENDS.get(outcome.status):
                self.search.end(child.number, state, list(values.values()))

    def report_all(self) -> None:
        """Records new values of the running children, and asks bad ones to stop."""
        with self.lock:
            for child, _ in list(self.tails.values()):
                self._report(child)

    def _report(self, child: Child) -> None:
        key = self.objectives[0].key
        with suppress(DataError):  # of a damaged file; the result of the child says so
            for point in self.tails[child.number][1].read():
                value = point.values.get(key)
                if value is not None and self.search.report(child.number, point.step, value):
                    reason = pruning_reason(point.step, value)
                    self.runner.sweep.ask_to_stop(child, reason)

    def _add(self, number: int, values: dict[str, str]) -> Child | None:
        """The child of a trial; None if its values are refused: then the trial has failed."""
        sweep, compose = self.runner.sweep, self.context.compose
        edited = changes(self.runner.config, compose(self.sample, sweep))
        refuse_changes("values", sweep, edited)
        fixed = self.sample.overrides[: -len(self.sample.values)]
        child = make_child(number, values, fixed)
        try:
            config = compose(child, sweep)
        except ResumeError:
            raise
        except UserError as error:
            self.runner.add_refused(child, error)
            self.search.end(child.number, TrialState.FAIL)
            return None
        self.runner.add([(child, config)])
        self.tails[child.number] = (child, point_reader(sweep.run_dir(child)))
        return child
