"""What a search has tried, and what it tries next.

A trial is a run with values that were proposed. The study's storage is the only memory: a search
that was killed at any moment is opened again and goes on. Without Optuna this cannot be imported;
`open_search`, of the package, says so in one line.
"""

import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from pwc_exp.config.sweeps import OptunaConfig
from pwc_exp.errors import ResumeError
from pwc_exp.tuning.methods import make_pruner, make_sampler, without_experimental_warnings
from pwc_exp.tuning.space import Choices, Interval, Part, Space, Steps
from pwc_exp.tuning.storage import open_storage

_LOG = logging.getLogger(__name__)
_REPEATS = "repeats"  # of a trial that was not run: the number of the one with the same values
_ATTEMPTS = 10  # proposals in a row that may be known already
_COUNTED = 10_000  # a space with no more combinations is searched for one that was not tried

Values = dict[str, str]  # of each searched key, in Hydra's grammar


class Proposal(NamedTuple):
    """Values to try. Numbers rise with time, but not by 1: see `Search.ask`."""

    number: int
    values: Values


class Result(NamedTuple):
    """A trial that went to its end, and what it reached."""

    number: int
    values: Values
    objectives: dict[str, float]


class Search:
    """A study that is told what runs reached, and asked what to run next, by one thread.

    study: Optuna's, for plots.
    space, objectives: what is searched, and for what, in order.
    """

    def __init__(
        self,
        place: Path | str,
        name: str,
        space: Space,
        config: OptunaConfig,
        *,
        jobs: int,
        steps: int,
    ) -> None:
        """Opens the study `name`, or makes it.

        Args:
            place: path of a journal, or URL of a storage.
            jobs: trials that run at once.
            steps: steps of a trial that is not stopped early.

        Raises:
            ConfigError: the storage cannot be opened.
            ResumeError: the study is there, and of another space or other objectives.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.objectives = list(config.directions)
        self.study = optuna.create_study(
            storage=open_storage(place),
            study_name=name,
            directions=[StudyDirection[side.upper()] for side in config.directions.values()],
            pruner=make_pruner(config, steps=steps),
            load_if_exists=True,
        )
        trials = self._trials()
        _check_same(self.study, trials, config, space)
        self.study.sampler = make_sampler(config, tried=len(trials), jobs=jobs)
        self._random = random.Random(config.seed)
        self._tried: dict[tuple[str, ...], int] = {}
        self._running: dict[int, Trial] = {}
        for trial in trials:
            self._remember(trial)

    @property
    def finished(self) -> int:
        """How many trials have ended, in whatever way."""
        return sum(trial.state.is_finished() for trial in self.trials())

    def trials(self) -> list[FrozenTrial]:
        """The trials that were run or are running, by number; those that repeat one are not."""
        return [trial for trial in self._trials() if _was_run(trial)]

    def running(self) -> list[Proposal]:
        """What is being tried, or was when the process died: it is still to be told of."""
        return [Proposal(number, self._texts(trial)) for number, trial in self._running.items()]

    def ask(self) -> Proposal | None:
        """Proposes values that no trial has had; None if there are none left.

        A proposal that repeats a trial, as happens in small spaces, is closed as failed, marked
        with the number of that trial, and another is made: the same values would give the same
        result, bit for bit. Where the sampler only repeats itself, any combination is taken that
        was not tried.
        """
        for attempt in range(_ATTEMPTS + 1):
            if attempt == _ATTEMPTS and not self._enqueue_untried():
                break
            if len(self._tried) >= self.space.count:
                break
            proposal = self._start(self.study.ask())
            if proposal is not None:
                return proposal
        _LOG.warning("no other values found after %d different trials", len(self._tried))
        return None

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes what the first objective is at `step`; whether to stop the trial early.

        Told twice, a step counts once. Step 0 does not count: nothing has been learnt. With
        several objectives nothing is noted, and no trial is stopped.
        """
        if len(self.objectives) > 1 or step < 1 or number not in self._running:
            return False
        trial = self._running[number]
        if step not in self._trials()[number].intermediate_values:
            trial.report(value, step)
        return bool(trial.should_prune())

    def tell(self, number: int, objectives: Mapping[str, float]) -> None:
        """Ends a trial with what it reached; values that are not finite are a failure.

        A trial that has ended stays as it is, here and in the next two.
        """
        values = [objectives[key] for key in self.objectives]
        if all(map(math.isfinite, values)):
            self._end(number, TrialState.COMPLETE, values)
        else:
            self.fail(number)

    def fail(self, number: int) -> None:
        """Ends a trial that came to nothing. No sampler learns from its values."""
        self._end(number, TrialState.FAIL)

    def prune(self, number: int) -> None:
        """Ends a trial that was stopped early."""
        self._end(number, TrialState.PRUNED)

    def best(self) -> Result | None:
        """The best trial, by the first objective if there are several; None if none is complete."""
        return next(iter(self.front()), None)

    def front(self) -> list[Result]:
        """The trials that no other one beats in all objectives, the best in the first one first."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            return []
        single = len(self.objectives) == 1
        trials = [self.study.best_trial] if single else self.study.best_trials
        greatest_first = self.study.directions[0] == StudyDirection.MAXIMIZE
        trials.sort(key=lambda trial: trial.values[0], reverse=greatest_first)
        return [self._result(trial) for trial in trials]

    def _trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def _remember(self, trial: FrozenTrial) -> None:
        """Takes up a trial of a study that is opened again."""
        if trial.state == TrialState.RUNNING:
            self._start(Trial(self.study, trial._trial_id))
        elif trial.state.is_finished() and _was_run(trial):
            self._tried.setdefault(self._key(trial), trial.number)

    def _start(self, trial: Trial) -> Proposal | None:
        """Gives a trial its values, those that it lacks; None if another one has had them."""
        with without_experimental_warnings():
            for key, part in self.space.parts.items():
                _suggest(trial, key, part)
        earlier = self._tried.setdefault(self._key(trial), trial.number)
        if earlier != trial.number:
            trial.set_user_attr(_REPEATS, earlier)
            self.study.tell(trial.number, state=TrialState.FAIL)
            return None
        self._running[trial.number] = trial
        return Proposal(trial.number, self._texts(trial))

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self.study.tell(number, values, state, skip_if_finished=True)
        self._running.pop(number, None)

    def _enqueue_untried(self) -> bool:
        """Makes a combination that was not tried the next proposal, if one can be found."""
        if self.space.count > _COUNTED:
            return False
        left = [values for values in self.space.all() if tuple(values.values()) not in self._tried]
        if not left:
            return False
        values = self._random.choice(left)
        parts = self.space.parts
        self.study.enqueue_trial({key: parts[key].value(text) for key, text in values.items()})
        return True

    def _texts(self, trial: Trial | FrozenTrial) -> Values:
        return {key: part.text(trial.params[key]) for key, part in self.space.parts.items()}

    def _key(self, trial: Trial | FrozenTrial) -> tuple[str, ...]:
        return tuple(self._texts(trial).values())

    def _result(self, trial: FrozenTrial) -> Result:
        objectives = dict(zip(self.objectives, trial.values, strict=True))
        return Result(trial.number, self._texts(trial), objectives)


def _was_run(trial: FrozenTrial) -> bool:
    return _REPEATS not in trial.user_attrs


def _distribution(part: Part) -> BaseDistribution:
    match part:
        case Choices():
            return CategoricalDistribution(part.values)
        case Steps(integer=True):
            return IntDistribution(int(part.low), int(part.high), step=int(part.step))
        case Steps():
            return FloatDistribution(part.low, part.high, step=part.step)
        case Interval(integer=True):
            return IntDistribution(int(part.low), int(part.high), log=part.log)
        case Interval():
            return FloatDistribution(part.low, part.high, log=part.log)


def _suggest(trial: Trial, key: str, part: Part) -> None:
    match _distribution(part):
        case CategoricalDistribution(choices=choices):
            trial.suggest_categorical(key, choices)
        case IntDistribution() as whole:
            trial.suggest_int(key, whole.low, whole.high, step=whole.step, log=whole.log)
        case FloatDistribution() as real:
            trial.suggest_float(key, real.low, real.high, step=real.step, log=real.log)


def _check_same(
    study: optuna.Study, trials: list[FrozenTrial], config: OptunaConfig, space: Space
) -> None:
    """Refuses to go on with a study of something else."""
    directions = [direction.name.lower() for direction in study.directions]
    if directions != list(config.directions.values()):
        raise ResumeError(
            f"{study.study_name}: the search must go on with its objectives, which are to "
            f"{', '.join(directions)}. Received: {', '.join(config.objectives)}"
        )
    distributions = {key: _distribution(part) for key, part in space.parts.items()}
    for trial in trials:
        for key, distribution in trial.distributions.items():
            if distributions.get(key) != distribution:
                raise ResumeError(
                    f"{key}: the search must go on with its space, {distribution}. "
                    f"Received: {distributions.get(key, 'none')}"
                )
