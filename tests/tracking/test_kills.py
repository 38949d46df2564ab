"""Killed anywhere, any number of times, a run is in the end as if it had not been."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracked import RUN, images, in_mlflow, metrics, shown

from pwc_exp.tracking import journal

WORKER = Path(__file__).with_name("worker.py")
POINTS = (
    *(
        "uid_written",
        "tb_made",
        "ml_created",
        "ml_placed",
        "ml_before",
        "ml_sent",
        "ml_acked",
        "ml_picture",
    ),
    *(
        "j_torn",
        "j_written",
        "j_repaired",
        "tb_made",
        "tb_half",
        "tb_written",
        "tb_noted",
        "resumed",
        "pic_written",
    ),
    *("ended", "ml_term"),
)
STEPS = list(range(1, 61))
PICTURED = STEPS[3::4]


def start(root: Path, point: str, end: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(WORKER), str(root), point, str(end)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(root: Path) -> None:
    process = start(root, "none", STEPS[-1])
    errors = process.communicate()[1]
    assert (process.returncode, errors) == (0, "")


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
    assert shown(root) == {
        "train/loss": STEPS,
        "time/data_wait": STEPS,
        "val/a": PICTURED,
    }
    assert images(root) == sorted(f"images/val~a+step+{step}" for step in PICTURED)
    assert [path for path in root.rglob(".*") if path.name.startswith((".tmp-", ".del-"))] == []
    with sqlite3.connect(root / "outputs/mlflow/mlflow.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_run_survives_a_kill_at_every_named_point(root: Path) -> None:
    for number, point in enumerate(POINTS, start=1):
        process = start(root, point, 3 * number)
        errors = process.communicate()[1]
        assert (point, process.returncode) == (point, -signal.SIGKILL)
        assert "Traceback" not in errors
    finish(root)
    check(root)


@pytest.mark.slow
def test_a_run_survives_kills_at_any_time(root: Path) -> None:
    chance = random.Random(0)
    for _ in range(10):
        process = start(root, "none", STEPS[-1])
        time.sleep(chance.uniform(0.5, 6))
        process.kill()
        assert "Traceback" not in process.communicate()[1]
    finish(root)
    check(root)
