"""Resuming a run: which run is meant, and which of its settings may change."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pwc_exp.config.composition import check, compose_command
from pwc_exp.config.schema import CHOICES, CONFIG_FILE, flatten, load, variants
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, MissingInputError, ResumeError

AUTO = "auto"
# Validation; these values must be consistent with each other.
VALIDATION = ("validation", "validation_root", "val_split", "best_metric")
# Settings that change no weight of the run, and paths. All others define the run.
FREE = frozenset(
    {
        *("steps", "resume", "outputs"),
        *("log_every", "eval_every", "save_every", "keep_best", "val_batch_size"),
        *VALIDATION,
        *("picture_samples", "xla", "on_nonfinite", "nonfinite_limit", "on_stuck"),
        *("data.root", "data.workers", "data.cache", "data.on_bad"),
    }
)
FREE_GROUPS = ("tracking.", "devices.")


class Resumption(NamedTuple):
    """A run to resume."""

    config: TrainConfig
    run_dir: Path


def resume(overrides: Sequence[str]) -> Resumption | None:
    """The run that the arguments of `train` resume; None: a new run.

    Raises:
        MissingInputError: there is no such run.
        ResumeError: the arguments change settings that define the run.
    """
    given = [text for text in overrides if text.lstrip("+").startswith("resume=")]
    which = compose_command("train", given).values.resume if given else None
    if which is None:
        return None
    if which == AUTO:
        values, run_dir = compose_command("train", overrides)
        config = cast(TrainConfig, check(values, "train"))
        if any(text.startswith("hydra.run.dir=") for text in overrides):
            return _in_folder(run_dir.absolute(), config)
        return _newest_alike(config)
    run_dir = Path(which).absolute()
    if not (run_dir / CONFIG_FILE).is_file():
        raise MissingInputError(f"resume: not a run, {CONFIG_FILE} is missing: {which}")
    saved = load(run_dir / CONFIG_FILE)
    config = _with_overrides(saved, overrides)
    _refuse(run_dir, identity_changes(saved, config))
    return Resumption(config, run_dir)


def changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings: {key: (then, now)}."""
    then, now = flatten(saved), flatten(config)
    return {
        key: (then.get(key), now.get(key))
        for key in {**then, **now}
        if then.get(key) != now.get(key) and key != "resume" and not key.startswith(CHOICES)
    }


def identity_changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings that define a run."""
    return {key: pair for key, pair in changes(saved, config).items() if not _is_free(key)}


def free_changes(saved: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Changed settings that may change."""
    return {key: pair for key, pair in changes(saved, config).items() if _is_free(key)}


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """`changed` as text, `key then -> now` each."""
    return ", ".join(f"{key} {then} -> {now}" for key, (then, now) in changed.items())


def _refuse(run_dir: Path, changed: Mapping[str, tuple[Any, Any]]) -> None:
    if changed:
        raise ResumeError(
            f"resume: {run_dir} must keep the values that it started with. Received: "
            f"{in_words(changed)}. A new run can start from its weights: init_from={run_dir}"
        )


def _in_folder(run_dir: Path, config: TrainConfig) -> Resumption | None:
    """The run of `hydra.run.dir`, if there is one: a child of a sweep is started like this.

    Only tracking and devices may differ: other children of the sweep have the same steps.
    """
    file = run_dir / CONFIG_FILE
    if not file.is_file():
        return None
    saved = load(file)
    changed = changes(saved, config).items()
    _refuse(run_dir, {key: pair for key, pair in changed if not key.startswith(FREE_GROUPS)})
    return Resumption(dataclasses.replace(config, resume=str(run_dir)), run_dir)


def _newest_alike(config: TrainConfig) -> Resumption | None:
    """The newest run of this name with the same values."""
    folders = sorted(Path(config.outputs, config.name).absolute().glob(f"*/{CONFIG_FILE}"))
    for path in reversed(folders):
        try:
            saved = load(path)
        except ValueError:  # of a version with other settings
            continue
        if not identity_changes(saved, config):
            found = dataclasses.replace(config, resume=str(path.parent))
            return Resumption(found, path.parent)
    return None


def _with_overrides(saved: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """`saved`, updated by the keys and groups in `overrides`."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    named = [override.key_or_group for override in parsed]
    if "experiment" in named:
        raise ConfigError("experiment: cannot be combined with resume; the run has its values")
    unnamed = [f"{key}={choice}" for key, choice in variants(saved).items() if key not in named]
    composed = _complete(saved, [*unnamed, *overrides])
    for key in VALIDATION:
        if key not in named:
            composed[key] = getattr(saved, key)
    given = OmegaConf.structured(check(composed, "train"))
    values = OmegaConf.structured(saved)
    for key in named:
        if "." in key:
            OmegaConf.update(values, key, OmegaConf.select(given, key))
        else:
            values[key] = given[key]
    return cast(TrainConfig, OmegaConf.to_object(values))


def _complete(saved: TrainConfig, overrides: Sequence[str]) -> DictConfig:
    """The composition of `overrides`; required values that are missing are taken from `saved`."""
    values = compose_command("train", overrides).values
    before = flatten(saved)
    needed = OmegaConf.missing_keys(values)
    if "root" in values.data and values.data.root is None:  # which a data set on disk refuses
        needed.add("data.root")
    for key in needed:
        if key in before:
            OmegaConf.update(values, key, before[key])
    return values


def _is_free(key: str) -> bool:
    return key in FREE or key.startswith(FREE_GROUPS)
