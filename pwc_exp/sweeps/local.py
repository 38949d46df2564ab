"""Children as processes of this machine, some at a time: what one does cannot harm another."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pwc_exp import storage
from pwc_exp.config.composition import quoted
from pwc_exp.config.schema import CONFIG_FILE
from pwc_exp.stopping import StopSignals
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.launch import Ended
from pwc_exp.sweeps.shares import Share

PROGRAM = (sys.executable, "-m", "pwc_exp.train")
_PAUSE = 0.1  # seconds between looks at the processes
_KILL_AFTER = 600.0  # seconds that a child may take to save its state
_SET_PDEATHSIG = 1  # of prctl(2)


class _Running(NamedTuple):
    child: Child
    share: Share
    process: "subprocess.Popen[bytes]"


def run_local(
    sweep: SweepFolder,
    children: Iterator[Child],
    shares: Sequence[Share],
    *,
    signals: StopSignals,
    on_start: Callable[[Child], None],
) -> Iterator[Ended]:
    """Runs a child on each share, and gives those that have ended, in that order.

    A child is taken from `children` only when a share is free. When a signal arrives, no more are,
    and those at work get it too: they save, and end.
    """
    free = list(shares)
    running: list[_Running] = []
    told = False
    try:
        while True:
            while free and signals.received is None:
                child = next(children, None)
                if child is None:
                    break
                share = free.pop(0)
                on_start(child)
                running.append(_Running(child, share, _start(sweep, child, share)))
            if not running:
                return
            if signals.received is not None and not told:
                _send(running, signals.received)
                told = True
            for done in [entry for entry in running if entry.process.poll() is not None]:
                running.remove(done)
                free.append(done.share)
                yield Ended(done.child, _reason(sweep.log(done.child), done.process.returncode))
            time.sleep(_PAUSE)
    finally:  # this process was interrupted: what it has started ends too
        _send(running, signal.SIGTERM)
        deadline = time.monotonic() + _KILL_AFTER
        for entry in running:
            with suppress(subprocess.TimeoutExpired):
                entry.process.wait(max(0.0, deadline - time.monotonic()))
            entry.process.kill()


def arguments(sweep: SweepFolder, child: Child) -> list[str]:
    """Of the command that runs a child, or goes on with one that has begun."""
    run_dir = sweep.run_dir(child)
    if (run_dir / CONFIG_FILE).is_file():
        return [f"resume={quoted(str(run_dir))}"]
    return [*child.overrides, f"hydra.run.dir={quoted(str(run_dir))}"]


def _start(sweep: SweepFolder, child: Child, share: Share) -> "subprocess.Popen[bytes]":
    libc = ctypes.CDLL(None)  # before the fork: nothing is loaded after it

    def prepare() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share.processors)
        if hasattr(libc, "prctl"):  # Linux: the child is told when this process dies
            libc.prctl(_SET_PDEATHSIG, signal.SIGTERM)

    log = sweep.log(child)
    storage.make_folder(log.parent)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*PROGRAM, *arguments(sweep, child)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **share.environment()},
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on once
            preexec_fn=prepare,  # noqa: PLW1509 # two system calls
        )


def _send(running: Sequence[_Running], number: signal.Signals) -> None:
    for entry in running:
        entry.process.send_signal(number)


def _reason(log: Path, code: int) -> str:
    """Why a process ended: its last message, or the signal."""
    if code == 0:
        return ""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", as the system does when memory is short" if -code == signal.SIGKILL else ""
        return f"killed by {name}{memory}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"exit code {code}, without a message"
    return last.removeprefix("error: ")
