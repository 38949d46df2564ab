"""Replaces `python -m pwc_exp.train` in tests of sweeps: fills a run's folder, in no time.

The AEPE that it reports is steps / (1 + seed). seed=13 fails as a bug does, 14 as a user's mistake,
15 dies, 16 ends before it writes; 20 and more run until the file `go` is there or until they are
asked to stop. With a file `mended`, 13 and 14 do not fail. `calls` in the working folder gets a
line for each start.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import yaml

from pwc_exp import storage
from pwc_exp.stopping import STOP_FILE
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Point
from pwc_exp.tracking.record import Record

REASONS = {13: "RuntimeError: a bug", 14: "pwc_exp.errors.DataError: a.flo: not a flow"}


class Config(NamedTuple):
    """The settings that matter; importing the schema takes most of a second."""

    seed: int
    steps: int


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    assert given["resume"] == "auto"
    run_dir = Path(given["hydra.run.dir"].strip("'"))
    values = yaml.safe_load((run_dir / "config.yaml").read_bytes())
    config = Config(values["seed"], values["steps"])
    began = (run_dir / "run.json").exists()
    with Path("calls").open("a") as calls:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        calls.write(f"{'resume' if began else 'new'} {config.seed} {cores} {gpus}\n")
    if config.seed == 16:
        sys.exit("error: refused before anything is written")
    with storage.lock(run_dir / ".lock"):
        run(config, run_dir)


def run(config: Config, run_dir: Path) -> None:
    record = Record.new("child", {})
    record.save(run_dir)
    if config.seed == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        train(config, run_dir)
    except SystemExit:
        record.end("KILLED")
        raise
    except Exception as error:
        (run_dir / "error.log").write_text(f"Traceback\n{error}\n")
        record.end("FAILED")
        sys.exit(f"error: {error}")
    else:
        record.end("FINISHED")
    finally:
        record.save(run_dir)


def train(config: Config, run_dir: Path) -> None:
    if config.seed in REASONS and not Path("mended").exists():
        raise RuntimeError(REASONS[config.seed])
    path = run_dir / journal.FILE
    path.touch()
    note(config, path, 1)
    if config.seed >= 20:
        wait(config, run_dir)
    for step in range(2, 100):
        note(config, path, step)


def note(config: Config, path: Path, step: int) -> None:
    values = {"val/aepe": config.steps / (1 + config.seed), "time/steps_per_second": 2.0}
    journal.append(path, Point(step, time.time_ns() // 1_000_000, values))


def wait(config: Config, run_dir: Path) -> None:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    step = 1
    while not Path("go").exists():
        if asked or (run_dir / STOP_FILE).exists():
            sys.exit(143)
        time.sleep(0.2)
        step += 1
        note(config, run_dir / journal.FILE, step)
    if asked:
        sys.exit(143)


main()
