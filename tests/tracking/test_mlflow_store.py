"""The run in MLflow: one of it, each point and picture once, whenever a process was killed."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tracked import RUN, TREE, images, in_mlflow, make_tracker, metrics, open_store, point

from pwc_exp import storage
from pwc_exp.tracking import journal, mlflow_store, tracker
from pwc_exp.tracking.journal import Journal, Point
from pwc_exp.tracking.mlflow_store import (
    STATE_FILE,
    MlflowStore,
    SyncState,
    destination,
    tracking_uri,
)
from pwc_exp.tracking.record import Record

POINTS = [point(step) for step in range(10)]
EXPECTED = [(step, 1000 + step, float(step)) for step in range(10)]


@pytest.fixture
def started(root: Path) -> Path:
    """The folder of a run that no store knows yet, with ten points."""
    folder = root / RUN
    folder.mkdir(parents=True)
    Record.new("test", {}).save(folder)
    add(folder, POINTS)
    return folder


def add(folder: Path, points: Sequence[Point]) -> None:
    for each in points:
        journal.append(folder / journal.FILE, each)


def sync(root: Path, **changes: Any) -> Counter[str]:
    """Syncs as a new process does, and returns what was sent."""
    store = open_store(root, **changes)
    store.sync("FINISHED")
    return store.sent


def test_points_are_sent_in_parts_and_once(root: Path, started: Path) -> None:
    add(started, [point(step) for step in range(10, 1500)])
    store = open_store(root)
    store.sync(None)
    add(started, [point(1500)])
    store.sync(None)
    assert store.sent["points"] == 1501
    state = SyncState.load(started)
    assert state is not None
    assert state.acked == 1501
    state.acked = 700  # as if a process had been killed before it could note the rest
    state.save(started)
    assert sync(root)["points"] == 801
    assert len(metrics(root, "train/loss")) == 1501


def test_a_kill_before_the_state_is_written_doubles_nothing(
    root: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(root)
    with monkeypatch.context() as kill:

        def die(self: SyncState, run_dir: Path) -> None:
            raise KeyboardInterrupt

        kill.setattr(SyncState, "save", die)
        with pytest.raises(KeyboardInterrupt):
            store.sync(None)
    assert sync(root)["points"] == 10
    assert metrics(root, "train/loss") == EXPECTED
    assert sync(root).total() == 0


def test_points_are_on_the_disk_before_they_are_in_mlflow(
    root: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(root)
    order = []
    monkeypatch.setattr(storage, "sync_file", lambda path: order.append(path.name))
    monkeypatch.setattr(store._client, "log_batch", lambda *a, **k: order.append("log_batch"))
    store.sync(None)
    assert order == [journal.FILE, "log_batch"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"uri": "sqlite:///x"}'])
def test_a_run_whose_state_is_lost_is_found_by_its_uid(
    root: Path, started: Path, content: bytes | None
) -> None:
    sync(root)
    (started / STATE_FILE).unlink()
    if content is not None:
        (started / STATE_FILE).write_bytes(content)
    sync(root)
    assert metrics(root, "train/loss") == EXPECTED  # of the only run


def test_a_run_that_somebody_deleted_is_created_again(root: Path, started: Path) -> None:
    sync(root)
    client, first = in_mlflow(root)
    client.delete_run(first.info.run_id)
    sync(root)
    assert metrics(root, "train/loss") == EXPECTED
    assert in_mlflow(root)[1].info.run_id != first.info.run_id


def test_another_experiment_gets_the_whole_run(root: Path, started: Path) -> None:
    sync(root)
    sync(root, experiment="other")
    assert metrics(root, "train/loss") == EXPECTED
    state = SyncState.load(started)
    assert state is not None
    assert state.experiment == "other"


def test_params_stay_and_only_what_is_missing_is_sent(root: Path, started: Path) -> None:
    sync(root, params={"steps": 10, "schedule.lr": 0.1})
    again = sync(root, params={"steps": 20, "schedule.lr": 0.1, "new": "x" * 9000})
    assert again["params"] == 1
    params = in_mlflow(root)[1].data.params
    assert (params["steps"], params["schedule.lr"], len(params["new"])) == ("10", "0.1", 6000)


def test_tags_of_the_record_are_sent_when_they_change(root: Path, started: Path) -> None:
    store = open_store(root)
    record = Record.load(started)
    record.about["note"] = "first"
    record.mismatches = 2
    record.save(started)
    store.sync(None)
    record.about["note"] = "second" * 2000
    record.save(started)
    store.sync(None)
    tags = in_mlflow(root)[1].data.tags
    assert (tags["note"], tags["replay_mismatches"]) == (("second" * 2000)[:8000], "2")
    assert sync(root)["tags"] == 0


def test_pictures_and_data_sets_are_there_once(root: Path, started: Path) -> None:
    record = Record.load(started)
    record.add_dataset("synthetic", digest="12", sizes={"train": 64}, context="train")
    record.save(started)
    kept = Journal(started)
    kept.add_picture(3, "val/Ünï/a", TREE)
    for _ in range(2):
        store = open_store(root)
        for _ in range(2):
            store.sync(None)
    kept.add_picture(4, "val/Ünï/a", TREE)
    store.sync(None)
    assert images(root) == ["images/val~_n_~a+step+3", "images/val~_n_~a+step+4"]
    inputs = in_mlflow(root)[1].inputs.dataset_inputs
    assert [used.dataset.profile for used in inputs] == ['{"train": 64}']


def test_what_mlflow_refuses_does_not_hold_up_the_rest_and_is_sent_later(
    root: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Journal(started)
    for step in (1, 2, 3):
        kept.add_picture(step, "val/a", TREE)
    store = open_store(root)
    log_image = store._client.log_image

    def refuse(*arguments: Any, **options: Any) -> None:
        if options["step"] == 2:
            raise ValueError("no")
        log_image(*arguments, **options)

    with monkeypatch.context() as refusing:
        refusing.setattr(store._client, "log_image", refuse)
        with pytest.raises(ValueError, match="no"):
            store.sync("FINISHED")
    assert images(root) == ["images/val~a+step+1", "images/val~a+step+3"]
    assert in_mlflow(root)[1].info.status == "FINISHED"
    store.sync("FINISHED")
    assert len(images(root)) == 3


def test_an_artifact_is_sent_again_only_if_it_has_changed(root: Path, started: Path) -> None:
    checkpoint = root / "step-00000001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    (root / "config.yaml").write_text("a: 1")
    files = {"checkpoints/best": checkpoint, "config.yaml": root / "config.yaml"}
    files |= {"removed": root / "removed"}
    for expected in (2, 0):
        assert sync(root, artifacts=files)["artifacts"] == expected
    (checkpoint / "manifest.json").write_text('{"step": 1}')
    assert sync(root, artifacts=files)["artifacts"] == 1
    _, found = in_mlflow(root)
    kept = Path(found.info.artifact_uri.removeprefix("file://"))
    assert (kept / "checkpoints/best/manifest.json").read_text() == '{"step": 1}'


def test_status_follows_the_process(root: Path, started: Path) -> None:
    open_store(root).sync("KILLED", 5000)
    assert in_mlflow(root)[1].info.end_time == 5000
    again = open_store(root)
    assert in_mlflow(root)[1].info.status == "KILLED"
    again.sync(None)
    assert in_mlflow(root)[1].info.status == "RUNNING"
    again.sync("FINISHED")
    assert in_mlflow(root)[1].info.status == "FINISHED"


def test_load_of_the_machine_is_sent_only_by_the_process_that_trains(
    root: Path, started: Path
) -> None:
    sync(root)
    assert "system/cpu_utilization_percentage" not in in_mlflow(root)[1].data.metrics
    store = open_store(root, live=True)
    for step in (10, 11):
        add(started, [point(step)])
        store.sync(None)
    assert len(metrics(root, "system/cpu_utilization_percentage")) == 1


def test_address_is_the_option_then_the_environment_then_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert tracking_uri("http://a", tmp_path) == "http://a"
    assert tracking_uri(None, tmp_path) == "http://b"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(None, Path("o")) == f"sqlite:///{tmp_path}/o/mlflow/mlflow.db"


def test_a_run_stays_where_it_is_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    SyncState(uri="http://a:5000", experiment="", run_id="").save(tmp_path)
    assert destination(tmp_path, None, tmp_path) == "http://a:5000"
    assert destination(tmp_path, "http://b", tmp_path) == "http://b"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@a:5000")
    assert destination(tmp_path, None, tmp_path) == "http://me:secret@a:5000"
    SyncState(uri=f"sqlite:///{tmp_path}/moved.db", experiment="", run_id="").save(tmp_path)
    assert destination(tmp_path, None, tmp_path) == "http://me:secret@a:5000"
    (tmp_path / "moved.db").touch()
    assert destination(tmp_path, None, tmp_path) == f"sqlite:///{tmp_path}/moved.db"


def test_a_created_run_is_created_by_one_request(root: Path) -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    mlflow_store._import_mlflow()
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0


def newer(database: Path) -> None:
    with sqlite3.connect(database) as connected:
        connected.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def corrupt(database: Path) -> None:
    database.write_bytes(b"no database" * 1000)


@pytest.mark.parametrize("damage", [newer, corrupt])
def test_a_database_that_cannot_be_used_is_named_and_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: Any
) -> None:
    monkeypatch.setattr(tracker, "_CLOSE_SECONDS", 20.0)
    database = root / "outputs/mlflow/mlflow.db"
    damage(database)
    content = database.read_bytes()
    with make_tracker(root, mlflow=True) as tracking:
        tracking.scalars(0, {"train/loss": 1.0})
    assert f"MLflow at sqlite:///{database} does not take what is sent" in caplog.messages[0]
    assert caplog.messages[1].endswith(f"`python -m pwc_exp.sync {root / RUN}` sends the rest")
    assert database.read_bytes() == content
    assert len(journal.read(root / RUN / journal.FILE)) == 1


def test_full_disk_costs_the_run_a_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: MlflowStore, points: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(MlflowStore, "_send_metrics", refuse)
    with make_tracker(root, mlflow=True) as tracking:
        tracking.scalars(0, {"train/loss": 1.0})
    assert "disk is full" in caplog.messages[0]
    assert "is incomplete at the end of the run" in caplog.messages[-1]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [4])
def test_runs_that_start_at_once_share_a_new_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[3]); from tracked import make_tracker\n"
        "folder = pathlib.Path(sys.argv[1]); tracker = make_tracker(folder, mlflow=True)\n"
        "tracker.run_dir = folder / 'outputs' / sys.argv[2]\n"
        "with tracker: tracker.scalars(0, {'train/loss': 1.0})"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, f"run{number}", Path(__file__).parent],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for process in started:
        errors = process.communicate()[1]
        assert (process.returncode, errors) == (0, "")
    with sqlite3.connect(tmp_path / "outputs/mlflow/mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (processes,)
        finished = database.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'")
        assert finished.fetchone() == (processes,)
        points = database.execute("SELECT count(*) FROM metrics WHERE key = 'train/loss'")
        assert points.fetchone() == (processes,)


def test_a_run_in_a_moved_folder_is_looked_for_there(root: Path, started: Path) -> None:
    sync(root)
    place = json.loads((started / STATE_FILE).read_text())
    moved = root / "elsewhere"
    shutil.move(root / "outputs", moved)
    assert destination(moved / "test/run", None, moved) == f"sqlite:///{moved}/mlflow/mlflow.db"
    assert not Path(place["uri"].removeprefix("sqlite:///")).exists()
