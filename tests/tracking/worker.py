"""Runs for the tests of kills, each in a process that is forked from this one.

Reads jobs, a line of JSON each: [root, point, step, seconds]. A job trains to `step`, resuming from
its last checkpoint, which is a number in a file; it dies at `point`, or is killed after `seconds`.
Answers with the exit code. Forked, because imports take longer than the run.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.store.tracking.sqlalchemy_store
import mlflow.system_metrics.metrics.gpu_monitor
from tracked import TREE, make_tracker

from pwc_exp import storage
from pwc_exp.tracking import journal, sync
from pwc_exp.tracking.mlflow_store import MlflowStore, SyncState
from pwc_exp.tracking.record import Record
from pwc_exp.tracking.tensorboard_store import EventFile

SAVE_EVERY = 5
PICTURE_EVERY = 4
APPEND = storage.append


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tear(path: Path, line: str) -> None:
    with path.open("a", encoding="latin1") as file:
        file.write(line[: len(line) // 2])
    die()


def tear_events(path: Path, data: bytes) -> None:
    if "tfevents" in path.name:
        tear(path, data.decode("latin1"))
    APPEND(path, data)


def after_events(path: Path, data: bytes) -> None:
    APPEND(path, data)
    if "tfevents" in path.name:
        die()


def after(call: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    calls = iter(range(1, times))

    def dying(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        if next(calls, None) is None:
            die()
        return result

    return dying


# Where a process is killed: what is replaced, by what.
POINTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "uid_written": (Record, "save", after(Record.save)),
    "ml_created": (mlflow.MlflowClient, "create_run", after(mlflow.MlflowClient.create_run)),
    "ml_placed": (SyncState, "save", after(SyncState.save)),
    "ml_before": (MlflowStore, "_send_metrics", die),
    "ml_sent": (MlflowStore, "_send_metrics", after(MlflowStore._send_metrics)),
    "ml_acked": (SyncState, "save", after(SyncState.save)),
    "ml_picture": (mlflow.MlflowClient, "log_image", after(mlflow.MlflowClient.log_image)),
    "ml_term": (MlflowStore, "_set_status", die),
    "j_torn": (storage, "append_line", tear),
    "j_written": (journal, "append", after(journal.append, 2)),
    "j_repaired": (journal, "repair", after(journal.repair)),
    "pic_written": (journal, "write_picture", after(journal.write_picture)),
    "tb_made": (EventFile, "_make", after(EventFile._make)),
    "tb_half": (storage, "append", tear_events),
    "tb_written": (storage, "append", after_events),
    "tb_noted": (EventFile, "_write", after(EventFile._write, 2)),
    "resumed": (Record, "resume", after(Record.resume)),
    "ended": (Record, "end", after(Record.end)),
}


def main(root: Path, point: str, end: int) -> None:
    sync.PERIOD = 0.05
    storage.remove_leftovers(root)
    checkpoint = root / "checkpoint"
    start = int(checkpoint.read_text()) if checkpoint.exists() else None
    if point in POINTS:
        setattr(*POINTS[point])
    stores: dict[str, Any] = {"mlflow": True, "tensorboard": True, "resumed_at": start}
    with make_tracker(root, **stores) as tracker:
        for step in range((start or 0) + 1, end + 1):
            tracker.scalars(step, {"train/loss": 1 / step, "time/data_wait": time.time()})
            if step % PICTURE_EVERY == 0:
                tracker.image(step, "val/a", TREE)
            time.sleep(0.02)
            if step % SAVE_EVERY == 0:
                tracker.flush()
                storage.write_file(checkpoint, str(step).encode())


def serve() -> None:
    for line in sys.stdin:
        root, point, end, seconds = json.loads(line)
        process = os.fork()
        if not process:
            os.dup2(os.open(Path(root, "stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            try:
                main(Path(root), point, end)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        if seconds:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
