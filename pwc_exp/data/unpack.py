"""Unpacks archives from elsewhere: everything, inside one folder, or nothing.

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

from pwc_exp.data.formats.headers import open_file
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError
from pwc_exp.storage import make_folder

_BLOCK = 2**20  # bytes
_DEEPEST = 32  # folders within each other
_SMALL = 64 * 2**20  # bytes that any archive may unpack to
_LARGEST_RATIO = 100  # frames and flow shrink by less than 10
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_DAMAGE = (
    *(EOFError, NotImplementedError, ValueError),  # ValueError: of names and numbers in headers
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)


class Unpacked(NamedTuple):
    """What an archive held."""

    files: int
    size: int  # bytes
    kept: int  # files that existed already, of the same size; they were not touched


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or what it is instead
    size: int  # bytes that it declares
    open: Callable[[], IO[bytes] | None]


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
    file that exists already must have the same size, and is kept.

    Args:
        strip: A leading folder that is left out of the names.
        max_members: Files and folders that it may hold.
        max_bytes: Bytes that it may unpack to. By default a hundred times its own size.
    """
    if not archive.is_file():
        raise MissingInputError(f"No such archive: {archive}.")
    make_folder(root)
    if max_bytes is None:
        max_bytes = max(_SMALL, _LARGEST_RATIO * archive.stat().st_size)
    free = shutil.disk_usage(root).free

    def admit(members: int, size: int) -> None:
        if members > max_members:
            raise DataError(f"Refused: {archive} holds more than {max_members} files and folders.")
        if size > max_bytes:
            raise DataError(
                f"Refused: {archive} unpacks to {size} bytes or more. Expected {max_bytes} at most."
            )
        if size > free:
            raise OutputError(
                f"{archive} unpacks to {size / 1e9:.1f} GB or more, {free / 1e9:.1f} GB are free"
            )

    temporary = root / f".tmp-{archive.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed in here
    try:
        with _explained(archive, root):
            unpacked = _extract(archive, root, temporary, strip, admit)
            _move(temporary, root)
            if hasattr(os, "sync"):
                os.sync()  # one for all, as an fsync of each of 100,000 files takes minutes
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return unpacked


def _extract(
    archive: Path, root: Path, temporary: Path, strip: str, admit: Callable[[int, int], None]
) -> Unpacked:
    temporary.mkdir()
    members = files = size = kept = 0
    title = f"unpack {archive.name}"
    with tqdm(desc=title, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for member in _members(archive, admit):
            place = _place(archive, member, strip)
            members, size = members + 1, size + member.size
            files += member.kind == "file"
            admit(members, size)
            if member.kind == "file" and _exists(archive, root / place, member):
                kept += 1
                continue
            try:
                if member.kind == "folder":
                    (temporary / place).mkdir(parents=True, exist_ok=True)
                else:
                    (temporary / place).parent.mkdir(parents=True, exist_ok=True)
                    _write(archive, temporary / place, member)
            except (FileExistsError, NotADirectoryError):
                raise DataError(
                    f"Refused: {archive} holds {member.name!r} twice, or as a file and a folder."
                ) from None
            bar.update(member.size)
    return Unpacked(files, size, kept)


def _members(archive: Path, admit: Callable[[int, int], None]) -> Iterator[_Member]:
    with open_file(archive) as file:
        head = file.read(max(map(len, _COMPRESSED)))
    if head.startswith(b"PK"):
        return _zip_members(archive, admit)
    opener = next((_COMPRESSED[magic] for magic in _COMPRESSED if head.startswith(magic)), None)
    return _tar_members(archive, opener or open)


def _zip_members(archive: Path, admit: Callable[[int, int], None]) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        # The directory of a zip states the sizes of all files, so nothing is written in vain.
        admit(len(infos), sum(info.file_size for info in infos))
        for info in infos:
            mode = info.external_attr >> 16  # 0 where a program wrote none
            kind = "folder" if info.is_dir() else "file"
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link" if stat.S_ISLNK(mode) else "a device or pipe"
            if info.flag_bits & 1:
                kind = "encrypted"
            yield _Member(info.filename, kind, info.file_size, partial(file.open, info))


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
    # tarfile's own decompression ends silently at a cut, and after the first of the streams that a
    # parallel bzip2 writes. "r|": one pass, as decompressing is what takes the time.
    with (
        opener(archive, "rb") as raw,
        tarfile.open(fileobj=raw, mode="r|", tarinfo=_Header) as file,
    ):
        while info := file.next():
            file.members = []  # type: ignore[attr-defined] # else it keeps all of them
            kind = "folder" if info.isdir() else "file"
            if not (info.isdir() or info.isreg()):
                kind = "a link" if info.issym() or info.islnk() else "a device or pipe"
            yield _Member(info.name, kind, info.size, partial(file.extractfile, info))
        raw.read(_BLOCK)  # to the end, where gzip has its checksum


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


def _exists(archive: Path, place: Path, member: _Member) -> bool:
    if not os.path.lexists(place):
        return False
    if place.is_file() and place.stat().st_size == member.size:
        return True
    raise DataError(
        f"{place} exists already, and is not the {member.size} bytes that {archive} holds. "
        "Remove the one or the other."
    )


def _write(archive: Path, place: Path, member: _Member) -> None:
    source = member.open()
    if source is None:
        raise DataError(f"Damaged archive: {archive}. {member.name!r} cannot be read.")
    with source, place.open("xb") as target:
        shutil.copyfileobj(source, target, _BLOCK)
        written = target.tell()
    if written != member.size:
        raise DataError(
            f"Damaged archive: {archive}. {member.name!r} must have {member.size} bytes. "
            f"Received: {written}."
        )


def _move(source: Path, target: Path) -> None:
    """Moves what is in `source` into `target`, whole folders at a time where they are new."""
    for child in sorted(source.iterdir()):
        place = target / child.name
        if child.is_dir() and place.is_dir():
            _move(child, place)
        elif os.path.lexists(place):
            raise DataError(f"{place} exists already, and is not a folder. Remove it.")
        else:
            shutil.move(child, place)  # renames; copies where a folder is on another disk


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
