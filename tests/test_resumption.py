"""Which run is gone on with, and which of its knobs may be other than they were."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp.config.composition import FREE, FREE_GROUPS, free_changes, resume
from pwc_exp.config.schema import CONFIG_FILE, flatten, to_yaml
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, MissingInputError, ResumeError

SAVED = ("model=sm", "schedule=cyclic", "augment=modern", "precision=fp16", "steps=40")
# For each key a value that is valid and not the saved one.
IDENTITY = {
    "model": "lg",
    "model.search_range": "3",
    "model.normalize_features": "true",
    "data.crop": "[64,128]",
    "data.layers": "3",
    "augment": "none",
    "augment.flip_up_down": "0.9",
    "loss": "robust",
    "loss.level_weights": "[1,1,1,1,1]",
    "optimizer": "adamw",
    "optimizer.l2": "0.5",
    "optimizer.clip_norm": "2.0",
    "optimizer.beta_1": "0.5",
    "schedule": "cosine",
    "schedule.peak": "1e-3",
    "schedule.half_cycle": "7",
    "precision": "bf16",
    "seed": "5",
    "batch_size": "4",
    "accumulate": "2",
    "ema_decay": "0.5",
    "eval_samples": "7",
    "xla_step": "true",
    "name": "other",
    "init_match": "overlap",
}
FREE_VALUES = {
    "steps": "80",
    "log_every": "7",
    "eval_every": "7",
    "save_every": "7",
    "keep_best": "1",
    "val_batch_size": "2",
    "picture_samples": "1",
    "xla": "false",
    "on_nonfinite": "skip",
    "nonfinite_limit": "3",
    "on_stuck": "reseed",
    "data.workers": "3",
    "tracking": "off",
    "tracking.experiment": "other",
    "devices.cpus": "2",
    "outputs": "elsewhere",
    "validation": "[{name:sintel,root:/sets/MPI-Sintel}]",
    "validation_root": "/sets",
    "best_metric": "val/fl_all",
}


@pytest.fixture
def saved(configure: Callable[..., Any], tmp_path: Path) -> Path:
    """The folder of a run."""
    return save(configure("train", *SAVED, f"outputs={tmp_path}"), tmp_path / "train/first")


def save(config: TrainConfig, folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(to_yaml(config))
    return folder


def test_without_the_argument_a_run_is_new(saved: Path) -> None:
    assert resume([]) is None
    assert resume(["model=sm", "resume=null"]) is None


def test_a_run_goes_on_as_it_was(saved: Path, configure: Callable[..., Any]) -> None:
    found = resume([f"resume={saved}"])
    assert found is not None
    assert found.run_dir == saved
    expected = flatten(configure("train", *SAVED, f"outputs={saved.parents[1]}"))
    assert flatten(found.config) == {**expected, "resume": str(saved)}


@pytest.mark.parametrize("key", IDENTITY)
def test_a_knob_that_decides_what_the_run_is_may_not_change(key: str, saved: Path) -> None:
    with pytest.raises(ResumeError, match=rf"{re.escape(key)}[^ ]* \S+.* -> ") as refused:
        resume([f"resume={saved}", f"{key}={IDENTITY[key]}"])
    assert refused.value.exit_code == 78
    assert "init_from" in str(refused.value)


@pytest.mark.parametrize("key", FREE_VALUES)
def test_a_knob_that_changes_no_weight_may_change_and_is_told(
    key: str, saved: Path, configure: Callable[..., Any]
) -> None:
    found = resume([f"resume={saved}", f"{key}={FREE_VALUES[key]}"])
    assert found is not None
    before = configure("train", *SAVED, f"outputs={saved.parents[1]}")
    changes = free_changes(before, found.config)
    assert changes
    assert all(changed == key or changed.startswith(f"{key}.") for changed in changes)


def test_every_knob_is_one_or_the_other(configure: Callable[..., Any]) -> None:
    keys = set(flatten(configure("train", *SAVED)))
    assert keys >= FREE - {"data.root", "data.on_bad"}  # of files only
    assert all(any(key.startswith(group) for key in keys) for group in FREE_GROUPS)


def test_a_value_that_equals_the_default_is_taken_all_the_same(saved: Path) -> None:
    found = resume([f"resume={saved}", "steps=1_200_000"])
    assert found is not None
    assert found.config.steps == 1_200_000


def test_a_run_on_files_knows_where_they_lie(configure: Callable[..., Any], tmp_path: Path) -> None:
    chairs = ("model=tiny", "data=flyingchairs", f"data.root={tmp_path}")
    run = save(configure("train", *chairs, f"outputs={tmp_path}"), tmp_path / "train/chairs")

    for overrides in ([], ["steps=80"], ["data=flyingchairs"]):
        resumed = resume([f"resume={run}", *overrides])
        assert resumed is not None
        assert flatten(resumed.config)["data.root"] == str(tmp_path)


def test_what_is_no_run_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="not a run"):
        resume([f"resume={tmp_path}"])


def test_an_experiment_cannot_be_laid_over_a_run(saved: Path) -> None:
    with pytest.raises(ConfigError, match="experiment"):
        resume([f"resume={saved}", "experiment=quickstart"])


def test_auto_takes_the_newest_run_of_the_same_identity(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    outputs = f"outputs={tmp_path}"
    arguments = [*SAVED, outputs, "resume=auto"]
    assert resume(arguments) is None
    for name, more in (("1", []), ("2", ["log_every=7"]), ("3", ["seed=9"])):
        save(configure("train", *SAVED, outputs, *more), tmp_path / f"train/{name}")
    (tmp_path / "train/4").mkdir()
    (tmp_path / "train/4" / CONFIG_FILE).write_text("model: of another version")
    found = resume(arguments)
    assert found is not None
    assert found.run_dir == tmp_path / "train/2"
    assert found.config.log_every == 100  # what the arguments say
