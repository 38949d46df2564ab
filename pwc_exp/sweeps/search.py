"""A sweep of which Optuna proposes the values: hydra/sweeper=optuna.

The study in the sweep's folder is the only memory of a search: a search that was killed opens it
again and continues.
"""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from pwc_exp import storage
from pwc_exp.config.composition import changes
from pwc_exp.config.fields import check, nearest
from pwc_exp.config.schema import CONFIG_FILE
from pwc_exp.config.sweeps import OptunaConfig, Pruner, Sampler
from pwc_exp.config.training import OWN, TrainConfig
from pwc_exp.errors import ConfigError, DataError, ResumeError, UserError
from pwc_exp.stopping import log
from pwc_exp.sweeps.folder import PRUNED, Child, Objective, Outcome, Status, make_child
from pwc_exp.sweeps.runner import SweepRunner, open_runner
from pwc_exp.sweeps.space import Distribution, distribution, first_value, value_text
from pwc_exp.sweeps.sweeper import SweepContext, refuse_changes
from pwc_exp.tracking.journal import Point, Reader, point_reader

JOURNAL = "optuna.journal"  # in a sweep's folder
_MIN_TRIALS = 4  # complete ones, for importances
# Others were stopped: they continue when the sweep does.
_ENDS = {
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}

# Of interfaces that may change; Optuna's version is pinned.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def sweep_search(config: OptunaConfig, context: SweepContext) -> None:
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
    sample = make_child(-1, {key: first_value(each) for key, each in space.items()}, fixed)
    base = context.compose(sample, folder)
    _check_config(config, base)
    for child in folder.children:
        if (folder.run_dir(child) / CONFIG_FILE).is_file():
            context.compose(child, folder)  # refuses values that have changed
    objectives = [Objective(key, key in config.maximize) for key in config.objectives]
    with open_runner(folder, base, objectives) as runner:
        launcher = context.make_launcher(folder, runner.signals, at_once=config.at_once)
        study = open_study(
            folder.path, runner.name, config, jobs=launcher.at_once or 1, steps=base.steps
        )
        trials = _Trials(study, space, runner, context, fixed, sample)
        trials.restore()
        runner.run(
            trials.children(config.trials),
            launcher,
            done=sum(trial.state.is_finished() for trial in study.trials),
            total=config.trials,
            on_end=trials.end,
            poll=trials.report,
        )
        pictures, notes = draw(study, config.objectives)
        front = best_trials(study) if len(objectives) > 1 else []
        runner.close(notes=notes, pictures=pictures, front=front)
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
    """The trials of a search as children of a sweep.

    fixed: the arguments that all children share.
    sample: a child with the first values of the space, by which an edited preset is noticed.
    running: the children that may run, and what reads the values that they log.
    """

    study: Study
    space: Mapping[str, Distribution]
    runner: SweepRunner
    context: SweepContext
    fixed: Sequence[str]
    sample: Child
    running: dict[int, tuple[Child, Reader[Point]]] = field(default_factory=dict)

    def restore(self) -> None:
        """Takes over the running trials of a process that has ended; some may have finished."""
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            if len(trial.params) < len(self.space):  # killed before it had all its values
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif child := self._add(trial):
                outcome = self.runner.outcomes[child.number]
                if outcome.status in (Status.FINISHED, Status.PRUNED):
                    log(f"{child.name}   {outcome.status} meanwhile")
                    self.end(child, outcome)

    def children(self, count: int) -> Iterator[Child]:
        """The interrupted ones, then new ones, until there are `count` trials."""
        yield from [child for child, _ in self.running.values()]
        while len(self.study.trials) < count:
            if child := self._add(self.study.ask(dict(self.space))):
                yield child

    def end(self, child: Child, outcome: Outcome) -> None:
        """Records the result of a child."""
        self._report(child.number)
        del self.running[child.number]
        values = {each.key: each.value(outcome) for each in self.runner.objectives}
        missing = [key for key, value in values.items() if math.isnan(value)]
        if outcome.status == Status.FINISHED and missing:
            known = ", ".join(sorted(outcome.values)) or "nothing"
            log(f"{child.name}   must have {', '.join(missing)}. Received: {known}")
        if state := _ENDS.get(outcome.status):
            end(self.study, child.number, state, list(values.values()))

    def report(self) -> None:
        """Records new values of the running children, and asks bad ones to stop."""
        for number in self.running:
            self._report(number)

    def _report(self, number: int) -> None:
        child, reader = self.running[number]
        key = self.runner.objectives[0].key
        with suppress(DataError):  # of a damaged file; the result of the child says so
            for point in reader.read():
                value = point.values.get(key)
                if value is not None and report(self.study, number, point.step, value):
                    reason = f"{PRUNED} after step {point.step:,}, at {value:.4g}"
                    self.runner.sweep.ask_to_stop(child, reason)

    def _add(self, trial: Trial | FrozenTrial) -> Child | None:
        """The child of a trial; None if its values are refused: then the trial has failed."""
        sweep, compose = self.runner.sweep, self.context.compose
        edited = changes(self.runner.config, compose(self.sample, sweep))
        refuse_changes("values", sweep, edited)
        values = {key: value_text(each, trial.params[key]) for key, each in self.space.items()}
        child = make_child(trial.number, values, self.fixed)
        try:
            config = compose(child, sweep)
        except ResumeError:
            raise
        except UserError as error:
            self.runner.add_refused(child, error)
            self.study.tell(child.number, state=TrialState.FAIL)
            return None
        self.runner.add([(child, config)])
        self.running[child.number] = (child, point_reader(sweep.run_dir(child)))
        return child


