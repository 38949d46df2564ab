"""Files that survive a crash, and the lock that gives one process a folder.

A file is whole or absent, and on the disk once a function here has returned. Every file that must
outlive the process is written here, so that the order of write, fsync and rename is defined, and
tested, once. Temporary names are `.tmp-<name>.<random>` beside the target, which keeps every rename
inside one file system and two writers apart; what is being removed is `.del-<name>.<random>`. A
failed fsync is not retried: the system may have dropped the data and would report success
(https://wiki.postgresql.org/wiki/Fsync_Errors).
"""

import errno
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout, has_fcntl

from pwc_exp.errors import BusyError, DiskFullError, OutputError, UserError

_BEING_WRITTEN = ".tmp-"
_BEING_REMOVED = ".del-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_REFUSALS = "EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENAMETOOLONG EFBIG ENOLCK EOPNOTSUPP ENOSYS"
_UNWRITABLE = {getattr(errno, name) for name in _REFUSALS.split()}


def make_folder(path: Path) -> None:
    """Makes `path` and its parents where they are missing."""
    with _explained(path):
        missing = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for place in reversed(missing):
            _fsync(place.parent)


def check_space(folder: Path, needed: int) -> None:
    """Checks that `needed` bytes are free where `folder` is or will be.

    Raises:
        DiskFullError: fewer are free.
    """
    free = _free(folder)
    if free < needed:
        raise DiskFullError(f"{folder} {_room(needed, free)}; nothing was written")


def write_file(path: Path, data: bytes) -> None:
    """Writes `path`: after a crash it holds its old content, or all of `data`."""
    temporary = _beside(path, _BEING_WRITTEN)
    with _explained(path, needed=len(data)):
        try:
            temporary.write_bytes(data)
            _fsync(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _fsync(path.parent)


def append(path: Path, data: bytes) -> None:
    """Appends all of `data` in one write, or nothing: a killed process leaves it whole or absent.

    The data is with the operating system, not yet on the disk: until `sync_file`, a power cut may
    lose it.
    """
    with _explained(path, needed=len(data)):
        # os.open, as a buffered file may split the data into several writes.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            written = os.write(descriptor, data)
            if written != len(data):
                if os.fstat(descriptor).st_size == size + written:  # nobody has appended since
                    os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Appends `line` and a newline, as `append` does."""
    append(path, f"{line}\n".encode())


def sync_file(path: Path) -> None:
    """Forces a file, as it is now, and its name onto the disk."""
    with _explained(path):
        _fsync(path)
        _fsync(path.parent)


def truncate(path: Path, size: int) -> None:
    """Cuts a file to its first `size` bytes, on the disk too."""
    with _explained(path):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            length = os.fstat(descriptor).st_size
            if size > length:
                raise ValueError(f"{path} has {length} bytes and cannot be cut to {size}")
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Locks the file `path`, and writes into it which process holds the lock.

    The operating system releases the lock when the process ends, however it ends.

    Args:
        wait: whether to wait for another holder, instead of refusing.

    Raises:
        BusyError: another process, or another block of this one, holds the lock.
        OutputError: the file cannot be opened, or its file system has no locks.
    """
    # No soft lock, by a file's presence, where locks are missing: it would outlive its process.
    held = FileLock(path, blocking=wait, fallback_to_soft=False)
    with _explained(path):
        _take(held, path)
    try:
        yield
    finally:
        held.release()


def _take(held: FileLock, path: Path) -> None:
    try:
        held.acquire()
    except Timeout as error:
        holder = ""
        with suppress(OSError):  # Windows does not let others read a locked file
            holder = " ".join(path.read_text(errors="replace")[:1000].split())
        raise BusyError(
            f"{path} is held by {holder or 'another process'}; try again when it has ended"
        ) from error
    if has_fcntl:  # Windows does not let this process write to the locked byte either
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")


@contextmanager
def folder(path: Path, *, needed: int) -> Iterator[Path]:
    """Yields an empty folder to fill, which appears as `path`, complete, when the block ends.

    If the block raises, nothing appears. An existing `path` stays, and is an error: two folders
    cannot be swapped atomically.

    Args:
        needed: bytes that the block will write, about.

    Raises:
        DiskFullError: fewer are free, before the block or in it.
    """
    temporary = _beside(path, _BEING_WRITTEN)
    make_folder(path.parent)
    check_space(path.parent, needed)
    with _explained(path, needed=needed):
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        temporary.mkdir()
        try:
            yield temporary
            _fsync_tree(temporary)
            rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def rename(path: Path, target: Path) -> None:
    """Renames a file or folder within its folder; undone if the new name cannot be made durable."""
    with _explained(path):
        path.rename(target)
        try:
            _fsync(path.parent)
        except OSError:
            target.rename(path)
            raise


def remove_folder(path: Path) -> None:
    """Removes a folder so that no part of it is ever seen under its own name."""
    doomed = _beside(path, _BEING_REMOVED)
    rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(parent: Path, *, older_than: float = 0.0) -> None:
    """Removes what killed processes left half written or half removed directly in `parent`.

    older_than: seconds since the last change, longer than another process may need to complete
    its file; 0 only for a folder that one process at a time writes to.
    """
    for leftover in (*parent.glob(f"{_BEING_WRITTEN}*"), *parent.glob(f"{_BEING_REMOVED}*")):
        with suppress(FileNotFoundError):  # another process has removed it, or completed the file
            if older_than and time.time() - leftover.stat().st_mtime < older_than:
                continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def sha256_of(*paths: Path) -> str:
    """The sha256 of the concatenated files, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _beside(path: Path, prefix: str) -> Path:
    return path.with_name(f"{prefix}{path.name}.{secrets.token_hex(4)}")


def _fsync_tree(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):  # contents before the folder that names them
        _fsync(path)
    _fsync(root)


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder, and writes names through
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turns the system's refusal to write into one line. needed: bytes, where that is known."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        reason = f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}"
        if error.errno in _FULL:
            raise DiskFullError(
                f"{reason} ({_room(needed, _free(path))}); nothing that was on the disk was lost"
            ) from error
        if error.errno in _UNWRITABLE:
            raise OutputError(reason) from error
        raise


def _free(path: Path) -> int:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def _room(needed: int | None, free: int) -> str:
    """In MB, rounded so that what does not fit never seems to fit."""
    needs = "" if needed is None else f"needs {-(-needed // 2**20)} MB, "
    return f"{needs}{free // 2**20} MB are free"
