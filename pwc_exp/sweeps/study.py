"""The search space, in the grammar of Hydra's sweeps, and the Optuna study that searches it.

    schedule.peak=tag(log, interval(1e-4, 1e-2))    model=tiny,sm    batch_size=range(2, 17, step=2)

An interval has real numbers, `int(interval(1, 8))` integers, both ends included. A range excludes
its stop, as in Hydra's grids (hydra-optuna-sweeper 1.3 includes it). Values come back as text that
Hydra reads as the same value: https://hydra.cc/docs/1.3/advanced/override_grammar/extended
"""

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.core.override_parser import types as grammar
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pwc_exp import storage
from pwc_exp.config.fields import check
from pwc_exp.config.sweeps import OptunaConfig, Pruner, Sampler
from pwc_exp.errors import ConfigError, ResumeError

JOURNAL = "optuna.journal"  # in a sweep's folder
_MIN_TRIALS = 4  # complete ones, for importances

Proposal = tuple[int, dict[str, str]]  # number of a trial, values by key in Hydra's grammar
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution

# Of interfaces that may change; Optuna's version is pinned.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def distribution(key: str, override: grammar.Override) -> Distribution:
    """The values among which a search chooses that of `key`.

    Raises:
        ConfigError: they cannot be searched.
    """
    sweep, received = override.value(), override.get_value_string()
    check(not override.is_hydra_override(), key, "cannot be searched, it is Hydra's own", received)
    known = {"log"} if isinstance(sweep, grammar.IntervalSweep) else set()
    check(getattr(sweep, "tags", known) <= known, key, "has an unknown tag", received)
    match sweep:
        case grammar.IntervalSweep(start=float() | int() as low, end=float() | int() as high):
            log = "log" in sweep.tags
            finite = math.isfinite(low) and math.isfinite(high)
            check(finite and low < high, key, "must be an interval from low to high", received)
            check(low > 0 or not log, key, "must be above 0, as a log interval", received)
            if isinstance(low, int):
                return IntDistribution(low, int(high), log=log)
            return FloatDistribution(low, high, log=log)
        case grammar.RangeSweep(start=float() | int() as low, stop=float() | int() as stop):
            step = sweep.step
            holds = all(map(math.isfinite, (low, stop, step))) and low < stop and step > 0
            requirement = "must be a range that goes up by a positive step, not shuffled"
            check(holds and not sweep.shuffle, key, requirement, received)
            steps = math.ceil((_exact(stop) - _exact(low)) / _exact(step)) - 1
            last = _exact(low) + steps * _exact(step)
            if isinstance(low, int) and isinstance(step, int):
                return IntDistribution(low, int(last), step=step)
            return FloatDistribution(low, float(last), step=step)
        case grammar.ChoiceSweep(shuffle=False):
            choices = tuple(map(_choice_text, sweep.list))
            check(len(set(choices)) == len(choices), key, "must have different choices", received)
            return CategoricalDistribution(choices)
    requirement = "must be an interval, a range or choices, not shuffled and no pattern"
    raise ConfigError(f"{key} {requirement}. Received: {received}")


def value_text(each: Distribution, value: Any) -> str:
    """`value` in Hydra's grammar; of steps the decimal: 0.3, not 0.1 + 2 * 0.1."""
    match each:
        case FloatDistribution(low=low, step=float() as step):
            steps = round((value - low) / step)
            return repr(float(_exact(low) + steps * _exact(step)))
        case FloatDistribution():
            return repr(float(value))
        case IntDistribution():
            return str(round(value))
    return str(value)  # a choice is text of that grammar already


def first_values(space: Mapping[str, Distribution]) -> dict[str, str]:
    """The first value of each key, to try the keys out."""
    return {
        key: value_text(
            each, each.choices[0] if isinstance(each, CategoricalDistribution) else each.low
        )
        for key, each in space.items()
    }


