"""The run in MLflow: one of it, each point and picture once, whenever a process was killed."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tracked import RUN, TREE, images, in_mlflow, make_run, make_tracker, metrics, point

from pwc_exp import storage
from pwc_exp.tracking import connection, journal, ledger, tracker
from pwc_exp.tracking.connection import tracking_uri
from pwc_exp.tracking.events import Artifact, Dataset, Picture, Tag
from pwc_exp.tracking.ledger import Ledger, destination
from pwc_exp.tracking.mlflow_run import MlflowRun
from pwc_exp.tracking.record import Record


@pytest.fixture
def started(root: Path) -> Path:
    """The folder of a run that no store knows yet, with its journal."""
    folder = root / RUN
    folder.mkdir(parents=True)
    Record.new("test", {}).save(folder)
    for step in range(10):
        journal.append(folder / journal.FILE, point(step))
    return folder


POINTS = [point(step) for step in range(10)]
EXPECTED = [(step, 1000 + step, float(step)) for step in range(10)]


def test_points_sent_twice_are_there_once(root: Path, started: Path) -> None:
    points = [point(step) for step in range(1500)]
    make_run(root).send_points(points)
    run = make_run(root)
    run._ledger.acked = 700
    run.send_points(points)
    assert run.sent["points"] == 800
    assert len(metrics(root, "train/loss")) == 1500


def test_a_kill_before_the_ledger_is_written_doubles_nothing(
    root: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(root)
    run.send_points(POINTS[:4])
    with monkeypatch.context() as kill:

        def die(self: Ledger, run_dir: Path) -> None:
            raise KeyboardInterrupt

        kill.setattr(Ledger, "save", die)
        with pytest.raises(KeyboardInterrupt):
            run.send_points(POINTS[4:8])
    again = make_run(root)
    again.send_points(POINTS)
    assert again.sent["points"] == 6
    assert metrics(root, "train/loss") == EXPECTED


def test_what_has_arrived_is_not_sent_again(root: Path, started: Path) -> None:
    make_run(root).send_points(POINTS)
    again = make_run(root)
    again.send_points(POINTS[:3])
    again.send_points(POINTS[3:])
    assert again.sent.total() == 0
    again.send_points([point(10)])
    assert again.sent["points"] == 1
    assert metrics(root, "train/loss") == [*EXPECTED, (10, 1010, 10.0)]


def test_points_are_on_the_disk_before_they_are_in_mlflow(
    root: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(root)
    order = []
    monkeypatch.setattr(storage, "sync_file", lambda path: order.append(path.name))
    monkeypatch.setattr(run._client, "log_batch", lambda *a, **k: order.append("log_batch"))
    run.send_points(POINTS)
    assert order == [journal.FILE, "log_batch"]


def test_a_run_whose_ledger_was_never_written_is_found_by_its_uid(
    root: Path, started: Path
) -> None:
    make_run(root).send_points(POINTS)
    (started / ledger.FILE).unlink()
    make_run(root).send_points(POINTS)
    assert metrics(root, "train/loss") == EXPECTED  # of the only run


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"uri": "sqlite:///x"}'])
def test_a_damaged_ledger_is_made_again(root: Path, started: Path, content: bytes) -> None:
    make_run(root)
    (started / ledger.FILE).write_bytes(content)
    make_run(root).send_points(POINTS)
    assert metrics(root, "train/loss") == EXPECTED


def test_a_run_that_somebody_deleted_is_made_anew(root: Path, started: Path) -> None:
    make_run(root).send_points(POINTS)
    client, first = in_mlflow(root)
    client.delete_run(first.info.run_id)
    make_run(root).send_points(POINTS)
    assert metrics(root, "train/loss") == EXPECTED
    assert in_mlflow(root)[1].info.run_id != first.info.run_id


def test_another_experiment_gets_the_whole_run(root: Path, started: Path) -> None:
    make_run(root).send_points(POINTS)
    make_run(root, experiment="other").send_points(POINTS)
    assert metrics(root, "train/loss") == EXPECTED
    assert Ledger.load(started).experiment == "other"  # type: ignore[union-attr]


def test_params_stay_and_only_what_is_missing_is_sent(root: Path, started: Path) -> None:
    make_run(root, params={"steps": 10, "schedule.lr": 0.1})
    again = make_run(root, params={"steps": 20, "schedule.lr": 0.1, "new": "x" * 9000})
    assert again.sent["params"] == 1
    params = in_mlflow(root)[1].data.params
    assert (params["steps"], params["schedule.lr"], len(params["new"])) == ("10", "0.1", 6000)


def test_pictures_and_data_sets_are_there_once(root: Path, started: Path) -> None:
    picture = Picture(3, 1003, "val/Ünï/a", TREE)
    dataset = Dataset("synthetic", "12", {"train": 64}, "train")
    for _ in range(2):
        run = make_run(root)
        for _ in range(2):
            run.send_item(picture)
            run.send_item(dataset)
    run.send_item(picture._replace(step=4))
    assert images(root) == ["images/val~_n_~a+step+3", "images/val~_n_~a+step+4"]
    inputs = in_mlflow(root)[1].inputs.dataset_inputs
    assert [used.dataset.profile for used in inputs] == ['{"train": 64}']


def test_an_artifact_is_sent_again_only_if_it_has_changed(root: Path, started: Path) -> None:
    checkpoint = root / "step-00000001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    (root / "config.yaml").write_text("a: 1")
    for expected in (2, 0):
        run = make_run(root)
        run.send_item(Artifact(checkpoint, "checkpoints/best"))
        run.send_item(Artifact(root / "config.yaml", ""))
        run.send_item(Artifact(root / "removed", ""))
        assert run.sent["artifacts"] == expected
    (checkpoint / "manifest.json").write_text('{"step": 1}')
    run.send_item(Artifact(checkpoint, "checkpoints/best"))
    assert run.sent["artifacts"] == 1
    _, found = in_mlflow(root)
    kept = Path(found.info.artifact_uri.removeprefix("file://"))
    assert (kept / "checkpoints/best/manifest.json").read_text() == '{"step": 1}'


def test_status_follows_the_process(root: Path, started: Path) -> None:
    run = make_run(root)
    run.close("KILLED", 5000)
    assert in_mlflow(root)[1].info.end_time == 5000
    again = make_run(root)
    assert in_mlflow(root)[1].info.status == "KILLED"
    again.go_on()
    assert in_mlflow(root)[1].info.status == "RUNNING"
    again.send_item(Tag("replay_mismatches", "2"))
    again.close("FINISHED")
    _, found = in_mlflow(root)
    assert found.info.status == "FINISHED"
    assert found.data.tags["replay_mismatches"] == "2"


def test_load_of_the_machine_is_sent_only_by_the_process_that_trains(
    root: Path, started: Path
) -> None:
    make_run(root).send_points(POINTS[:5])
    assert "system/cpu_utilization_percentage" not in in_mlflow(root)[1].data.metrics
    run = make_run(root)
    run.go_on()
    run.send_points(POINTS)
    assert "system/cpu_utilization_percentage" in in_mlflow(root)[1].data.metrics
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
    Ledger(uri="http://a:5000", experiment="", run_id="").save(tmp_path)
    assert destination(tmp_path, None, tmp_path) == "http://a:5000"
    assert destination(tmp_path, "http://b", tmp_path) == "http://b"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@a:5000")
    assert destination(tmp_path, None, tmp_path) == "http://me:secret@a:5000"
    Ledger(uri=f"sqlite:///{tmp_path}/moved.db", experiment="", run_id="").save(tmp_path)
    assert destination(tmp_path, None, tmp_path) == "http://me:secret@a:5000"
    (tmp_path / "moved.db").touch()
    assert destination(tmp_path, None, tmp_path) == f"sqlite:///{tmp_path}/moved.db"


def test_a_created_run_is_created_by_one_request(root: Path) -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    connection._set_up_environment()
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
    def refuse(self: MlflowRun, points: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(MlflowRun, "_send_metrics", refuse)
    with make_tracker(root, mlflow=True) as tracking:
        tracking.scalars(0, {"train/loss": 1.0})
    assert "disk is full" in caplog.messages[0]
    assert "1 entries were not sent" in caplog.messages[1]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [4])
def test_runs_that_start_at_once_share_a_new_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[3]); from tracked import make_tracker\n"
        "folder = pathlib.Path(sys.argv[1]); tracker = make_tracker(folder, mlflow=True)\n"
        "tracker._run_dir = folder / 'outputs' / sys.argv[2]\n"
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
    make_run(root).send_points(POINTS)
    place = json.loads((started / ledger.FILE).read_text())
    moved = root / "elsewhere"
    shutil.move(root / "outputs", moved)
    assert destination(moved / "test/run", None, moved) == f"sqlite:///{moved}/mlflow/mlflow.db"
    assert not Path(place["uri"].removeprefix("sqlite:///")).exists()
