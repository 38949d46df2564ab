"""Unpacks archives that nobody here has seen before: all of it, inside one folder, or nothing.

Only files and folders are taken, under names that stay inside; links, devices and anything else
are refused, and so is an archive that would fill the disk.
"""

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple, Self

from tqdm import tqdm

from pwc_exp.data.formats.files import open_file
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError
from pwc_exp.storage import make_folder

_BLOCK = 2**20  # bytes
_DEEPEST = 32  # folders within each other
_HEAD = 6  # bytes that tell a format
_SMALL = 64 * 2**20  # bytes that any archive may unpack to
_LARGEST_RATIO = 100  # frames and flow shrink by less than 10
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_DAMAGE = (
    EOFError,
    NotImplementedError,
    ValueError,  # of names and numbers in headers
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class Unpacked(NamedTuple):
    """What an archive held."""

    files: int
    size: int  # bytes
    kept: int  # files that were there already, of the same size; they were not touched


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or what it is instead
    size: int  # bytes that it declares
    open: Callable[[], IO[bytes] | None]


class _Limits(NamedTuple):
    members: int
    size: int  # bytes
    free: int  # bytes on the disk


def unpack(
    archive: Path,
    root: Path,
    *,
    strip: str = "",
    max_members: int = 1_000_000,
    max_bytes: int | None = None,
) -> Unpacked:
    """Unpacks a zip or tar (plain, gz, bz2, xz) into `root`, which may hold other files.

    Everything is unpacked into a folder beside its place first and moved when it is complete. A
    file that is there already must have the same size, and is kept.

    Args:
        strip: A leading folder that is left out of the names.
        max_members: Files and folders that it may hold.
        max_bytes: Bytes that it may unpack to. By default a hundred times its own size.
    """
    if not archive.is_file():
        raise MissingInputError(f"No such archive: {archive}.")
    make_folder(root)
    size = max(_SMALL, _LARGEST_RATIO * archive.stat().st_size) if max_bytes is None else max_bytes
    limits = _Limits(max_members, size, shutil.disk_usage(root).free)
    temporary = root / f".tmp-{archive.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed in here
    try:
        with _explained(archive, root):
            unpacked = _extract(archive, root, temporary, strip, limits)
            _move(temporary, root)
            os.sync()  # one for all, as an fsync of each of 100,000 files takes minutes
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return unpacked


def _extract(archive: Path, root: Path, temporary: Path, strip: str, limits: _Limits) -> Unpacked:
    temporary.mkdir()
    members = files = size = kept = 0
    with tqdm(
        desc=f"unpack {archive.name}", unit="B", unit_scale=True, leave=False, disable=None
    ) as bar:
        for member in _members(archive, limits):
            place = _place(archive, member, strip)
            members, size = members + 1, size + member.size
            files += member.kind == "file"
            _admit(archive, members, size, limits)
            if member.kind == "folder":
                _make_folders(archive, temporary / place, member)
            elif _is_there(archive, root / place, member):
                kept += 1
            else:
                _make_folders(archive, (temporary / place).parent, member)
                _write(archive, temporary / place, member)
            bar.update(member.size)
    return Unpacked(files, size, kept)


def _members(archive: Path, limits: _Limits) -> Iterator[_Member]:
    with open_file(archive) as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK"):
        return _zip_members(archive, limits)
    opener = next((_COMPRESSED[magic] for magic in _COMPRESSED if head.startswith(magic)), None)
    return _tar_members(archive, opener or open)


def _zip_members(archive: Path, limits: _Limits) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        # A zip says at its end what all of it takes, so nothing is written in vain.
        _admit(archive, len(infos), sum(info.file_size for info in infos), limits)
        for info in infos:
            kind = "folder" if info.is_dir() else _zip_kind(info.external_attr >> 16)
            if info.flag_bits & 1:
                kind = "encrypted"
            yield _Member(info.filename, kind, info.file_size, partial(file.open, info))


def _zip_kind(mode: int) -> str:
    """What the mode in a zip says; many programs write none for a file."""
    if stat.S_ISLNK(mode):
        return "a link"
    return "file" if stat.S_IFMT(mode) in (0, stat.S_IFREG) else "a device or pipe"


class _Header(tarfile.TarInfo):
    """A header of a tar; tarfile itself takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"broken off: {error}") from None


def _tar_members(archive: Path, opener: Callable[..., Any]) -> Iterator[_Member]:
    # tarfile's own decompression ends without a word at a cut, and after the first of the streams
    # that a parallel bzip2 writes. "r|": one pass, as decompressing is what takes the time.
    with (
        opener(archive, "rb") as raw,
        tarfile.open(fileobj=raw, mode="r|", tarinfo=_Header) as file,
    ):
        while info := file.next():
            file.members = []  # type: ignore[attr-defined] # else it keeps all of them
            yield _Member(info.name, _tar_kind(info), info.size, partial(file.extractfile, info))
        raw.read(_BLOCK)  # to the end, where gzip has its checksum


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() else "a device or pipe"


def _place(archive: Path, member: _Member, strip: str) -> PurePosixPath:
    """The path of a member, relative to the root; refuses what could lead out of it."""
    name = member.name
    path = PurePosixPath(name)
    if member.kind not in ("file", "folder"):
        raise DataError(f"Refused: {archive} holds {name!r}, which is {member.kind}.")
    leads_out = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive
    if leads_out or "\\" in name or not name.isprintable():
        raise DataError(f"Refused: {archive} holds {name!r}, which is no plain relative path.")
    if len(path.parts) > _DEEPEST:
        raise DataError(f"Refused: {archive} holds {name[:80]!r} in {len(path.parts)} folders.")
    if strip and path.parts[:1] == (strip,):
        path = PurePosixPath(*path.parts[1:])
    if member.kind == "file" and not path.parts:
        raise DataError(f"Refused: {archive} holds {name!r}, a file without a name.")
    return path


def _admit(archive: Path, members: int, size: int, limits: _Limits) -> None:
    if members > limits.members:
        raise DataError(f"Refused: {archive} holds more than {limits.members} files and folders.")
    if size > limits.size:
        raise DataError(
            f"Refused: {archive} unpacks to {size} bytes or more. Expected {limits.size} at most."
        )
    if size > limits.free:
        raise OutputError(
            f"{archive} unpacks to {size / 1e9:.1f} GB or more, {limits.free / 1e9:.1f} GB are free"
        )


def _is_there(archive: Path, place: Path, member: _Member) -> bool:
    if not os.path.lexists(place):
        return False
    if place.is_file() and place.stat().st_size == member.size:
        return True
    raise DataError(
        f"{place} is there already, and is not the {member.size} bytes that {archive} holds. "
        "Remove the one or the other."
    )


def _make_folders(archive: Path, folder: Path, member: _Member) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _clash(archive, member) from None


def _write(archive: Path, place: Path, member: _Member) -> None:
    source = member.open()
    if source is None:
        raise DataError(f"Damaged archive: {archive}. {member.name!r} cannot be read.")
    try:
        with source, place.open("xb") as target:
            shutil.copyfileobj(source, target, _BLOCK)
            written = target.tell()
    except FileExistsError:
        raise _clash(archive, member) from None
    if written != member.size:
        raise DataError(
            f"Damaged archive: {archive}. {member.name!r} must have {member.size} bytes. "
            f"Received: {written}."
        )


def _clash(archive: Path, member: _Member) -> DataError:
    return DataError(f"Refused: {archive} holds {member.name!r} twice, or as a file and a folder.")


def _move(source: Path, target: Path) -> None:
    """Moves what is in `source` into `target`, whole folders at a time where they are new."""
    for child in sorted(source.iterdir()):
        place = target / child.name
        if child.is_dir() and place.is_dir():
            _move(child, place)
        elif os.path.lexists(place):
            raise DataError(f"{place} is there already, and is not a folder. Remove it.")
        else:
            shutil.move(child, place)  # renames; copies where a folder lies on another disk


@contextmanager
def _explained(archive: Path, root: Path) -> Iterator[None]:
    """Turns what a damaged archive or a full disk raises into one line for the user."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is None:  # of gzip and bz2; the system's errors have a number
            raise DataError(f"Damaged archive: {archive} ({error}).") from None
        reason = os.strerror(error.errno).lower()
        if error.errno == errno.EIO:
            reason += f", or {archive} cannot be read"
        raise OutputError(f"{root} cannot be written: {reason}") from None
    except _DAMAGE as error:
        raise DataError(f"Damaged archive, or none: {archive} ({error}).") from None
