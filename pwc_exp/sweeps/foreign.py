"""Children through another launcher of Hydra, such as Slurm's or Ray's: some at a time."""

from collections.abc import Callable, Iterator
from itertools import islice

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from pwc_exp.sweeps.children import Child
from pwc_exp.sweeps.launch import Ended


def run_foreign(
    launcher: Launcher,
    children: Iterator[Child],
    *,
    at_once: int | None,
    on_start: Callable[[Child], None],
) -> Iterator[Ended]:
    """Gives `at_once` children at a time to `launcher` (None: all), and waits for them.

    The launcher is given no values: a child's process reads its plan in the sweep's folder.
    """
    while batch := list(islice(children, at_once)):
        for child in batch:
            on_start(child)
        jobs = [[f"hydra.sweep.subdir={child.folder}"] for child in batch]
        results = launcher.launch(jobs, initial_job_idx=batch[0].number)
        for child, result in zip(batch, results, strict=True):
            yield Ended(child, _reason(result))


def _reason(result: JobReturn) -> str:
    if result.status != JobStatus.FAILED:
        return ""
    error = result._return_value  # what `return_value` would raise
    return " ".join(str(error).split()) or type(error).__name__
