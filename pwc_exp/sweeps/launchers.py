"""What runs children: processes that share this machine, or another launcher of Hydra."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import hydra.plugins.launcher
from hydra.core.utils import JobStatus

from pwc_exp import storage
from pwc_exp.config.composition import quoted
from pwc_exp.config.fields import check
from pwc_exp.config.schema import LOCK_FILE
from pwc_exp.errors import BusyError
from pwc_exp.stopping import StopSignals
from pwc_exp.sweeps.folder import LOG, Child, SweepFolder

PROGRAM = (sys.executable, "-m", "pwc_exp.train")
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_POLL = 0.2  # seconds
_SAVE_TIMEOUT = 600.0  # seconds that a child may take to save its state
_FREE_TIMEOUT = 120.0  # seconds that the child of a killed sweep may still hold its folder
_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_MAX_REASON = 300  # characters of a launcher's message

# A child of which the process has ended, and why, if its folder may not say so.
Ended = tuple[Child, str]


class Share(NamedTuple):
    """The part of the machine that a run may use. gpus: as CUDA names them; None: no limit."""

    processors: frozenset[int]
    gpus: tuple[str, ...] | None


class _Running(NamedTuple):
    child: Child
    share: Share
    process: "subprocess.Popen[bytes]"


@dataclass
class LocalLauncher:
    """Runs one child on each share, as processes that end with this one."""

    sweep: SweepFolder
    signals: StopSignals
    shares: Sequence[Share]

    @property
    def at_once(self) -> int:
        """How many children run at a time."""
        return len(self.shares)

    def run(self, children: Iterator[Child], poll: Callable[[], None]) -> Iterator[Ended]:
        """Yields the children that have ended; the next one is only taken when it can start.

        A signal is passed on once to the running children, and no others start. `poll` is called
        several times a second.
        """
        free = list(self.shares)
        running: list[_Running] = []
        stopping = False
        try:
            while True:
                while free and self.signals.received is None and (child := next(children, None)):
                    share = free.pop(0)
                    running.append(_Running(child, share, self._start(child, share)))
                if not running:
                    return
                if self.signals.received is not None and not stopping:
                    self._stop(running, self.signals.received)
                    stopping = True
                for done in [entry for entry in running if entry.process.poll() is not None]:
                    running.remove(done)
                    free.append(done.share)
                    log = self.sweep.run_dir(done.child) / LOG
                    yield done.child, _exit_reason(log, done.process.returncode)
                time.sleep(_POLL)
                poll()
        finally:  # nothing is left unless an exception ended the loop
            self._stop(running, signal.SIGTERM)
            for entry in running:
                with suppress(subprocess.TimeoutExpired):
                    entry.process.wait(_SAVE_TIMEOUT)
                entry.process.kill()

    def _start(self, child: Child, share: Share) -> "subprocess.Popen[bytes]":
        """Starts `train resume=auto` in the child's folder, with its output in the log there."""
        run_dir = self.sweep.run_dir(child)
        visible = {} if share.gpus is None else {_VISIBLE_GPUS: ",".join(share.gpus)}
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # loaded before fork

        def prepare() -> None:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, share.processors)
            if prctl is not None:  # the child gets SIGTERM when this process dies
                prctl(_SET_PDEATHSIG, signal.SIGTERM)

        self._wait_until_free(run_dir / LOCK_FILE)
        place = f"hydra.run.dir={quoted(str(run_dir))}"
        with (run_dir / LOG).open("ab") as output:
            return subprocess.Popen(
                [*PROGRAM, *child.overrides, place, "resume=auto"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **visible},
                start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
                preexec_fn=prepare if os.name == "posix" else None,  # noqa: PLW1509 # system calls
            )

    def _wait_until_free(self, file: Path) -> None:
        """Waits while the child of a sweep that was killed still saves its state."""
        deadline = time.monotonic() + _FREE_TIMEOUT
        while file.exists() and time.monotonic() < deadline and self.signals.received is None:
            with suppress(BusyError), storage.lock(file):
                return
            time.sleep(_POLL)

    def _stop(self, running: Sequence[_Running], number: signal.Signals) -> None:
        for entry in running:
            if os.name == "posix":
                entry.process.send_signal(number)
            else:  # a signal would end the process before it has saved
                self.sweep.ask_to_stop(entry.child, "the sweep was stopped")