def _choice_text(value: grammar.ParsedElementType) -> str:
    """As Hydra writes it; quoted, as choice('1') has lost its quotes, if it is no plain word."""
    if not isinstance(value, str):
        return grammar.Transformer.str(value)
    parse = OverridesParser.create().parse_override
    plain = re.fullmatch(r"[\w./+-]+", value) and parse(f"key={value}").value() == value
    return value if plain else grammar.QuotedString(value, grammar.Quote.single).with_quotes()


def _exact(number: float) -> Decimal:
    """The number that was written: 0.1, not the binary fraction next to it."""
    return Decimal(repr(number))


class Search:
    """A study: proposes trials, and records their results. For one thread at a time.

    The study's storage is its only memory: a search that was killed is opened again and continues.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Mapping[str, Distribution],
        config: OptunaConfig,
        *,
        jobs: int,
        steps: int,
    ) -> None:
        """Opens or creates the study of the sweep `name` in `folder`.

        Args:
            jobs: trials that run at a time.
            steps: of a trial that is not stopped early.

        Raises:
            ConfigError: the storage cannot be opened.
            ResumeError: the study has other objectives.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.objectives = list(config.directions)
        sides = list(config.directions.values())
        self.study = optuna.create_study(
            storage=_open_storage(config.storage or folder / JOURNAL),
            study_name=name,
            directions=[StudyDirection[side.upper()] for side in sides],
            pruner=_make_pruner(config, steps=steps),
            load_if_exists=True,
        )
        then = [direction.name.lower() for direction in self.study.directions]
        if then != sides:
            raise ResumeError(
                f"{name}: the search must continue with its objectives, which are to "
                f"{', '.join(then)}. Received: {', '.join(self.objectives)}"
            )
        self.study.sampler = _make_sampler(config, tried=len(self.trials), jobs=jobs)
        for trial in self.trials:
            if trial.state == TrialState.RUNNING and len(trial.params) < len(space):
                self.end(trial.number, TrialState.FAIL)  # killed before it had all its values

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    @property
    def finished(self) -> int:
        """How many trials have ended, in whatever way."""
        return sum(trial.state.is_finished() for trial in self.trials)

    def running(self) -> list[Proposal]:
        """Trials that have not ended, those of a process that was killed included."""
        return [self._proposal(t) for t in self.trials if t.state == TrialState.RUNNING]

    def ask(self) -> Proposal:
        """Proposes a trial."""
        return self._proposal(self.study.ask(dict(self.space)))

    def report(self, number: int, step: int, value: float) -> bool:
        """Records the first objective at `step`; returns whether to stop the trial early.

        A step is recorded once. Step 0, before any training, is not. With several objectives
        nothing is recorded, and no trial is stopped.
        """
        frozen = self.trials[number]
        if len(self.objectives) > 1 or step < 1 or frozen.state.is_finished():
            return False
        trial = Trial(self.study, frozen._trial_id)
        if step not in frozen.intermediate_values:
            trial.report(value, step)
        return bool(trial.should_prune())

    def end(self, number: int, state: TrialState, values: Sequence[float] = ()) -> None:
        """Ends a trial, of COMPLETE state with the values of its objectives, finite or it fails.

        Without effect on a trial that has ended. The sampler learns nothing from failed trials.
        """
        if state == TrialState.COMPLETE and not all(map(math.isfinite, values)):
            state = TrialState.FAIL
        reached = list(values) if state == TrialState.COMPLETE else None
        self.study.tell(number, reached, state, skip_if_finished=True)

    def front(self) -> list[int]:
        """Numbers of the best trials, which no other one beats in all objectives."""
        trials = self.study.best_trials
        maximized = self.study.directions[0] == StudyDirection.MAXIMIZE
        trials.sort(key=lambda trial: trial.values[0], reverse=maximized)
        return [trial.number for trial in trials]

    def _proposal(self, trial: Trial | FrozenTrial) -> Proposal:
        values = {key: value_text(each, trial.params[key]) for key, each in self.space.items()}
        return trial.number, values


