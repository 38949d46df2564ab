"""A sweep over a grid: one parent, a child for each combination, and nothing done twice."""

import json
import os
import re
import subprocess
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run as MlflowRun
from sweep_runs import Run, command, runner, wait_for

from pwc_exp.config.commands import SyncConfig
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.synchronization import sync
from pwc_exp.tracking.record import Record


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return runner(root, monkeypatch, capfd)


def calls() -> list[str]:
    """What the children noted, in the order of their start: how they began, and their seed."""
    lines = Path("calls").read_text().splitlines() if Path("calls").exists() else []
    Path("calls").unlink(missing_ok=True)
    return [" ".join(line.split()[:2]) for line in lines]


def sweeps() -> list[SweepFolder]:
    return [
        SweepFolder.load(file.parent) for file in sorted(Path("outputs").glob("*/*/sweep.json"))
    ]


def parents() -> list[MlflowRun]:
    client = mlflow.MlflowClient(f"sqlite:///{Path('outputs/mlflow/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("pwc_exp")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")


def test_each_combination_is_a_child_named_by_what_differs(run: Run) -> None:
    ending = run("model=tiny,sm", "seed=0,1", "batch_size=2")
    assert ending.code == 0
    (sweep,) = sweeps()
    assert [child.name for child in sweep.children] == [
        *("model=tiny seed=0", "model=tiny seed=1", "model=sm seed=0", "model=sm seed=1"),
    ]
    assert sweep.children[2].folder == "2_model-sm_seed-0"
    assert sweep.children[2].overrides == [
        *("steps=4", "tracking.mlflow=False", "batch_size=2", "model=sm", "seed=0"),
    ]
    for child in sweep.children:
        assert Record.load(sweep.run_dir(child)).status == "FINISHED"
    assert calls() == ["new 0", "new 1", "new 0", "new 1"]


def test_the_parent_holds_definition_best_value_and_page(run: Run) -> None:
    run("seed=0,3", "tracking.mlflow=true")
    (parent,) = parents()
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sweep.seed"] == "0,3"
    assert parent.data.metrics["sweep/best"] == 1.0
    assert parent.data.metrics["sweep/finished"] == 2
    assert parent.data.tags["best_child"] == "seed=3"
    assert parent.data.tags["dataset"] == "synthetic"
    assert "**seed=3**" in parent.data.tags["mlflow.note.content"]
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert {"sweep.html", "sweep.md", "sweep.json"} <= {file.name for file in artifacts.iterdir()}


def test_a_failed_child_is_told_with_its_reason_and_the_others_go_on(run: Run) -> None:
    ending = run("seed=13,14,15,16,0", "tracking.mlflow=true")
    assert ending.code == 3
    assert calls() == ["new 13", "new 14", "new 15", "new 16", "new 0"]
    for reason in (
        *("RuntimeError: a bug", "a.flo: not a flow", "killed by SIGKILL"),
        "refused before anything is written",
    ):
        assert reason in ending.out
    assert re.fullmatch(
        r"error: 4 of 5 children did not finish; seed=13: RuntimeError: a bug. To try them again: "
        r"python -m pwc_exp.train -m steps=4 tracking.mlflow=false seed=13,14,15,16,0 "
        r"tracking.mlflow=true sweep.continue=\S+\n",
        ending.err,
    )
    (parent,) = parents()
    assert parent.info.status == "FAILED"
    assert parent.data.metrics["sweep/failed"] >= 3


def test_a_sweep_that_goes_on_trains_nothing_again(run: Run) -> None:
    run("seed=0,1")
    calls()
    assert run("seed=0,1", "sweep.continue=true").code == 0
    assert calls() == []
    assert len(sweeps()) == 1


@pytest.mark.slow
def test_without_continue_a_sweep_is_a_new_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("seed=0,1", "hydra.sweep.dir=outputs/train/one")
    run("seed=0,1", "hydra.sweep.dir=outputs/train/two")
    assert calls() == ["new 0", "new 1", "new 0", "new 1"]


def test_a_sweep_that_goes_on_tries_what_failed_again(run: Run) -> None:
    run("seed=0,13")
    calls()
    assert run("seed=0,13", "sweep.continue=true").code == 3
    assert calls() == ["resume 13"]


def test_what_fails_first_and_finishes_then_counts_as_finished(run: Run) -> None:
    assert run("seed=0,13", "tracking.mlflow=true").code == 3
    Path("mended").touch()
    ending = run("seed=0,13", "tracking.mlflow=true", "sweep.continue=true")
    assert (ending.code, ending.err) == (0, "")
    (parent,) = parents()
    counted = {key: parent.data.metrics[f"sweep/{key}"] for key in ("finished", "failed", "best")}
    assert counted == {"finished": 2, "failed": 0, "best": 4 / 14}
    assert parent.data.tags["best_child"] == "seed=13"


