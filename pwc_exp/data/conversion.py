"""Work done once over many files: in parallel, behind a progress bar, and resumed after a stop.

Each output is one file, written whole (storage.write_file): what exists is complete. The workers
are threads, for decoding and encoding release the interpreter's lock; each process would import
TensorFlow again, and could take a GPU's memory.
"""

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import filelock
from tqdm.contrib.concurrent import thread_map

from pwc_exp.errors import OutputError, UserError
from pwc_exp.storage import make_folder, remove_leftovers

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}  # of some cluster file systems

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Job(NamedTuple, Generic[Item]):
    """One output, and what it is made of."""

    item: Item
    output: Path


class Outcome(NamedTuple):
    """What became of the jobs."""

    made: int
    kept: int  # their output existed
    failures: list[UserError]  # in the order of the jobs; none of these has an output


def convert(
    jobs: Sequence[Job[Item]],
    work: Callable[[Item, Path], None],
    *,
    folder: Path,
    workers: int,
    label: str,
) -> Outcome:
    """Calls work(item, output) for every job whose output does not exist.

    An input that is refused does not stop the others; an output that cannot be written does. Two
    processes never work in one `folder`, which holds all outputs: the second one waits.

    Raises:
        OutputError: an output cannot be written, because the disk is full for example.
    """

    def attempt(job: Job[Item]) -> UserError | None:
        try:
            make_folder(job.output.parent)
            work(job.item, job.output)
        except OutputError:
            raise
        except UserError as error:
            return error
        return None

    def missing() -> list[Job[Item]]:
        return [job for job in jobs if not job.output.exists()]

    if not missing():  # also where nothing may be written
        return Outcome(0, len(jobs), [])
    with locked(folder):
        left = missing()  # another process may have made them meanwhile
        for parent in {job.output.parent for job in left}:
            remove_leftovers(parent)
        bar = {"desc": label, "unit": "file", "disable": None}
        results = thread_map(attempt, left, max_workers=workers, **bar)
    failures = [result for result in results if result is not None]
    return Outcome(len(left) - len(failures), len(jobs) - len(left), failures)


@contextmanager
def locked(folder: Path, *, timeout: float = -1) -> Iterator[None]:
    """Holds the lock of `folder`, which is made if need be; a killed process loses it.

    timeout: seconds to wait for another process that holds it; negative: without end.

    Raises:
        OutputError: another process still holds it, or its file cannot be written.
    """
    make_folder(folder)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise OutputError(f"Another process works in {folder}.") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(f"{lock.lock_file} cannot be written: {error.strerror}.") from None
        _log.warning("%s cannot be locked (%s): run one at a time.", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()
