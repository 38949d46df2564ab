"""Files that survive a crash: whole or absent, and on the disk once a function here has returned.

Every file that must outlive the process is written here, so that the order of write, fsync and
rename is stated, and tested, once. Temporary names are `.tmp-<name>` beside the target, which keeps
every rename inside one file system; what is being removed is called `.del-<name>`.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pwc_exp.errors import OutputError, UserError

_BEING_WRITTEN = ".tmp-"
_BEING_REMOVED = ".del-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = _FULL | {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EFBIG,
    errno.EIO,
}


def make_folder(path: Path) -> None:
    """Makes `path` and its parents, if they are not there."""
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, data: bytes) -> None:
    """Writes `path`: after a crash it holds what it held before, or all of `data`."""
    temporary = path.with_name(_BEING_WRITTEN + path.name)
    with _explained(path):
        try:
            temporary.write_bytes(data)
            _fsync(temporary)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _fsync(path.parent)


def append_line(path: Path, line: str) -> None:
    """Appends `line` and a newline in one write: a killed process leaves it whole or absent.

    It is handed to the operating system, not forced onto the disk: it may be lost with the power.
    """
    with _explained(path):
        # os.open, as a buffered file may cut one line into several writes.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            data = f"{line}\n".encode()
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which appears as `path`, complete, when the block ends.

    If the block raises, nothing appears. A folder that is already at `path` is replaced.
    """
    temporary = path.with_name(_BEING_WRITTEN + path.name)
    with _explained(path):
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed in here
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _fsync_tree(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if path.exists():
            remove_folder(path)
        temporary.rename(path)
        _fsync(path.parent)


def remove_folder(path: Path) -> None:
    """Removes a folder so that no part of it is ever seen under its own name."""
    doomed = path.with_name(_BEING_REMOVED + path.name)
    with _explained(path):
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        _fsync(path.parent)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Removes what killed processes left half written or half removed directly in `parent`.

    Only for a folder that one process at a time writes to.
    """
    for prefix in (_BEING_WRITTEN, _BEING_REMOVED):
        for leftover in parent.glob(f"{prefix}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _fsync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):  # contents before the folder that names them
        _fsync(path)
    _fsync(root)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write into one line for the user."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        reason = os.strerror(error.errno or 0).lower()
        free = f" ({_free_megabytes(path)} MB are free)" if error.errno in _FULL else ""
        raise OutputError(f"{path} cannot be written: {reason}{free}") from error


def _free_megabytes(path: Path) -> int:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free // 2**20
