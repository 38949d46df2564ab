"""The search for good values of knobs: what is asked for, tried, stopped early and drawn.

space.py     which values a search may take, from Hydra's grammar of sweeps
methods.py   how values are proposed, and which trials are stopped early
storage.py   where a study is kept, so that a killed process loses nothing
study.py     what has been tried and what to try next
watch.py     what a run has reached, from its metrics.jsonl while it is written
plots.py     pictures of a study

Nothing here knows how a run is started, or that there is an MLflow. `storage`, `study` and `plots`
import Optuna, the extra `tune`; the others do not, so that a refusal costs no import.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pwc_exp.config.sweeps import OptunaConfig, Sampler
from pwc_exp.machine import needed
from pwc_exp.tuning.methods import check_methods
from pwc_exp.tuning.space import Space

if TYPE_CHECKING:
    from pwc_exp.tuning.study import Search

JOURNAL = "optuna.journal"  # in a sweep's folder


def check_search(space: Space, config: OptunaConfig, *, steps: int) -> None:
    """Refuses a search before anything is made.

    Raises:
        ConfigError: the space cannot be searched so.
        MissingExtraError: Optuna is not installed.
    """
    check_methods(config, space, steps=steps)
    for package in ["optuna", *(["cmaes"] if config.sampler == Sampler.cmaes else [])]:
        needed(package, "tune")


def open_search(
    folder: Path, name: str, space: Space, config: OptunaConfig, *, jobs: int, steps: int
) -> "Search":
    """Opens the search of the sweep `name` in `folder`, or begins it; see `study.Search`.

    Raises:
        ConfigError: the space cannot be searched so, or the storage not be opened.
        MissingExtraError: Optuna is not installed.
        ResumeError: the search that is there is of another space or other objectives.
    """
    check_search(space, config, steps=steps)
    from pwc_exp.tuning.study import Search

    place = config.storage or folder / JOURNAL
    return Search(place, name, space, config, jobs=jobs, steps=steps)
