"""Killed anywhere, any number of times, a run is in the end as if it had not been."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracked import RUN, images, in_mlflow, metrics, shown

from pwc_exp.tracking import journal

WORKER = Path(__file__).with_name("worker.py")
POINTS = (  # of tests/kills/kill_points.py
    *("record_written", "events_made", "create_after", "acked", "metrics_before", "metrics_after"),
    *("picture_after", "line_half", "line_after", "repaired", "png_written", "event_half"),
    *("event_after", "events_noted", "resume_half", "terminate_before", "end_recorded"),
)
STEPS = list(range(1, 61))
PICTURED = STEPS[3::4]


@pytest.fixture(scope="module")
def server() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, str(WORKER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


def run(server: "subprocess.Popen[str]", root: Path, point: str, end: int, after: float = 0) -> int:
    """Trains in another process, and returns its exit code. after: seconds to a kill; 0: none."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps([str(root), point, end, after]) + "\n")
    server.stdin.flush()
    code = int(server.stdout.readline())
    assert "Traceback" not in (root / "stderr").read_text()
    return code


def finish(server: "subprocess.Popen[str]", root: Path) -> None:
    assert (run(server, root, "", STEPS[-1]), (root / "stderr").read_text()) == (0, "")


def check(root: Path) -> None:
    points = journal.read(root / RUN / journal.FILE)
    assert [point.step for point in points] == STEPS
    assert metrics(root, "train/loss") == [
        (point.step, point.time, point.values["train/loss"]) for point in points
    ]
    assert [point.values["train/loss"] for point in points] == [1 / step for step in STEPS]
    assert len(metrics(root, "time/data_wait")) == len(STEPS)
    run = in_mlflow(root)[1]  # the only one
    assert run.info.status == "FINISHED"
    assert "replay_mismatches" not in run.data.tags
    assert shown(root) == {"train/loss": STEPS, "time/data_wait": STEPS, "val/a": PICTURED}
    assert images(root) == sorted(f"images/val~a+step+{step}" for step in PICTURED)
    assert [path for path in root.rglob(".*") if path.name.startswith((".tmp-", ".del-"))] == []
    with sqlite3.connect(root / "outputs/mlflow/mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_run_survives_a_kill_at_every_named_point(
    server: "subprocess.Popen[str]", root: Path
) -> None:
    for number, point in enumerate(POINTS, start=1):
        code = run(server, root, point, 3 * number)
        assert (point, code) == (point, -signal.SIGKILL)
    finish(server, root)
    check(root)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_survives_kills_at_any_time(
    server: "subprocess.Popen[str]", root: Path, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        run(server, root, "", STEPS[-1], after=chance.uniform(0.01, 2))
    finish(server, root)
    check(root)
