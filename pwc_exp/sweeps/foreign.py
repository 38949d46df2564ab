"""Children through another launcher of Hydra, such as Slurm's or Ray's: some at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from pwc_exp import durable
from pwc_exp.stopping import STOP_FILE, StopSignals
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.launch import Ended

_LOOK_EVERY = 0.5  # seconds between looks whether a signal has arrived
_SHOWN = 300  # characters of a launcher's message


def run_foreign(
    launcher: Launcher,
    sweep: SweepFolder,
    children: Iterator[Child],
    *,
    at_once: int | None,
    signals: StopSignals,
    on_start: Callable[[Child], None],
) -> Iterator[Ended]:
    """Gives `at_once` children at a time to `launcher` (None: all), and waits for them.

    The launcher is given no values: a child's process reads its plan in the sweep's folder. When a
    signal arrives, those that it has been given are asked to stop, wherever they are.
    """
    while signals.received is None and (batch := list(islice(children, at_once))):
        for child in batch:
            on_start(child)
        with _stopped_by(signals, [sweep.run_dir(child) for child in batch]):
            reasons = _run(launcher, batch)
        for child, reason in zip(batch, reasons, strict=True):
            yield Ended(child, reason)


@contextmanager
def _stopped_by(signals: StopSignals, run_dirs: Sequence[Path]) -> Iterator[None]:
    """Writes into the folders that a signal asks to stop, if one arrives while the block waits.

    A child that still waits for its turn then makes one step, and saves.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY):
            if signals.received is not None:
                for run_dir in run_dirs:
                    durable.make_folder(run_dir)
                    durable.write_file(run_dir / STOP_FILE, b"the sweep was stopped")
                return

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _run(launcher: Launcher, batch: Sequence[Child]) -> list[str]:
    """Runs children, and gives for each why it ended, as far as the launcher knows; else ""."""
    jobs = [[f"hydra.sweep.subdir={child.folder}"] for child in batch]
    try:
        results = launcher.launch(jobs, initial_job_idx=batch[0].number)
    except Exception as error:  # of whatever kind: a process died, or there is no queue
        # Some may have finished all the same: their folders tell.
        return [f"the launcher gave up ({type(error).__name__}: {_one_line(error)})"] * len(batch)
    return [_reason(result) for result in results]


def _reason(result: JobReturn) -> str:
    if result.status != JobStatus.FAILED:
        return ""
    error = result._return_value  # what `return_value` would raise
    return _one_line(error) or type(error).__name__


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:_SHOWN]
