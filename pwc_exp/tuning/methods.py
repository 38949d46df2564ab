"""How values are proposed, and which trials are given up: Optuna's samplers and pruners."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pwc_exp.config.sweeps import OptunaConfig, Pruner, Sampler
from pwc_exp.errors import ConfigError
from pwc_exp.tuning.space import Choices, Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler


def check_methods(config: OptunaConfig, space: Space, *, steps: int) -> None:
    """Refuses a space that is empty, or that the sampler cannot search. Needs no Optuna.

    steps: of a trial that is not stopped early.

    Raises:
        ConfigError: it is.
    """
    if not space.parts:
        raise ConfigError("sweep.params: must name a key and what it may be, such as model=tiny,sm")
    if (config.min_resource or 1) > steps:
        raise ConfigError(
            f"sweep.min_resource must be at most the {steps} steps. Received: {config.min_resource}"
        )
    if config.sampler != Sampler.cmaes:
        return
    for key, part in space.parts.items():
        if isinstance(part, Choices):
            raise ConfigError(
                f"{key}: cmaes searches intervals and ranges only; sweep.sampler=tpe takes choices."
                f" Received: {', '.join(part.values)}"
            )
    if len(space.parts) < 2:
        raise ConfigError(
            "sweep.sampler: cmaes needs two keys to search; tpe takes one. "
            f"Received: {', '.join(space.parts)}"
        )


def make_sampler(config: OptunaConfig, *, tried: int, jobs: int) -> "BaseSampler":
    """The sampler of a study.

    Args:
        tried: trials that the study has; the seed is another with each number, so that a search
            that goes on does not draw again what it drew first.
        jobs: trials that run at once.
    """
    from optuna import samplers

    seed = None if config.seed is None else config.seed + tried
    with without_experimental_warnings():
        match config.sampler:
            case Sampler.tpe:
                return samplers.TPESampler(
                    n_startup_trials=config.startup_trials,
                    multivariate=True,
                    # A running trial counts as a bad one, so that two at once are not alike.
                    constant_liar=jobs > 1,
                    seed=seed,
                )
            case Sampler.cmaes:
                return samplers.CmaEsSampler(
                    n_startup_trials=config.startup_trials,
                    warn_independent_sampling=False,
                    # As Optuna's page on the sampler says: with hyperband, not with median.
                    consider_pruned_trials=config.pruner == Pruner.hyperband,
                    seed=seed,
                )
            case Sampler.random:
                return samplers.RandomSampler(seed=seed)


def make_pruner(config: OptunaConfig, *, steps: int) -> "BasePruner":
    """The pruner of a study whose trials make `steps` steps."""
    from optuna import pruners

    with without_experimental_warnings():
        match config.pruner:
            case Pruner.none:
                return pruners.NopPruner()
            case Pruner.median:
                return pruners.MedianPruner(
                    n_startup_trials=config.startup_trials, n_warmup_steps=config.warmup_steps
                )
            case Pruner.hyperband:
                return pruners.HyperbandPruner(
                    min_resource=config.min_resource
                    or _three_brackets(steps, config.reduction_factor),
                    max_resource=steps,
                    reduction_factor=config.reduction_factor,
                )


@contextmanager
def without_experimental_warnings() -> Iterator[None]:
    """Keeps back what Optuna says of interfaces that may change: its version is pinned."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _three_brackets(steps: int, factor: int) -> int:
    """A share of the steps: with a factor of 3, a ninth."""
    return max(1, steps // factor**2)