def open_study(folder: Path, name: str, config: OptunaConfig, *, jobs: int, steps: int) -> Study:
    """Opens or creates the study of the sweep `name` in `folder`.

    Args:
        jobs: trials that run at a time.
        steps: of a trial that is not stopped early.

    Raises:
        ConfigError: the storage cannot be opened.
        ResumeError: the study has other objectives.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sides = [
        StudyDirection.MAXIMIZE if key in config.maximize else StudyDirection.MINIMIZE
        for key in config.objectives
    ]
    study = optuna.create_study(
        storage=_open_storage(config.storage or folder / JOURNAL),
        study_name=name,
        directions=sides,
        pruner=_make_pruner(config, steps=steps),
        load_if_exists=True,
    )
    if study.directions != sides:
        then = ", ".join(direction.name.lower() for direction in study.directions)
        raise ResumeError(
            f"{name}: the search must continue with its objectives, which are to {then}. "
            f"Received: {', '.join(config.objectives)}"
        )
    study.sampler = _make_sampler(config, tried=len(study.trials), jobs=jobs)
    return study


def report(study: Study, number: int, step: int, value: float) -> bool:
    """Records the first objective of a running trial; returns whether to stop the trial early.

    A step is recorded once. Step 0, before any training, is not. With several objectives nothing
    is recorded, and no trial is stopped.
    """
    if len(study.directions) > 1 or step < 1:
        return False
    frozen = study.get_trials(deepcopy=False)[number]
    trial = Trial(study, frozen._trial_id)
    if step not in frozen.intermediate_values:
        trial.report(value, step)
    return bool(trial.should_prune())


def end(study: Study, number: int, state: TrialState, values: Sequence[float] = ()) -> None:
    """Ends a running trial; a COMPLETE one needs finite `values` of its objectives, or it fails.

    The sampler learns nothing from failed trials.
    """
    if state == TrialState.COMPLETE and not all(map(math.isfinite, values)):
        state = TrialState.FAIL
    study.tell(number, list(values) if state == TrialState.COMPLETE else None, state)


def best_trials(study: Study) -> list[int]:
    """Numbers of the trials that no other one beats in all objectives, by the first of these."""
    maximized = study.directions[0] == StudyDirection.MAXIMIZE
    trials = sorted(study.best_trials, key=lambda trial: trial.values[0], reverse=maximized)
    return [trial.number for trial in trials]


def _open_storage(place: Path | str) -> BaseStorage:
    """The journal at a path, which only this process writes; or the storage of a URL.

    Raises:
        ConfigError: the URL cannot be opened.
    """
    if isinstance(place, Path):
        # Left by a process that was killed; the sweep's own lock says that no other one writes.
        place.with_name(f"{place.name}.lock").unlink(missing_ok=True)
        if place.exists() and not (content := place.read_bytes()).endswith(b"\n"):
            storage.truncate(place, content.rfind(b"\n") + 1)  # a full disk, or the power failed
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


def draw(study: Study, keys: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """Optuna's pictures of a search as PNG, by name; and notes on those that are missing.

    `history`, `values` and `importance` of each objective of `keys`, `curves` of reported values,
    `front` of two objectives.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    complete = study.get_trials(states=[TrialState.COMPLETE])
    if not complete:
        return {}, ["pictures: not drawn, no trial is complete"]
    axes: dict[str, Any] = {}
    notes: list[str] = []
    with matplotlib.rc_context(), warnings.catch_warnings():  # the plots change the style
        warnings.simplefilter("ignore", UserWarning)  # of axes with one value only
        for place, key in enumerate(keys):
            suffix, options = "", dict[str, Any](target_name=key)
            if len(keys) > 1:
                suffix = f" {key.replace('/', '_')}"
                options["target"] = lambda trial, place=place: trial.values[place]
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
        if any(trial.intermediate_values for trial in study.trials):
            axes["curves"] = plots.plot_intermediate_values(study)
        if len(keys) == 2:
            axes["front"] = plots.plot_pareto_front(study, target_names=list(keys))
        pictures = {name: _png(np.ravel(each)[0].figure) for name, each in axes.items()}
        pyplot.close("all")
    return pictures, notes


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()
