"""A bundle: flow files in a folder or in a zip that nobody here has seen before."""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.errors import DataError, MissingInputError

MAX_FILES = 100_000
MAX_FILE = 2**28  # bytes; a flow of 4K has 70 million
_DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip
_MODE = stat.S_IFREG | 0o644
_ENCRYPTED = 0x1


class Bundle(NamedTuple):
    """Files by name."""

    path: Path
    names: list[str]
    read: Callable[[str], bytes]


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Opens a folder or zip; nothing is unpacked.

    Raises:
        MissingInputError: neither is there.
        DataError: no zip, damaged, or not what a bundle is.
    """
    if path.is_dir():
        yield _open_folder(path)
        return
    if not path.is_file():
        raise MissingInputError(f"check: {path} must be a folder or a zip. Received: nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            yield _open_zip(path, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} is no zip that can be read: {error}") from None


def write_zip(folder: Path, path: Path) -> None:
    """Packs all files of a folder, by their names in it. The same files make the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in _open_folder(folder).names:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _MODE << 16
            entry.create_system = 3  # Unix, on every system
            packed = name.endswith((".png", ".flo5"))  # these are compressed already
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, (folder / name).read_bytes())


def _open_folder(folder: Path) -> Bundle:
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    names = [path.relative_to(folder).as_posix() for path in paths]
    return Bundle(folder, names, lambda name: read_bytes(folder / name))


def _open_zip(path: Path, archive: zipfile.ZipFile) -> Bundle:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES:
        raise DataError(f"{path} must have at most {MAX_FILES:,} files. Received: {len(entries):,}")
    named: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        if entry.filename in named:
            raise DataError(f"{path} has two files of one name: {entry.filename}")
        named[entry.filename] = entry

    def read(name: str) -> bytes:
        with archive.open(named[name]) as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise DataError(f"{name} is larger than {MAX_FILE:,} bytes")
        return content

    return Bundle(path, sorted(named), read)


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    parts = entry.filename.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if ".." in parts or "" in parts or "\\" in entry.filename or kind not in (0, stat.S_IFREG):
        raise DataError(f"{path} has an entry that is no plain file: {entry.filename[:80]!r}")
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{path} is encrypted: {entry.filename[:80]!r}")
    if entry.file_size > MAX_FILE:
        raise DataError(f"{entry.filename} in {path} is larger than {MAX_FILE:,} bytes")
