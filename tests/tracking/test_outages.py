"""A server that dies and comes back, a database that is locked: nothing is lost or held up."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tracked import RUN, TREE, images, in_mlflow, make_tracker, metrics, shown

from pwc_exp.tracking import Tracker, journal, tracker
from pwc_exp.tracking.mlflow_store import SyncState

PATIENCE = 180.0  # seconds, for a server to start and for points to arrive


@contextmanager
def server(root: Path, port: int) -> Iterator[None]:
    """A server of the database in `root`, killed at the end without notice."""
    database, files = root / "outputs/mlflow/mlflow.db", root / "files"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(files)]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (root / "server.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True
        )
    try:
        wait_for(lambda: answers(port))
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "this takes too long"
        time.sleep(0.1)


def arrived(root: Path, points: int) -> bool:
    state = SyncState.load(root / RUN)
    return state is not None and state.acked == points


def train(tracker: Tracker, steps: range) -> list[float]:
    """How long each call took, in seconds."""
    waits = []
    for step in steps:
        start = time.perf_counter()
        tracker.scalars(step, {"train/loss": 1 / (step + 1)})
        if step % 10 == 0:
            tracker.image(step, "val/a", TREE)
        waits.append(time.perf_counter() - start)
        time.sleep(0.01)
    return waits


def check(root: Path) -> None:
    points = journal.read(root / RUN / journal.FILE)
    assert metrics(root, "train/loss") == [
        (point.step, point.time, point.values["train/loss"]) for point in points
    ]
    assert len(points) == 150
    assert in_mlflow(root)[1].info.status == "FINISHED"
    pictured = range(0, 150, 10)
    assert images(root) == sorted(f"images/val~a+step+{step}" for step in pictured)
    assert shown(root) == {"train/loss": list(range(150)), "val/a": list(pictured)}


@pytest.mark.slow
def test_a_server_that_comes_and_goes_gets_everything_and_holds_up_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "_LONGEST_PAUSE", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    with ExitStack() as run:
        told = run.enter_context(make_tracker(root, mlflow=True, tensorboard=True, uri=uri))
        waits = train(told, range(50))
        with server(root, port):
            wait_for(lambda: arrived(root, 50))
        waits += train(told, range(50, 100))
        assert arrived(root, 50)
        with server(root, port):
            wait_for(lambda: arrived(root, 100))
            waits += train(told, range(100, 150))
            run.close()
            check(root)
    print(f"worst call {1000 * max(waits):.1f} ms, mean {1000 * sum(waits) / len(waits):.2f} ms")
    assert max(waits) < 1.0  # a request that waits for the server takes 10 s


@pytest.mark.slow
def test_a_database_that_is_locked_for_long_gets_everything_afterwards(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make_tracker(root, mlflow=True) as tracker:
        waits = train(tracker, range(20))
        wait_for(lambda: arrived(root, 20))
        with sqlite3.connect(root / "outputs/mlflow/mlflow.db") as database:
            database.execute("BEGIN EXCLUSIVE")
            waits += train(tracker, range(20, 40))
            time.sleep(30)  # MLflow itself waits for 20 seconds
    assert [step for step, _, _ in metrics(root, "train/loss")] == list(range(40))
    assert "database is locked" in caplog.messages[0]
    assert len(caplog.messages) == 1
    print(f"worst call {1000 * max(waits):.1f} ms")
    assert max(waits) < 1.0
