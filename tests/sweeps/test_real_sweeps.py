"""Sweeps of real trainings, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run as MlflowRun

from pwc_exp.sweeps.folder import Status, SweepFolder, read_outcome

pytestmark = pytest.mark.slow
SMALL = (
    *("experiment=quickstart", "data.crop=[64,64]", "batch_size=2", "eval_samples=2"),
    *("picture_samples=0", "xla=false", "log_every=1", "save_every=1"),
)


def sweep(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pwc_exp.train", "-m", *SMALL, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def in_mlflow(filter_string: str) -> list[MlflowRun]:
    client = mlflow.MlflowClient(f"sqlite:///{Path('outputs/mlflow/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("pwc_exp")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], filter_string)


def the_sweep() -> SweepFolder:
    (file,) = Path("outputs").glob("*/*/sweep.json")
    return SweepFolder.load(file.parent)


def journals() -> dict[str, bytes]:
    """Of the children that finished."""
    found = the_sweep()
    folders = [found.run_dir(child) for child in found.children]
    finished = [
        folder for folder in folders if read_outcome(folder, "val/aepe").status == Status.FINISHED
    ]
    return {folder.name: (folder / "metrics.jsonl").read_bytes() for folder in finished}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_one_that_diverges_stops_none_of_those_beside_it(root: Path) -> None:
    arguments = ("schedule.peak=0.0015,1e30", "seed=0,1", "steps=6", "hydra.launcher.jobs=2")
    done = sweep(*arguments)
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("must be finite") >= 2
    finished = in_mlflow("tags.kind = 'run' and attributes.status = 'FINISHED'")
    assert sorted(run.info.run_name for run in finished) == [
        "schedule.peak=0.0015 seed=0",
        "schedule.peak=0.0015 seed=1",
    ]
    (parent,) = in_mlflow("tags.kind = 'sweep'")
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in finished)
    best = min(finished, key=lambda run: run.data.metrics["val/aepe"])
    assert best.data.tags["best"] == "true"
    before = journals()
    again = sweep(*arguments)
    assert again.returncode == 3
    assert "2 of 4 children have finished before" in again.stdout
    assert journals() == before


def test_fifty_children_of_one_sweep_are_all_there(root: Path) -> None:
    jobs = min(2, len(os.sched_getaffinity(0)))
    done = sweep("seed=range(0,50)", "steps=1", f"hydra.launcher.jobs={jobs}")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = in_mlflow("tags.kind = 'run' and attributes.status = 'FINISHED'")
    assert {run.data.params["seed"] for run in runs} == {str(seed) for seed in range(50)}
    assert all({"val/aepe", "train/loss"} <= run.data.metrics.keys() for run in runs)
    assert "locked" not in done.stdout + done.stderr
    for log in the_sweep().path.glob("*/output.log"):
        assert "incomplete" not in log.read_text()
