"""Children through another launcher of Hydra, such as Slurm's or Ray's: some at a time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from pwc_exp.stopping import StopSignals
from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.launch import Ended
from pwc_exp.sweeps.watching import watching

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
    signal arrives, those that it has been given are asked to stop, wherever they are; one that
    still waits for its turn then makes one step, and saves.
    """
    batch: list[Child] = []

    def pass_on() -> None:
        for child in batch if signals.received is not None else ():
            sweep.ask_to_stop(child, "the sweep was stopped")

    while signals.received is None and (batch := list(islice(children, at_once))):
        for child in batch:
            on_start(child)
        with watching(pass_on):
            reasons = _run(launcher, batch)
        for child, reason in zip(batch, reasons, strict=True):
            yield Ended(child, reason)


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
