"""Training processes for the tests of kills.

Reads jobs, a line of JSON each, and makes for each a process that runs `pwc_exp.train` with the
job's arguments as `python -m pwc_exp.train` would. It is forked from this one, which has imported
everything and run nothing, because importing takes as long as the training. Answers with the
process' id and, once it has ended, with its exit status, a line each.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pwc_exp import cli, train


def main() -> None:
    _import_all()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if not process:
            _train(job)
            return
        print(process, flush=True)
        status = os.waitpid(process, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def _import_all() -> None:
    cli.prepare_environment()

    import pwc_exp.tracking.tensorboard_store
    import pwc_exp.tracking.tracker
    import pwc_exp.training.loop

    pwc_exp.tracking.tracker.PERIOD = 0.05  # so that a kill meets the stores at work


def _train(job: dict[str, Any]) -> None:
    folder = Path(job["folder"])
    streams = {0: Path(os.devnull), 1: folder / "stdout", 2: folder / "stderr"}
    for number, path in streams.items():
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), number)
    os.chdir(folder)
    _record_steps(folder / "steps", pause=job["pause"])
    if job["point"]:
        from kill_points import BY_NAME, install

        install(BY_NAME[job["point"]], folder / "mark")
    sys.argv = ["train", *job["arguments"]]
    train.main()


def _record_steps(file: Path, *, pause: float) -> None:
    """Has each step that is made written to `file`, and followed by so many seconds of rest."""
    from pwc_exp.training.state import RunState

    advance = RunState.advance

    def recorded(state: Any, batch: Any) -> int:
        step = advance(state, batch)
        with open(file, "a", encoding="utf-8") as out:
            out.write(f"{step}\n")
        time.sleep(pause)
        return step

    RunState.advance = recorded  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    main()