def test_a_sweep_given_by_its_folder_may_grow(run: Run) -> None:
    run("seed=0,1")
    (sweep,) = sweeps()
    calls()
    assert run("seed=0,1,2", f"sweep.continue={sweep.path}").code == 0
    assert calls() == ["new 2"]
    (sweep,) = sweeps()
    assert [child.number for child in sweep.children] == [0, 1, 2]


@pytest.mark.slow
def test_another_definition_is_another_sweep(run: Run) -> None:
    run("seed=0,1")
    calls()
    ending = run("seed=0,2", "sweep.continue=true", "hydra.sweep.dir=outputs/train/two")
    assert "a new one begins" in ending.out
    assert calls() == ["new 0", "new 2"]


def test_a_wrong_child_is_refused_before_the_first_starts(run: Run) -> None:
    ending = run("batch_size=2,0")
    assert ending.code == 2
    assert ending.err == (
        "error: batch_size must be positive. Received: 0 (of child 1, batch_size=0)\n"
    )
    assert calls() == []
    assert not list(Path("outputs").glob("train/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1,1"], "seed: values must be different, at least one. Received: ['1', '1']"),
        (["seed=1,2", "resume=outputs"], "resume: cannot be given to a sweep, it names one run"),
        (["schedule.peak=interval(0,1)"], "an interval is searched by hydra/sweeper=optuna"),
        (["seed=1,2", "sweep.continue=nowhere"], "nowhere/sweep.json: no such file"),
        (["seed=1,2", "sweep.contnue=true"], "hydra.sweeper.contnue: unknown key"),
        (["seed=1,2", "hydra.launcher.jobs=0"], "hydra.launcher.jobs must be positive"),
        (["seed=1,2", "hydra.launcher.jobs=999"], "hydra.launcher.jobs must be at most"),
    ],
)
def test_a_mistake_costs_one_line(run: Run, arguments: list[str], message: str) -> None:
    ending = run(*arguments)
    assert ending.code not in (0, 1)
    assert message in ending.err
    assert len(ending.err.splitlines()) == 1
    assert calls() == []


@pytest.mark.slow
def test_seeds_are_summed_up(run: Run) -> None:
    ending = run("model=tiny,sm", "seed=0,1")
    assert re.search(r"model=tiny\s+2\s.*3\.000.*1\.414", ending.out), ending.out


@pytest.mark.slow
def test_a_preset_keeps_its_values_where_another_variant_has_them(run: Run) -> None:
    run("experiment=quickstart", "schedule=cyclic,onecycle", "model=tiny,sm")
    (sweep,) = sweeps()
    plans = [sweep.plan(child).read_text() for child in sweep.children]
    assert "half_cycle: 800" in plans[0]
    assert "half_cycle" not in plans[2]
    assert all("peak: 0.0015" in plan for plan in plans)


@pytest.mark.slow
def test_children_at_once_share_the_processors(run: Run) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    Path("go").touch()
    assert run("seed=0,1,2,3", "hydra.launcher.jobs=2").code == 0
    lines = Path("calls").read_text().splitlines()
    cores = {frozenset(line.split()[2].split(",")) for line in lines}
    assert len(lines) == 4
    assert len(cores) == 2
    assert not frozenset.intersection(*cores)


def test_sweep_json_is_what_the_folder_was_given(run: Run) -> None:
    run("seed=0,1")
    (sweep,) = sweeps()
    content = json.loads((sweep.path / "sweep.json").read_text())
    assert content["definition"] == {"steps": "4", "tracking.mlflow": "false", "seed": "0,1"}
    assert content["children"][1]["values"] == {"seed": "1"}


def test_a_sweep_that_mlflow_did_not_hear_of_is_sent_later(run: Run) -> None:
    run("seed=0,3")
    (sweep,) = sweeps()
    sync(SyncConfig(run=str(sweep.path)))
    (parent,) = parents()
    children = mlflow.MlflowClient(f"sqlite:///{Path('outputs/mlflow/mlflow.db').absolute()}")
    found = children.search_runs(
        [parent.info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
        order_by=["metrics.`val/aepe`"],
    )
    assert [run.info.run_name for run in found] == ["child", "child"]  # what child.py calls itself
    assert [run.data.metrics["val/aepe"] for run in found] == [1.0, 4.0]


def test_a_sweep_that_is_asked_to_stop_stops_its_children_and_goes_on_later(root: Path) -> None:
    sweep = command("seed=20,0")
    process = subprocess.Popen(sweep, stdout=subprocess.PIPE, text=True)
    wait_for("*/*/*seed-20/metrics.jsonl")
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "sweep.continue=" in output.splitlines()[-1]
    assert calls() == ["new 20"]
    Path("go").touch()
    again = command("seed=20,0", "sweep.continue=true")
    assert subprocess.run(again, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert calls() == ["resume 20", "new 0"]
