"""A search: trials are children, bad ones are stopped, and a kill costs nothing that was known."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sweep_runs import Run, command, runner, wait_for

from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.outcome import read
from pwc_exp.tracking.record import Record
from pwc_exp.tuning.storage import open_storage

optuna = pytest.importorskip("optuna")
SEARCH = ("hydra/sweeper=optuna", "seed=choice(0,1,2,3)")


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(root, monkeypatch, capfd)


def the_sweep() -> SweepFolder:
    (file,) = Path("outputs").glob("*/*/sweep.json")
    return SweepFolder.load(file.parent)


def statuses() -> list[str]:
    sweep = the_sweep()
    return [read(sweep.run_dir(child), "val/aepe").status for child in sweep.children]


def test_each_trial_is_a_child_and_the_best_is_told(run: Run) -> None:
    ending = run(*SEARCH, "sweep.trials=3")
    assert ending.code == 0
    assert statuses() == ["FINISHED"] * 3
    sweep = the_sweep()
    best = min(read(sweep.run_dir(c), "val/aepe").values["val/aepe"] for c in sweep.children)
    marked = next(line for line in ending.out.splitlines() if line.startswith("*"))
    assert f"{best:.3f}" in marked
    assert (the_sweep().path / "pictures/history.png").is_file()


@pytest.mark.slow
def test_a_space_that_is_searched_whole_ends_the_search(run: Run) -> None:
    assert run(*SEARCH, "sweep.trials=9").code == 0
    assert len(the_sweep().children) == 4


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


def test_a_wrong_key_of_the_space_is_refused_at_once(run: Run) -> None:
    ending = run("hydra/sweeper=optuna", "schedule.paek=interval(0.1,1)")
    assert ending.code == 2
    assert ending.err == "error: schedule.paek: unknown key; did you mean 'schedule.peak'?\n"
    assert not list(Path("outputs").glob("*/*/sweep.json"))


def test_a_sampler_that_cannot_search_the_space_is_refused_at_once(run: Run) -> None:
    ending = run(*SEARCH, "sweep.sampler=cmaes")
    assert ending.code == 2
    assert ending.err.startswith("error: seed: cmaes searches intervals and ranges only")
    assert not list(Path("outputs").glob("train/*"))


def test_a_bad_trial_is_stopped_early(run: Run) -> None:
    """seed=20 goes on and on, and is worse than seed=0, which ends at once: more is better here."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    ending = run(
        *("hydra/sweeper=optuna", "sweep.trials=2", "seed=0,20", "sweep.maximize=[val/aepe]"),
        *("sweep.pruner=median", "sweep.startup_trials=1", "hydra.launcher.jobs=2"),
    )
    assert ending.code == 0
    assert sorted(statuses()) == ["FINISHED", "PRUNED"]
    assert "pruned after step" in ending.out
    study = optuna.load_study(
        study_name=str(Path(*the_sweep().path.parts[-2:])),
        storage=open_storage(the_sweep().path / "optuna.journal"),
    )
    assert sorted(trial.state.name for trial in study.trials) == ["COMPLETE", "PRUNED"]


def test_a_killed_search_goes_on_with_the_trial_that_it_had(root: Path) -> None:
    """seed=20 goes on until the search is killed, which stops it, and then until `go` is there."""
    search = command("hydra/sweeper=optuna", "sweep.trials=2", "seed=20,0", "sweep.continue=true")
    process = subprocess.Popen(search, stdout=subprocess.DEVNULL)
    wait_for("*/*/*seed-20/metrics.jsonl")
    process.send_signal(signal.SIGKILL)
    process.wait()
    while not all(record.ended for record in records()):
        time.sleep(0.1)
    Path("go").touch()
    assert subprocess.run(search, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert statuses() == ["FINISHED", "FINISHED"]
    assert sorted(line.split()[0] for line in calls()) == ["new", "new", "resume"]


def records() -> list[Record]:
    return [Record.load(path.parent) for path in Path("outputs").glob("*/*/*/run.json")]


def calls() -> list[str]:
    return Path("calls").read_text().splitlines() if Path("calls").exists() else []
