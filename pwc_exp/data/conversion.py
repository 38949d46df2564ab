"""Work done once over many files: in parallel, shown as it goes, and continued after a stop.

Each output is one file, written whole (storage.write_file): what is there is done. The workers are
threads, for decoding and encoding release the interpreter's lock; each process would import
TensorFlow again, and could take a GPU's memory.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tqdm import tqdm

from pwc_exp.errors import OutputError, UserError
from pwc_exp.storage import make_folder, remove_leftovers

_PART = 1000  # jobs handed to the workers at once: the list of a large data set stays small

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Job(NamedTuple, Generic[Item]):
    """One output, and what it is made of."""

    item: Item
    output: Path


class Outcome(NamedTuple):
    """What became of the jobs."""

    made: int
    kept: int  # their output was there
    failures: list[UserError]  # in the order of the jobs; none of these has an output


def convert(
    jobs: Sequence[Job[Item]],
    work: Callable[[Item, Path], None],
    *,
    folder: Path,
    workers: int,
    label: str,
) -> Outcome:
    """Calls work(item, output) for every job whose output is not there.

    An input that is refused does not stop the others; an output that cannot be written does. Two
    processes never work in one `folder`, which holds all outputs: the second one waits.

    Raises:
        OutputError: an output cannot be written, because the disk is full for example.
    """
    if not _missing(jobs):  # also where nothing may be written
        return Outcome(0, len(jobs), [])

    def attempt(job: Job[Item]) -> UserError | None:
        try:
            make_folder(job.output.parent)
            work(job.item, job.output)
        except OutputError:
            raise
        except UserError as error:
            return error
        return None

    failures = []
    with _alone(folder):
        missing = _missing(jobs)  # another process may have made them meanwhile
        _sweep(missing)
        kept = len(jobs) - len(missing)
        bar = tqdm(total=len(jobs), initial=kept, desc=label, unit="file", disable=None)
        # In this order an interrupted run lets the workers finish what they have begun.
        with bar, ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(missing), _PART):
                for failure in pool.map(attempt, missing[start : start + _PART]):
                    bar.update()
                    if failure is not None:
                        failures.append(failure)
    return Outcome(len(missing) - len(failures), kept, failures)


def _missing(jobs: Sequence[Job[Item]]) -> list[Job[Item]]:
    return [job for job in jobs if not job.output.exists()]


def _sweep(jobs: Sequence[Job]) -> None:
    """Removes what killed processes left of the outputs of `jobs`."""
    for parent in {job.output.parent for job in jobs}:
        remove_leftovers(parent)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`, made if it is not there; a killed process gives it back."""
    make_folder(folder)
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:  # some cluster file systems have no locks
            _log.warning("%s cannot be locked (%s): run one at a time.", path, error.strerror)
        yield
    finally:
        os.close(descriptor)