def _open_storage(place: Path | str) -> BaseStorage:
    """The journal at a path, which only this process writes; or the storage of a URL.

    Raises:
        ConfigError: the URL cannot be opened.
    """
    if isinstance(place, Path):
        # Left by a process that was killed; the sweep's own lock says that no other one writes.
        place.with_name(f"{place.name}.lock").unlink(missing_ok=True)
        if place.exists() and not (content := place.read_bytes()).endswith(b"\n"):
            storage.truncate(place, content.rfind(b"\n") + 1)  # cut off with the power
        lock = JournalFileOpenLock(str(place))
        return JournalStorage(JournalFileBackend(str(place), lock_obj=lock))
    try:
        return get_storage(place)
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, ValueError) as error:
        kind = place.partition("://")[0]  # the rest may contain a password
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        raise ConfigError(f"sweep.storage: cannot be opened, {reason}. Received: {kind}") from error


def _make_sampler(config: OptunaConfig, *, tried: int, jobs: int) -> BaseSampler:
    """tried: trials so far; the seed changes with it, so that a search repeats no random draws."""
    seed = None if config.seed is None else config.seed + tried
    match config.sampler:
        case Sampler.random:
            return RandomSampler(seed=seed)
        case Sampler.tpe:  # constant_liar: running trials count as bad, so that new ones differ
            first = config.startup_trials
            return TPESampler(
                n_startup_trials=first, multivariate=True, constant_liar=jobs > 1, seed=seed
            )


def _make_pruner(config: OptunaConfig, *, steps: int) -> BasePruner:
    factor = config.reduction_factor
    match config.pruner:
        case Pruner.none:
            return NopPruner()
        case Pruner.median:
            return MedianPruner(config.startup_trials, config.warmup_steps)
        case Pruner.hyperband:
            first = config.min_resource or max(1, steps // factor**2)  # three brackets
            return HyperbandPruner(first, steps, factor)


def draw(search: Search) -> tuple[dict[str, bytes], list[str]]:
    """Optuna's pictures of a search as PNG, by name; and notes on those that are missing.

    `history`, `values` and `importance` of each objective, `curves` of reported values, `front` of
    two objectives.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    study, keys = search.study, search.objectives
    complete = [trial for trial in search.trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return {}, ["pictures: not drawn, no trial is complete"]
    axes: dict[str, Any] = {}
    notes: list[str] = []
    with matplotlib.rc_context(), warnings.catch_warnings():  # the plots change the style
        warnings.simplefilter("ignore", UserWarning)  # of axes with one value only
        for place, key in enumerate(keys):
            suffix = f" {key.replace('/', '_')}" if len(keys) > 1 else ""
            options: Any = {"target_name": key}
            if len(keys) > 1:
                options["target"] = lambda trial, place=place: float(trial.values[place])
            axes[f"history{suffix}"] = plots.plot_optimization_history(study, **options)
            axes[f"values{suffix}"] = plots.plot_slice(study, **options)
            try:
                if len(complete) < _MIN_TRIALS:
                    raise ValueError(f"needs {_MIN_TRIALS} complete trials, has {len(complete)}")
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                importances = plots.plot_param_importances(study, evaluator, **options)
                axes[f"importance{suffix}"] = importances
            except (RuntimeError, ValueError) as error:  # or the values are all the same
                notes.append(f"importance{suffix}: not drawn, {str(error).splitlines()[0]}")
        if any(trial.intermediate_values for trial in search.trials):
            axes["curves"] = plots.plot_intermediate_values(study)
        if len(keys) == 2:
            axes["front"] = plots.plot_pareto_front(study, target_names=keys)
        pictures = {name: _png(np.ravel(each)[0].figure) for name, each in axes.items()}
        pyplot.close("all")
    return pictures, notes


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()
