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
from pwc_exp.errors import ResumeError
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.tracking.record import Record
from pwc_exp.training.run_dir import sync


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
    content = json.loads((sweep.path / "sweep.json").read_text())
    shared = {"steps": "4", "tracking.mlflow": "false", "batch_size": "2"}
    assert content["definition"] == {**shared, "model": "tiny,sm", "seed": "0,1"}
    assert content["children"][1]["values"] == {"model": "tiny", "seed": "1"}


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


def test_a_failed_child_is_shown_with_its_reason_and_the_others_run(run: Run) -> None:
    ending = run("seed=13,14,15,16,0", "tracking.mlflow=true")
    assert ending.code == 3
    assert calls() == ["new 13", "new 14", "new 15", "new 16", "new 0"]
    for reason in (
        *("RuntimeError: a bug", "a.flo: not a flow", "killed by SIGKILL"),
        "refused before anything is written",
    ):
        assert reason in ending.out
    assert re.fullmatch(
        r"error: 4 of 5 children did not finish; seed=13: RuntimeError: a bug. The same command "
        r"tries them again: python -m pwc_exp.train -m steps=4 tracking.mlflow=false "
        r"seed=13,14,15,16,0 tracking.mlflow=true\n",
        ending.err,
    )
    (parent,) = parents()
    assert parent.info.status == "FAILED"
    assert parent.data.metrics["sweep/failed"] >= 3


def test_the_same_command_trains_nothing_again_and_a_named_sweep_may_grow(run: Run) -> None:
    run("seed=0,1")
    calls()
    ending = run("seed=0,1")
    assert ending.code == 0
    assert "2 of 2 children have finished before" in ending.out
    assert calls() == []
    (sweep,) = sweeps()
    assert run("seed=0,1,2", f"sweep.resume={sweep.path}").code == 0
    assert calls() == ["new 2"]
    (sweep,) = sweeps()
    assert [child.number for child in sweep.children] == [0, 1, 2]


def test_failed_children_are_tried_again_and_count_as_finished_then(run: Run) -> None:
    assert run("seed=0,13", "tracking.mlflow=true").code == 3
    calls()
    assert run("seed=0,13", "tracking.mlflow=true").code == 3
    assert calls() == ["resume 13"]
    Path("mended").touch()
    ending = run("seed=0,13", "tracking.mlflow=true")
    assert (ending.code, ending.err) == (0, "")
    (parent,) = parents()
    counted = {key: parent.data.metrics[f"sweep/{key}"] for key in ("finished", "failed", "best")}
    assert counted == {"finished": 2, "failed": 0, "best": 4 / 14}
    assert parent.data.tags["best_child"] == "seed=13"


def test_a_new_sweep_can_be_asked_for(run: Run) -> None:
    for given in ("hydra.sweep.dir=outputs/one/1", "hydra.sweep.dir=outputs/one/2"):
        assert run("seed=0,1", given).code == 0
    assert run("seed=0,1", "sweep.resume=null").code == 0
    assert calls() == ["new 0", "new 1"] * 3
    assert len(sweeps()) == 3


def test_a_sweep_is_not_continued_with_other_arguments(run: Run) -> None:
    run("seed=0,1")
    (sweep,) = sweeps()
    calls()
    for arguments, change in (
        (["seed=0,1", "steps=6"], "steps 4 -> 6"),
        (["seed=0,1", "batch_size=2,4"], "batch_size None -> 2,4"),
        (["seed=0", "batch_size=2"], "seed 0,1 -> 0, batch_size None -> 2"),
    ):
        ending = run(*arguments, f"sweep.resume={sweep.path}")
        assert ending.code == ResumeError.exit_code
        expected = "must continue with the arguments that it was started with. Received: "
        assert expected + change in ending.err
    assert calls() == []


def test_an_unfinished_sweep_of_other_arguments_is_mentioned(run: Run) -> None:
    run("seed=0,13", "hydra.sweep.dir=outputs/train/one")
    ending = run("seed=0,2")
    assert "one has not finished; this is another sweep: seed 0,13 -> 0,2" in ending.out
    assert len(sweeps()) == 2


def test_an_edited_preset_is_refused(run: Run, root: Path) -> None:
    preset = root / "experiments/own.yaml"
    preset.parent.mkdir()
    preset.write_text("# @package _global_\ndefaults: [quickstart]\nname: own\nsave_every: 9\n")
    assert run("experiment=own", "seed=0,13").code == 3
    calls()
    preset.write_text(preset.read_text().replace("9", "7"))
    ending = run("experiment=own", "seed=0,13")
    assert (ending.code, calls()) == (ResumeError.exit_code, [])
    assert ending.err.startswith(f"error: {sweeps()[0].path} must continue with the values")
    assert "save_every 9 -> 7. sweep.resume=null starts a new sweep" in ending.err


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
        (["seed=1,2", "resume=outputs"], "resume: names one run; sweep.resume=<folder> continues"),
        (["schedule.peak=interval(0,1)"], "an interval is searched by hydra/sweeper=optuna"),
        (["seed=1,2", "sweep.resume=nowhere"], "nowhere/sweep.json: no such file"),
        (["seed=1,2", "sweep.continue=true"], "hydra.sweeper.continue: unknown key"),
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
def test_a_preset_keeps_its_values_where_another_variant_has_them(run: Run) -> None:
    run("experiment=quickstart", "schedule=cyclic,onecycle", "model=tiny,sm")
    (sweep,) = sweeps()
    configs = [(sweep.run_dir(child) / "config.yaml").read_text() for child in sweep.children]
    assert "half_cycle: 800" in configs[0]
    assert "half_cycle" not in configs[2]
    assert all("peak: 0.0015" in config for config in configs)


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "arguments"), [("", ["hydra.launcher.jobs=2"]), ("5,6", [])])
def test_children_at_once_share_processors_and_gpus(
    run: Run, gpus: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert run("seed=0,1,2,3", *arguments).code == 0
    shares = [line.split()[2:] for line in Path("calls").read_text().splitlines()]
    assert len(shares) == 4
    cores = {frozenset(share[0].split(",")) for share in shares}
    assert len(cores) == 2 and not frozenset.intersection(*cores)
    assert {gpu for share in shares for gpu in share[1:]} == set(filter(None, gpus.split(",")))


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


def test_a_sweep_that_is_asked_to_stop_stops_its_children_and_continues_later(root: Path) -> None:
    sweep = command("seed=20,0")
    process = subprocess.Popen(sweep, stdout=subprocess.PIPE, text=True)
    wait_for("*/*/*seed-20/metrics.jsonl")
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped. The same command continues: " in output
    assert calls() == ["new 20"]
    Path("go").touch()
    assert subprocess.run(sweep, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert calls() == ["resume 20", "new 0"]
