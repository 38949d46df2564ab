"""The two formats of PyTorch's files: a zip of pickle and storages, and one after the other.

Before PyTorch 1.6, so in NVlabs' pwc_net.pth.tar: five pickles (a number, a version, the machine,
the object, the keys of the storages), then each storage, behind its size.
"""

import struct
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from pwc_exp.models.torch_files.tensors import Storage, Tensor
from pwc_exp.models.torch_files.unpickler import unpickle

MAX_BYTES = 2**31  # of a file; PWC-Net with an optimizer has some 120 MB
MAX_ENTRIES = 20_000  # of a zip
MAX_PICKLE = 2**26  # bytes
_ZIP_MAGIC = b"PK\x03\x04"
_OLD_NUMBER = 0x1950A86A20F9469CFC6C
_OLD_VERSION = 1001
_OLD_HEAD = b"\x80\x02\x8a\x0a" + _OLD_NUMBER.to_bytes(10, "little")
_ENCRYPTED = 0x1


class Content(NamedTuple):
    """What a file holds."""

    value: Any  # as of `unpickle`
    rows: Mapping[str, memoryview]  # storages by key


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as those of PyTorch do, or could be another pickle."""
    with path.open("rb") as file:
        head = file.read(len(_OLD_HEAD))
    return head.startswith((_ZIP_MAGIC, b"\x80"))


def read(data: bytes) -> Content:
    """Reads a file of either format.

    Raises:
        ValueError: it is neither, or damaged, or asks for more than weights need.
    """
    if data.startswith(_ZIP_MAGIC):
        return _read_zip(data)
    if data.startswith(_OLD_HEAD):
        return _read_old(data)
    raise ValueError("it is a pickle, but no file of PyTorch")


def _read_zip(data: bytes) -> Content:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = _checked_entries(archive.infolist(), len(data))
            root = _root(entries)
            if f"{root}/byteorder" in entries and archive.read(f"{root}/byteorder") != b"little":
                raise ValueError("its byte order is not little")
            pickle = entries[f"{root}/data.pkl"]
            if pickle.file_size > MAX_PICKLE:
                raise ValueError(f"its pickle has more than {MAX_PICKLE:,} bytes")
            value = unpickle(BytesIO(archive.read(pickle)))
            prefix = f"{root}/data/"
            rows = {
                name.removeprefix(prefix): memoryview(archive.read(entry))
                for name, entry in entries.items()
                if name.startswith(prefix)
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"its zip is damaged ({' '.join(str(error).split())})") from None
    return Content(value, rows)


def _checked_entries(entries: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by name; refuses what PyTorch does not write, compression above all."""
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"its zip has more than {MAX_ENTRIES:,} files")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise ValueError("its zip is compressed or encrypted, which PyTorch's files are not")
        if entry.file_size != entry.compress_size:
            raise ValueError("its zip states sizes that differ")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its zip states more bytes than it has")
    _check_places(entries)
    named = {entry.filename: entry for entry in entries}
    if len(named) != len(entries):
        raise ValueError("its zip has a name twice")
    return named


def _check_places(entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuses entries that share bytes."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ValueError("its zip has files that overlap")
        end = entry.header_offset + entry.file_size


def _root(entries: Iterable[str]) -> str:
    """The folder that all lies in."""
    roots = {name.partition("/")[0] for name in entries}
    parts = {part for name in entries for part in name.split("/")}
    if ".." in parts or "" in roots or any("\\" in name for name in entries):
        raise ValueError("its zip has names that lead out of it")
    pickles = [root for root in roots if f"{root}/data.pkl" in entries]
    if len(pickles) != 1 or len(roots) != 1:
        raise ValueError("it is a zip, but no file of PyTorch (one folder with data.pkl)")
    if f"{pickles[0]}/constants.pkl" in entries:
        raise ValueError("it is a TorchScript program; save the state_dict of the model instead")
    return pickles[0]


def _read_old(data: bytes) -> Content:
    stream = BytesIO(data)
    number, version, machine = (unpickle(stream) for _ in range(3))
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if number != _OLD_NUMBER or version != _OLD_VERSION or not little:
        raise ValueError("its head is not that of a file of PyTorch")
    value, keys = unpickle(stream), unpickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    sizes = {storage.key: storage for storage in _storages(value)}
    rows: dict[str, memoryview] = {}
    whole, start = memoryview(data), stream.tell()
    for key in keys:
        if key in rows or key not in sizes:
            raise ValueError("its list of storages names one twice, or one that is not used")
        storage = sizes[key]
        (count,) = struct.unpack_from("<q", data, start)
        end = start + 8 + storage.size * storage.dtype.itemsize
        if count != storage.size or end > len(data):
            raise ValueError(f"its storage {key[:20]!r} is truncated or of another size")
        rows[key] = whole[start + 8 : end]
        start = end
    return Content(value, rows)


def _storages(value: Any) -> list[Storage]:
    """The storages of all tensors in a value; each object is visited once."""
    found, seen, waiting = [], set(), [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            found.append(item.storage)
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return found
