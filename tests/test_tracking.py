"""Tracking: every point reaches journal, TensorBoard and MLflow once, and no store stops a run."""

import io
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pwc_exp.errors import OutputError
from pwc_exp.tracking import Tracker, journal, provenance, sender
from pwc_exp.tracking.events import Artifact, Event, Item, Picture, Point, Text
from pwc_exp.tracking.mlflow_run import MlflowRun, tracking_uri
from pwc_exp.tracking.sender import Sender

TREE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
FAR = 30.0  # seconds that no test takes


def make_tracker(root: Path, **changes: Any) -> Tracker:
    options: dict[str, Any] = {
        "run_name": "test",
        "params": {},
        "tags": {},
        "uri": None,
        "experiment": "pwc_exp",
        "outputs": root / "outputs",
        "mlflow": False,
        "tensorboard": False,
    }
    return Tracker(root / "outputs/test/run", **(options | changes))


def point(step: int, **values: float) -> Point:
    return Point(step, 1000 + step, values or {"train/loss": float(step)})


class FakeStore:
    """Remembers what it gets; refuses while `refusing`, and hangs while `hanging` is clear."""

    def __init__(self) -> None:
        self.calls: list[list[Event]] = []
        self.status = ""
        self.refusing: Callable[[Sequence[Event]], bool] = lambda events: False
        self.hanging = threading.Event()
        self.hanging.set()
        self.reached = threading.Event()

    def send_points(self, points: Sequence[Point]) -> None:
        self._take(points)

    def send_item(self, item: Item) -> None:
        self._take([item])

    def close(self, status: str) -> None:
        self.status = status

    def _take(self, events: Sequence[Event]) -> None:
        self.reached.set()
        self.hanging.wait()
        if self.refusing(events):
            raise ConnectionError("nobody\nthere")
        self.calls.append(list(events))

    @property
    def events(self) -> list[Event]:
        return [event for call in self.calls for event in call]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: copying it is 100 times faster than making one."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowRun(folder, run_name="", tags={}, uri=None, experiment="first", outputs=folder)
    return folder / "mlflow/mlflow.db"


