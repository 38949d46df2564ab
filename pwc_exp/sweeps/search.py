"""A sweep whose next values depend on what the runs before have reached: Optuna proposes them."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pwc_exp.config.fields import check, nearest
from pwc_exp.config.sweeps import Direction, OptunaConfig
from pwc_exp.config.training import OWN, TrainConfig
from pwc_exp.errors import UserError
from pwc_exp.report.sweep_summary import SweepSummary
from pwc_exp.stopping import log
from pwc_exp.sweeps.children import Child, make_child
from pwc_exp.sweeps.conduct import Conductor, conducted
from pwc_exp.sweeps.objective import Objective
from pwc_exp.sweeps.outcome import FAILED, FINISHED, PRUNED, WHY_PRUNED, Outcome
from pwc_exp.sweeps.setting import Setting, definition
from pwc_exp.sweeps.watching import watching
from pwc_exp.tuning import check_search, open_search
from pwc_exp.tuning.space import Choices, Space, parse
from pwc_exp.tuning.watch import Watch, measure

if TYPE_CHECKING:
    from pwc_exp.tuning.study import Proposal, Search


def sweep(config: OptunaConfig, setting: Setting, arguments: Sequence[str]) -> None:
    """Runs `config.trials` children, each with values that Optuna proposes.

    Raises:
        UserError: an argument is refused, or no child finished.
    """
    space = parse(config.params, arguments)
    overrides = setting.parse(config.params, arguments)
    folder = setting.folder(definition(overrides), config.continued)
    base = setting.compose(space.overrides(_ends(space)), folder.path / "0")
    check_search(space, config, steps=base.steps)
    _check_objectives(config, base)
    objectives = [Objective(k, d == Direction.minimize) for k, d in config.directions.items()]
    with conducted(folder, base, objectives[0]) as conductor:
        launcher = setting.launcher(folder, conductor.signals, at_once=config.at_once)
        search = open_search(
            folder.path,
            conductor.name,
            space,
            config,
            jobs=launcher.at_once or 1,
            steps=base.steps,
        )
        trials = _Trials(search, conductor, setting, config.trials)
        trials.settle()
        with watching(trials.look):
            conductor.run(
                trials.children(),
                launcher.launch,
                before=search.finished,
                total=config.trials,
                on_end=trials.end,
            )
        conductor.close(_summary(conductor, search, objectives))
        conductor.require_any()


def _check_objectives(config: OptunaConfig, base: TrainConfig) -> None:
    """Refuses metrics of validation sets that the runs do not have."""
    known = base.validation_metrics()
    for key in config.objectives:
        metric = key.removesuffix("_lower").removesuffix("_upper")  # ends of an interval
        holds = not key.startswith(f"{OWN}/") or metric in known
        requirement = f"must be of those that are validated on, {', '.join(known)}"
        check(holds, "sweep.objectives", f"{requirement}{nearest(key, known)}", key)


def _ends(space: Space) -> dict[str, str]:
    """The first values of the space, to try its keys out."""
    return {
        key: part.values[0] if isinstance(part, Choices) else part.text(part.low)
        for key, part in space.parts.items()
    }


class _Trials:
    """The trials of a search as children of a sweep. Used by two threads, one at a time."""

    def __init__(
        self, search: "Search", conductor: Conductor, setting: Setting, count: int
    ) -> None:
        self._search = search
        self._conductor = conductor
        self._setting = setting
        self._count = count
        self._begun: list[Child] = []
        self._watches: dict[int, tuple[Child, Watch]] = {}
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Takes on what a dead process has left: children that have ended, and others."""
        for proposal in self._search.running():
            child = self._take_on(proposal)
            outcome = self._conductor.outcomes[proposal.number]
            if child and outcome.status in (FINISHED, PRUNED):
                log(f"{child.name}   {outcome.status} meanwhile")
                self.end(child, outcome)
            elif child:
                self._begun.append(child)

    def children(self) -> Iterator[Child]:
        """Those that have begun, then new ones, until there are enough."""
        yield from self._begun
        while True:
            with self._lock:
                going = len(self._search.running())
                enough = self._search.finished + going >= self._count
                proposal_or_none = None if enough else self._search.ask()
            if proposal_or_none is None:
                return
            if child := self._take_on(proposal_or_none):
                yield child

    def end(self, child: Child, outcome: Outcome) -> None:
        """Tells the search what a child has reached."""
        self._look_at(child)
        with self._lock:
            self._watches.pop(child.number, None)
            if outcome.status == FINISHED:
                run_dir = self._conductor.sweep.run_dir(child)
                try:
                    reached = measure(run_dir, self._search.objectives)
                except UserError as error:
                    log(f"{child.name}   {error}")
                    self._search.fail(child.number)
                else:
                    self._search.tell(child.number, reached)
            elif outcome.status == PRUNED:
                self._search.prune(child.number)
            elif outcome.status == FAILED:
                self._search.fail(child.number)
            # Else it was stopped, and goes on when the sweep does.

    def look(self) -> None:
        """Reads what the running children have reached, and asks bad ones to stop."""
        for child, _ in list(self._watches.values()):
            self._look_at(child)

    def _look_at(self, child: Child) -> None:
        with self._lock:
            if child.number not in self._watches:
                return
            for step, value in self._watches[child.number][1].look():
                if self._search.report(child.number, step, value):
                    reason = f"{WHY_PRUNED} after step {step:,}, at {value:.4g}"
                    self._conductor.sweep.ask_to_stop(child, reason)

    def _take_on(self, proposal: "Proposal") -> Child | None:
        """The child that tries a proposal; None if its values are refused: the trial has failed."""
        space = self._search.space
        child = make_child(proposal.number, proposal.values, space.fixed)
        run_dir = self._conductor.sweep.run_dir(child)
        try:
            config: TrainConfig = self._setting.compose(child.overrides, run_dir)
        except UserError as error:
            self._conductor.refuse(child, error)
            with self._lock:
                self._search.fail(child.number)
            return None
        self._conductor.add(child, config)
        self._watches[child.number] = (child, Watch(run_dir, self._search.objectives[0]))
        return child


def _summary(
    conductor: Conductor, search: "Search", objectives: Sequence[Objective]
) -> SweepSummary:
    from pwc_exp.tuning.plots import draw  # imports matplotlib

    pictures = draw(search)
    notes = [f"{name}: not drawn, {reason}" for name, reason in pictures.absent.items()]
    summary = conductor.summary(notes=notes, pictures=pictures.made)
    if len(objectives) == 1:
        return summary
    finished = {n: o for n, o in conductor.outcomes.items() if o.status == FINISHED}
    values = {each.label: {n: each.value(o) for n, o in finished.items()} for each in objectives}
    front = [result.number for result in search.front()]
    return replace(summary, fronts=front, objectives=values)
