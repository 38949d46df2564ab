"""The tracker: what a command tells is in the run's folder at once, and in every store once."""

import json
import logging
import math
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tracked import FAR, RUN, TREE, FakeStore, in_mlflow, make_tracker, metrics

from pwc_exp.errors import BusyError, OutputError
from pwc_exp.tracking import Tracker, journal, tracker
from pwc_exp.tracking.record import Record


def test_unwritable_journal_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"metrics.jsonl"), make_tracker(tmp_path) as tracking:
        (tmp_path / RUN / "metrics.jsonl").unlink()
        (tmp_path / RUN / "metrics.jsonl").mkdir()
        tracking.scalars(0, {"train/loss": 1.0})
    assert Record.load(tmp_path / RUN).status == "FAILED"


def test_tracker_without_stores_writes_only_the_run_folder(tmp_path: Path) -> None:
    with make_tracker(tmp_path, tags={"kind": "train"}) as tracking:
        tracking.scalars(5, {"train/loss": np.float32(0.5)})
        tracking.image(5, "val/a", TREE)
        tracking.artifact(tmp_path, "checkpoints")
        tracking.dataset("synthetic", digest="12", sizes={"train": 1}, context="train")
        tracking.flush()
        running = json.loads((tmp_path / RUN / "run.json").read_text())
    run_dir = tmp_path / RUN
    names = ["images", "images.jsonl", "metrics.jsonl", "run.json"]
    assert sorted(path.name for path in run_dir.iterdir()) == names
    assert list(tmp_path.rglob("mlflow*")) == []
    assert [read.values for read in journal.read(run_dir / "metrics.jsonl")] == [
        {"train/loss": 0.5}
    ]
    about = json.loads((run_dir / "run.json").read_text())
    assert about["name"] == "test"
    assert about["kind"] == "train"
    assert "python" in about["command"]
    assert about["python"].startswith("3.")
    assert [used["digest"] for used in about["datasets"]] == ["12"]
    assert running["ended"] is None
    assert about["ended"]["status"] == "FINISHED"


def test_importing_and_disabling_it_loads_no_store() -> None:
    code = (
        "import sys, pwc_exp.tracking;"
        "print([name for name in ('mlflow', 'tensorboard', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("pixels", [TREE[..., :1], TREE[None], TREE / 255.0])
def test_picture_of_another_kind_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with make_tracker(tmp_path) as tracking, pytest.raises(ValueError, match="val/a"):
        tracking.image(0, "val/a", pixels)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (ValueError(), "FAILED"),
    ],
)
def test_run_ends_in_store_and_folder_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: str
) -> None:
    store = FakeStore()
    monkeypatch.setattr(Tracker, "_open_mlflow", lambda self: store)
    expectation = pytest.raises(type(error)) if error else nullcontext()
    with expectation, make_tracker(tmp_path, mlflow=True):
        if error:
            raise error
    assert store.statuses[-1] == status
    assert Record.load(tmp_path / RUN).status == status


def test_mlflow_holds_the_whole_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # MLflow's own start_run would continue that one
    checkpoint = root / "step-00000001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    config = root / "config.yaml"
    config.write_text("a: 1")
    params = {"model.levels": 6, "loss.weights[0]": 0.32, "long": "x" * 9000}
    params |= {f"many.{number}": number for number in range(120)}
    keys = ["val/Ünï,+@=", "../up", "/abs", "a//b", "."]
    with make_tracker(root, mlflow=True, params=params, tags={"kind": "train"}) as tracking:
        for step in range(3):
            tracking.scalars(step, {"train/loss": 1 / (step + 1), "val/nan": math.nan})
        tracking.scalars(3, dict.fromkeys(keys, 1.0))
        tracking.image(0, "val/alley_1/frame_0001", TREE)
        tracking.artifact(checkpoint, "checkpoints/best")
        tracking.artifact(root / "removed", "checkpoints/last")
        tracking.artifact(config, "")
        tracking.tag("note", "of the run")
        tracking.dataset("synthetic", digest="12" * 32, sizes={"val": 64}, context="train")

    client, run = in_mlflow(root)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test"
    assert (run.data.tags["kind"], run.data.tags["note"]) == ("train", "of the run")
    assert run.data.tags["mlflow.source.name"] != ""
    assert run.data.tags["run_uid"] == Record.load(root / RUN).uid
    assert run.data.params.items() >= {"model.levels": "6", "loss.weights_0_": "0.32"}.items()
    assert len(run.data.params) == len(params)
    points = journal.read(root / RUN / "metrics.jsonl")
    assert metrics(root, "train/loss") == [
        (written.step, written.time, written.values["train/loss"]) for written in points[:3]
    ]
    assert len(client.get_metric_history(run.info.run_id, "val/nan")) == 3
    assert run.data.metrics.keys() >= {"val/_n_____", "_up", "_abs", "a/b", "_"}
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.inputs.dataset_inputs[0].dataset.profile == '{"val": 64}'
    artifacts = root / "outputs/mlflow/artifacts/pwc_exp" / run.info.run_id / "artifacts"
    (picture,) = artifacts.glob("images/val~alley_1~frame_0001+step+0+*.png")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(picture)), TREE)
    assert (artifacts / "checkpoints/best/manifest.json").is_file()
    assert not (artifacts / "checkpoints/last").exists()
    assert (artifacts / "config.yaml").read_text() == "a: 1"
    names = ["config.yaml", "outputs", "step-00000001"]
    assert sorted(path.name for path in root.iterdir()) == names


def test_dead_server_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make_tracker(tmp_path, mlflow=True, uri="http://name:secret@127.0.0.1:9") as tracking:
        for step in range(200):
            tracking.scalars(step, {"train/loss": 1.0})
        start = time.perf_counter()
    assert time.perf_counter() - start < FAR
    assert len(journal.read(tmp_path / RUN / "metrics.jsonl")) == 200
    remedy = f"`python -m pwc_exp.sync {tmp_path / RUN}` sends the rest"
    first, last = caplog.messages
    assert first.startswith(
        "MLflow at http://127.0.0.1:9 does not take what is sent; the run continues, "
        f"and {remedy} (MlflowException"
    )
    assert "refused" in first
    assert "secret" not in caplog.text
    assert last.startswith("MLflow at http://127.0.0.1:9 is incomplete at the end of the run (")
    assert last.endswith(remedy)


def test_a_required_server_that_is_gone_stops_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "_SERVER_SECONDS", 1.0)
    uri = "http://name:secret@127.0.0.1:9"
    with (
        pytest.raises(BusyError, match=r"MLflow at http://127.0.0.1:9 cannot be reached \(.*"),
        make_tracker(tmp_path, mlflow=True, uri=uri, required=True),
    ):
        pytest.fail("it has started")
    assert caplog.messages == []
    assert Record.load(tmp_path / RUN).status == "FAILED"
    assert BusyError.exit_code == 75


def test_a_required_file_that_is_there_starts_the_run(root: Path) -> None:
    with make_tracker(root, mlflow=True, required=True) as tracking:
        tracking.scalars(0, {"train/loss": 1.0})
    assert len(metrics(root, "train/loss")) == 1


def test_an_end_that_cannot_be_noted_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Record, run_dir: Path) -> None:
        raise OutputError("full")

    with pytest.raises(KeyError), make_tracker(tmp_path):
        monkeypatch.setattr(Record, "save", refuse)
        raise KeyError
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]