@pytest.fixture
def root(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose outputs/ has that database."""
    (tmp_path / "outputs/mlflow").mkdir(parents=True)
    shutil.copy(database, tmp_path / "outputs/mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tracked(root: Path) -> tuple[Any, Any]:
    """The client, and the run of `make_tracker`."""
    import mlflow

    place = json.loads((root / "outputs/test/run/mlflow.json").read_text())
    client = mlflow.MlflowClient(place["uri"])
    return client, client.get_run(place["run_id"])


def test_journal_gives_back_the_same_bits(tmp_path: Path) -> None:
    values = {"a": 0.1, "b": 1e-320, "c": math.inf, "d": -math.inf, "e": float(np.float32(1 / 3))}
    points = [point(0, **values), point(1, nan=math.nan), point(2)]
    for written in points:
        journal.append(tmp_path / "metrics.jsonl", written)
    read = journal.read(tmp_path / "metrics.jsonl")
    assert repr(read) == repr(points)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (0, 1):
        journal.append(path, point(step))
    path.write_bytes(path.read_bytes()[:-3])
    assert [read.step for read in journal.read(path)] == [0]


def test_unwritable_journal_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "outputs/test/run/metrics.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"metrics.jsonl"), make_tracker(tmp_path) as tracker:
        tracker.scalars(0, {"train/loss": 1.0})


def test_tracker_without_stores_writes_only_the_run_folder(tmp_path: Path) -> None:
    with make_tracker(tmp_path, tags={"kind": "train"}) as tracker:
        tracker.scalars(5, {"train/loss": np.float32(0.5)})
        tracker.image(5, "val/a", TREE)
        tracker.artifact(tmp_path, "checkpoints")
        tracker.text("config.yaml", "")
        tracker.dataset("synthetic", digest="12", sizes={"train": 1}, context="train")
    run_dir = tmp_path / "outputs/test/run"
    assert sorted(path.name for path in run_dir.iterdir()) == ["metrics.jsonl", "run.json"]
    assert list(tmp_path.rglob("mlflow*")) == []
    assert [read.values for read in journal.read(run_dir / "metrics.jsonl")] == [
        {"train/loss": 0.5}
    ]
    about = json.loads((run_dir / "run.json").read_text())
    assert about["name"] == "test"
    assert about["kind"] == "train"
    assert "python" in about["command"]
    assert about["python"].startswith("3.")


def test_importing_and_disabling_it_loads_no_store() -> None:
    code = (
        "import sys, pwc_exp.tracking;"
        "print([name for name in ('mlflow', 'tensorboard', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("pixels", [TREE[..., :1], TREE[None], TREE / 255.0])
def test_picture_of_another_kind_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with make_tracker(tmp_path) as tracker, pytest.raises(ValueError, match="val/a"):
        tracker.image(0, "val/a", pixels)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (ValueError(), "FAILED"),
    ],
)
def test_run_ends_in_the_store_as_it_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    status: str,
) -> None:
    store = FakeStore()
    monkeypatch.setattr(Tracker, "_open_mlflow", lambda self: store)
    expectation = pytest.raises(type(error)) if error else nullcontext()
    with expectation, make_tracker(tmp_path, mlflow=True):
        if error:
            raise error
    assert store.status == status


def test_mlflow_holds_the_whole_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # MLflow's own start_run would continue that one
    checkpoint = root / "step-00000001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    params = {"model.levels": 6, "loss.weights[0]": 0.32, "long": "x" * 9000}
    params |= {f"many.{number}": number for number in range(120)}
    keys = ["val/Ünï,+@=", "../up", "/abs", "a//b", "."]
    with make_tracker(root, mlflow=True, params=params, tags={"kind": "train"}) as tracker:
        for step in range(3):
            tracker.scalars(step, {"train/loss": 1 / (step + 1), "val/nan": math.nan})
        tracker.scalars(3, dict.fromkeys(keys, 1.0))
        tracker.image(0, "val/alley_1/frame_0001", TREE)
        tracker.artifact(checkpoint, "checkpoints/best")
        tracker.artifact(root / "removed", "checkpoints/last")
        tracker.text("config.yaml", "a: 1")
        tracker.dataset("synthetic", digest="12" * 32, sizes={"val": 64}, context="train")

    client, run = tracked(root)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test"
    assert run.data.tags["kind"] == "train"
    assert run.data.tags["mlflow.source.name"] != ""
    assert run.data.params.items() >= {"model.levels": "6", "loss.weights_0_": "0.32"}.items()
    assert len(run.data.params) == len(params)
    points = journal.read(root / "outputs/test/run/metrics.jsonl")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.timestamp, metric.value) for metric in history] == [
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
    assert sorted(path.name for path in root.iterdir()) == ["outputs", "step-00000001"]


def test_points_sent_twice_are_there_once(root: Path) -> None:
    run_dir = root / "outputs/test/run"
    run_dir.mkdir(parents=True)
    run = MlflowRun(
        run_dir, run_name="", tags={}, uri=None, experiment="a", outputs=root / "outputs"
    )
    points = [point(step) for step in range(1500)]
    run.send_points(points)
    run.send_points(points[700:])
    client, found = tracked(root)
    assert len(client.get_metric_history(found.info.run_id, "train/loss")) == 1500


def test_runs_that_start_at_once_share_a_new_database(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from pwc_exp.tracking.mlflow_run import MlflowRun;"
        "folder = pathlib.Path(sys.argv[1]); run_dir = folder / sys.argv[2]; run_dir.mkdir();"
        "MlflowRun(run_dir, run_name='', tags={}, uri=None, experiment='a', outputs=folder)"
    )
    environment = {**os.environ}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name in ("run1", "run2")
    ]
    for process in started:
        errors = process.communicate()[1]
        assert (process.returncode, errors) == (0, "")


def test_address_is_the_option_then_the_environment_then_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert tracking_uri("http://a", tmp_path) == "http://a"
    assert tracking_uri(None, tmp_path) == "http://b"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(None, Path("o")) == f"sqlite:///{tmp_path}/o/mlflow/mlflow.db"


def test_dead_server_costs_a_warning_and_no_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waits = []
    with make_tracker(tmp_path, mlflow=True, uri="http://name:secret@127.0.0.1:9") as tracker:
        for step in range(200):
            start = time.perf_counter()
            tracker.scalars(step, {"train/loss": 1.0})
            waits.append(time.perf_counter() - start)
        start = time.perf_counter()
    assert time.perf_counter() - start < FAR
    assert sorted(waits)[len(waits) // 2] < 0.05
    assert len(journal.read(tmp_path / "outputs/test/run/metrics.jsonl")) == 200
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("MLflow does not take what is sent; the run goes on")
    assert messages[1] == "MLflow is incomplete: 201 entries were not sent when the run ended."


def test_event_file_holds_all_points_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    with make_tracker(tmp_path, tensorboard=True, params={"a": 1}) as tracker:
        for step in range(20):
            tracker.scalars(step, {"train/loss": step / 2, "val/nan": math.nan})
        for step in (0, 10):
            tracker.image(step, "val/alley_1/frame_0001", TREE)
    points = journal.read(tmp_path / "outputs/test/run/metrics.jsonl")
    folder = tmp_path / "outputs/test/run/tensorboard"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()

    losses = events.Tensors("train/loss")
    assert [(event.step, round(event.wall_time * 1000)) for event in losses] == [
        (written.step, written.time) for written in points
    ]
    assert [float(tensor_util.make_ndarray(event.tensor_proto)) for event in losses] == [
        step / 2 for step in range(20)
    ]
    assert len(events.Tensors("val/nan")) == 20
    pictures = events.Tensors("val/alley_1/frame_0001")
    assert [event.step for event in pictures] == [0, 10]
    width, height, png = tensor_util.make_ndarray(pictures[0].tensor_proto)
    assert (width, height) == (b"8", b"6")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(png))), TREE)
    for key, plugin in (("train/loss", "scalars"), ("val/alley_1/frame_0001", "images")):
        assert events.SummaryMetadata(key).plugin_data.plugin_name == plugin


def close(sending: Sender, seconds: float = FAR) -> None:
    sending.close("FINISHED", deadline=time.monotonic() + seconds)


def test_events_arrive_in_order_and_waiting_points_together() -> None:
    store = FakeStore()
    sending = Sender("Store", lambda: store)
    events: list[Event] = [
        Text("a", ""),
        point(0),
        point(1),
        Text("b", ""),
        Text("c", ""),
        point(2),
    ]
    store.hanging.clear()
    for event in events:
        sending.put(event)
    store.hanging.set()
    close(sending)
    assert store.calls == [events[:1], events[1:3], events[3:4], events[4:5], events[5:]]
    assert store.status == "FINISHED"


def test_points_wait_until_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)
    store = FakeStore()
    refusals = iter([True] * 9)
    store.refusing = lambda events: next(refusals, False)
    sending = Sender("Store", lambda: store)
    sending.put(point(0))
    store.reached.wait(FAR)
    for step in range(1, 100):
        sending.put(point(step))
    deadline = time.monotonic() + FAR
    while not store.calls and time.monotonic() < deadline:
        time.sleep(0.001)
    close(sending)
    assert store.events == [point(step) for step in range(100)]
    assert [record.getMessage() for record in caplog.records] == [
        "Store does not take what is sent; the run goes on (ConnectionError: nobody there)"
    ]


def test_what_the_store_refuses_does_not_hold_up_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)
    store = FakeStore()
    store.refusing = lambda events: isinstance(events[0], Text)
    sending = Sender("Store", lambda: store)
    events: list[Event] = [Text("a", ""), point(0), Text("b", ""), point(1)]
    for event in events:
        sending.put(event)
    close(sending)
    assert store.events == [point(0), point(1)]


def test_store_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.hanging.clear()
    sending = Sender("Store", lambda: store)
    sending.put(Text("a", ""))
    store.reached.wait(FAR)
    sending.put(point(0))
    start = time.monotonic()
    close(sending, seconds=0.1)
    assert time.monotonic() - start < 5
    assert caplog.messages == ["Store is incomplete: 1 entries were not sent when the run ended."]
    store.hanging.set()


def test_points_that_the_store_never_took_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.refusing = lambda events: True
    sending = Sender("Store", lambda: store)
    sending.put(point(0))
    store.reached.wait(FAR)
    sending.put(point(1))
    close(sending)
    assert caplog.messages[1:] == [
        "Store is incomplete: 2 entries were not sent when the run ended."
    ]


def test_store_that_never_opens_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)

    def refuse() -> FakeStore:
        raise ImportError("no such module")

    sending = Sender("Store", refuse)
    sending.put(point(0))
    close(sending)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no such module" in caplog.messages[0]
    assert "1 entries were not sent" in caplog.messages[1]


def test_waiting_pictures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MAX_PICTURES", 2)
    store = FakeStore()
    store.hanging.clear()
    sending = Sender("Store", lambda: store)
    sending.put(Text("first", ""))
    store.reached.wait(FAR)
    for step in range(5):
        sending.put(Picture(step, 0, "val/a", TREE))
        sending.put(point(step))
    store.hanging.set()
    close(sending)
    assert [event.step for event in store.events if isinstance(event, Picture)] == [3, 4]
    assert [event.step for event in store.events if isinstance(event, Point)] == list(range(5))


def test_only_the_newest_of_artifacts_for_one_place_is_sent(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("step1", "step2", "config", "report")]
    for path in paths[:2]:
        path.mkdir()
    for path in paths[2:]:
        path.touch()
    store = FakeStore()
    store.hanging.clear()
    sending = Sender("Store", lambda: store)
    sending.put(Text("first", ""))
    store.reached.wait(FAR)
    for path, folder in zip(paths, ["best", "best", "about", "about"], strict=True):
        sending.put(Artifact(path, folder))
    store.hanging.set()
    close(sending)
    assert [event.path for event in store.events if isinstance(event, Artifact)] == paths[1:]


def test_commit_is_that_of_the_checkout_that_tracks_the_package(tmp_path: Path) -> None:
    package = tmp_path / "repo/package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert provenance.git_state(package) == {}
    git("init", "..")
    git("commit", "--allow-empty", "-m", "of another project")
    assert provenance.git_state(package) == {}  # as in a virtual environment inside a checkout
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance.git_state(package) == {"commit": commit, "dirty": "false"}
    (package / "new.py").touch()
    assert provenance.git_state(package) == {"commit": commit, "dirty": "true"}


def test_passwords_are_cut_out_of_addresses() -> None:
    command = "python -m pwc_exp.train tracking.uri=http://me:secret@host:5000/a@b data.root=/c@d"
    shown = "python -m pwc_exp.train tracking.uri=http://host:5000/a@b data.root=/c@d"
    assert provenance.without_password(command) == shown