@dataclass
class HydraLauncher:
    """Passes children to another launcher of Hydra, such as Slurm's or Ray's, in batches.

    The launcher gets no values: the job finds its configuration in its folder. When a signal
    arrives, the children of the batch are asked to stop by a file, wherever they run; one that is
    still queued then makes one step, and saves. at_once: children of a batch; None: all.
    """

    sweep: SweepFolder
    signals: StopSignals
    launcher: hydra.plugins.launcher.Launcher
    at_once: int | None

    def run(self, children: Iterator[Child], poll: Callable[[], None]) -> Iterator[Ended]:
        """Yields the children that have ended; those of a batch end together.

        `poll` is called several times a second, by another thread while this one waits.
        """
        batch: list[Child] = []

        def look() -> None:
            for child in batch if self.signals.received is not None else ():
                self.sweep.ask_to_stop(child, "the sweep was stopped")
            poll()

        while self.signals.received is None and (batch := list(islice(children, self.at_once))):
            with _polling(look):
                reasons = self._launch(batch)
            yield from zip(batch, reasons, strict=True)

    def _launch(self, batch: Sequence[Child]) -> list[str]:
        """Why each child ended, as far as the launcher knows."""
        jobs = [[f"hydra.sweep.subdir={child.folder}"] for child in batch]
        try:
            results = self.launcher.launch(jobs, initial_job_idx=batch[0].number)
        except Exception as error:  # of any kind: a process died, or there is no queue
            # Some children may have finished all the same: their folders say so.
            reason = f"the launcher failed ({type(error).__name__}: {_one_line(error)})"
            return [reason] * len(batch)
        return [
            _one_line(result._return_value) if result.status == JobStatus.FAILED else ""
            for result in results
        ]


Launcher = LocalLauncher | HydraLauncher


def divide(
    *,
    jobs: int | None,
    gpus: Sequence[int] | None,
    gpus_per_job: int,
    found: Sequence[str],
    processors: Sequence[int],
) -> list[Share]:
    """Divides the machine into shares that do not overlap, one for each simultaneous run.

    See `LocalConfig` for jobs, gpus and gpus_per_job. found: all GPUs, as CUDA names them.

    Raises:
        ConfigError: there are too few GPUs or processors.
    """
    requirement = f"must be among the GPUs that were found ({len(found)})"
    known = all(number < len(found) for number in gpus or ())
    check(known, "hydra.launcher.gpus", requirement, gpus)
    used = list(found) if gpus is None else [found[number] for number in gpus]
    groups = [tuple(used[n : n + gpus_per_job]) for n in range(0, len(used), gpus_per_job)]
    whole = [group for group in groups if len(group) == gpus_per_job]
    if used:
        requirement = f"must be at most the {len(used)} GPUs"
        check(bool(whole), "hydra.launcher.gpus_per_job", requirement, gpus_per_job)
    count = jobs or len(whole) or 1
    most, what = (len(whole), "GPUs") if used else (len(processors), "processors")
    requirement = f"must be at most {most}, for which there are {what}"
    check(count <= most, "hydra.launcher.jobs", requirement, count)

    def part(number: int) -> frozenset[int]:
        """Part `number` of the processors; all of them if there are fewer than runs."""
        bounds = [len(processors) * n // count for n in (number, number + 1)]
        return frozenset(processors[slice(*bounds)] if len(processors) >= count else processors)

    return [Share(part(number), whole[number] if used else None) for number in range(count)]


def find_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs of this machine, as CUDA names them. Asks `nvidia-smi`, without TensorFlow."""
    if _VISIBLE_GPUS in environment:
        return [name for name in environment[_VISIBLE_GPUS].split(",") if name not in ("", "-1")]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


@contextmanager
def _polling(look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` again and again, in a thread, until the block ends."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(_POLL):
            look()

    thread = threading.Thread(target=poll, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _exit_reason(log: Path, code: int) -> str:
    """Why a process ended: the signal, or the last line that it printed."""
    if code == 0:
        return ""
    if code < 0:
        name = signal.Signals(-code).name
        out_of_memory = ", as the system does when memory is short" if name == "SIGKILL" else ""
        return f"killed by {name}{out_of_memory}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"exit code {code}, without a message"
    return last.removeprefix("error: ")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
