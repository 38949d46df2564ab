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
from pathlib import Path
from typing import Any

import mlflow.store.tracking.sqlalchemy_store
import mlflow.system_metrics.metrics.gpu_monitor  # noqa: F401
from tracked import TREE, make_tracker

import pwc_exp.tracking.tensorboard_store  # noqa: F401
from pwc_exp import storage
from pwc_exp.tracking import tracker as tracker_module

sys.path.append(str(Path(__file__).parents[1] / "kills"))
from kill_points import BY_NAME, install

SAVE_EVERY = 5
PICTURE_EVERY = 4


def main(root: Path, point: str, end: int) -> None:
    tracker_module.PERIOD = 0.05
    storage.remove_leftovers(root)
    checkpoint = root / "checkpoint"
    start = int(checkpoint.read_text()) if checkpoint.exists() else None
    if point:
        install(BY_NAME[point], root / "mark")
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
