"""A search: trials are children, bad ones are stopped, and a kill loses nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_runs import Run, command, runner, wait_for

from pwc_exp.config.sweeps import OptunaConfig
from pwc_exp.errors import ConfigError, MissingExtraError, ResumeError
from pwc_exp.sweeps.folder import SweepFolder, read_outcome

optuna = pytest.importorskip("optuna")
from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402

PRESET = """# @package _global_
defaults: [quickstart, override /hydra/sweeper: optuna]
name: own
save_every: 9
hydra:
  sweeper:
    params:
      seed: 0,1
"""
SEARCH = ("hydra/sweeper=optuna", "seed=choice(0,1,2,3)")


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(root, monkeypatch, capfd)


def the_sweep() -> SweepFolder:
    (file,) = Path("outputs").glob("*/*/sweep.json")
    return SweepFolder.load(file.parent)


def statuses() -> list[str]:
    sweep = the_sweep()
    return [read_outcome(sweep.run_dir(child), "val/aepe").status for child in sweep.children]


def the_study() -> Any:
    folder = the_sweep().path
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=str(Path(*folder.parts[-2:])), storage=storage)


def test_each_trial_is_a_child_and_the_best_is_told(run: Run) -> None:
    ending = run(*SEARCH, "sweep.trials=3")
    assert ending.code == 0
    assert statuses() == ["FINISHED"] * 3
    sweep = the_sweep()
    best = min(
        read_outcome(sweep.run_dir(c), "val/aepe").values["val/aepe"] for c in sweep.children
    )
    marked = next(line for line in ending.out.splitlines() if line.startswith("*"))
    assert f"{best:.3f}" in marked
    assert (the_sweep().path / "pictures/history.png").is_file()


def test_failed_trials_do_not_fail_a_search_that_found_something(run: Run) -> None:
    ending = run("hydra/sweeper=optuna", "sweep.trials=2", "seed=13,0")
    assert ending.code == 0
    assert "RuntimeError: a bug" in ending.out
    assert sorted(statuses()) == ["FAILED", "FINISHED"]


@pytest.mark.slow
def test_a_search_that_found_nothing_fails(run: Run) -> None:
    ending = run("hydra/sweeper=optuna", "sweep.trials=2", "seed=13,14")
    assert ending.code == 3
    assert ending.err.startswith("error: none of 2 children finished; the last: ")


def test_values_that_are_refused_are_a_failed_trial(run: Run) -> None:
    ending = run("hydra/sweeper=optuna", "sweep.trials=2", "batch_size=8,7", "accumulate=2")
    assert ending.code == 0
    assert "batch_size must be a multiple of 2" in ending.out
    assert sorted(statuses()) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["schedule.paek=interval(0.1,1)"], "schedule.paek: unknown key; did you mean 'schedule.p"),
        (["steps=4"], "sweep.params: must name a key and what it may be"),
        (["seed=0,1", "sweep.objectives=[val/apee]"], "sweep.objectives must be of those that are"),
        (["seed=0,1", "sweep.pruner=hyperband", "sweep.min_resource=5"], "at most the 4 steps"),
        (["batch_size=interval(2"], "batch_size=interval(2"),
    ],
)
def test_a_mistake_costs_one_line(run: Run, arguments: list[str], error: str) -> None:
    ending = run("hydra/sweeper=optuna", *arguments)
    assert ending.code == ConfigError.exit_code
    assert error in ending.err and len(ending.err.splitlines()) == 1
    assert not list(Path("outputs").glob("*/*/sweep.json"))


def test_a_bad_trial_is_stopped_early(run: Run) -> None:
    """seed=20 goes on and on, and is worse than seed=0, which ends at once: more is better here."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    ending = run(
        *("hydra/sweeper=optuna", "sweep.trials=2", "seed=0,20", "sweep.maximize=[val/aepe]"),
        *("sweep.pruner=median", "sweep.startup_trials=1", "hydra.launcher.jobs=2"),
        "sweep.sampler=random",
    )
    assert ending.code == 0
    assert sorted(statuses()) == ["FINISHED", "PRUNED"]
    assert "pruned after step" in ending.out
    assert sorted(trial.state.name for trial in the_study().trials) == ["COMPLETE", "PRUNED"]


def test_a_killed_search_continues_with_the_trial_that_it_had(root: Path) -> None:
    """seed=20 runs until the search is killed, which stops it, and then until `go` is there."""
    search = command("hydra/sweeper=optuna", "sweep.trials=2", "seed=20,0")
    process = subprocess.Popen(search, stdout=subprocess.DEVNULL)
    wait_for("*/*/*seed-20/metrics.jsonl")
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.Popen(search, stdout=subprocess.DEVNULL)  # while the child still saves
    Path("go").touch()
    assert again.wait() == 0
    assert statuses() == ["FINISHED", "FINISHED"]
    calls = Path("calls").read_text().splitlines()
    assert sorted(line.split()[0] for line in calls) == ["new", "new", "resume"]


def test_the_same_command_continues_a_search_and_more_trials_extend_it(run: Run) -> None:
    run(*SEARCH, "sweep.trials=1")
    the_study().ask()  # a trial that was killed before it had all its values
    ending = run(*SEARCH, "sweep.trials=3")
    assert ending.code == 0 and ", continued" in ending.out
    assert [trial.state.name for trial in the_study().trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert statuses() == ["FINISHED"] * 2
    assert len(Path("calls").read_text().splitlines()) == 2


def test_a_search_of_something_else_is_not_continued(run: Run) -> None:
    run(*SEARCH, "sweep.trials=1")
    for changed in ("seed=choice(0,1)", "steps=5", "batch_size=2,4"):
        ending = run(*SEARCH, changed, f"sweep.resume={the_sweep().path}")
        assert ending.code == ResumeError.exit_code
        assert "must continue with the arguments that it was started with" in ending.err
    assert statuses() == ["FINISHED"]


def test_an_edited_preset_is_refused(run: Run, root: Path) -> None:
    preset = root / "experiments/own.yaml"
    preset.parent.mkdir()
    preset.write_text(PRESET)
    command = ("experiment=own", "sweep.trials=1")
    assert run(*command).code == 0
    for key, then, now in (("seed", "0,1", "0,2"), ("save_every", "9", "7")):
        preset.write_text(PRESET.replace(f"{key}: {then}", f"{key}: {now}"))
        ending = run(*command)
        assert ending.code == ResumeError.exit_code
        assert f"{key} {then} -> {now}" in ending.err


def test_without_optuna_one_line_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    ending = run(*SEARCH)
    assert ending.code == MissingExtraError.exit_code
    assert "pip install 'optuna" in ending.err and len(ending.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"trials": 0}, "trials"),
        ({"startup_trials": -1}, "startup_trials"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"seed": -1}, "seed"),
        ({"min_resource": 0}, "min_resource"),
        ({"reduction_factor": 1}, "reduction_factor"),
        ({"objectives": []}, "objectives"),
        ({"objectives": ["seconds", "seconds"]}, "objectives"),
        ({"maximize": ["val/wauc"]}, "maximize"),
        ({"objectives": ["val/aepe", "seconds"], "pruner": "median"}, "pruner"),
        ({"objectives": ["seconds"], "pruner": "hyperband"}, "pruner"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^sweep\.{key}"):
        OptunaConfig(**settings)
