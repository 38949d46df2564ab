"""Validates a bundle that may come from anywhere: number, names, type, size, gaps and range."""

import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pwc_exp.data.formats.headers import Size, read_bytes
from pwc_exp.data.formats.io import KITTI_SCALE, read_flow
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.submission.benchmarks import KITTI_PNG, Benchmark

MAX_FILES = 100_000
MAX_FILE = 2**28  # bytes; a flow of 4K has 70 million
SHOWN = 5  # names in a line
FARTHEST = 2.0  # frame diagonals; longer motion is a mistake in the units
_KITTI_ENDS = (-32768 / KITTI_SCALE, 32767 / KITTI_SCALE)  # px, the ends of its range
_ENCRYPTED = 0x1


class Bundle(NamedTuple):
    """Flow files by name, in a folder or in a zip."""

    path: Path
    names: list[str]
    read: Callable[[str], bytes]


@dataclass
class Report:
    """What was found.

    errors: for which the server would refuse the bundle, or score it wrongly.
    warnings: which are worth a look.
    largest: motion, in pixels.
    """

    files: int = 0
    largest: float = 0.0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, what: str, names: list[str]) -> None:
        """Notes an error of several files, if there are any."""
        if names:
            more = ", …" if len(names) > SHOWN else ""
            self.errors.append(f"{len(names)} files {what}: {', '.join(names[:SHOWN])}{more}")


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Opens a folder or zip; nothing is unpacked.

    Raises:
        MissingInputError: neither is there.
        DataError: not a zip, damaged, or not what a bundle is.
    """
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if not p.is_dir()]
        yield Bundle(path, names, lambda name: read_bytes(path / name))
        return
    if not path.is_file():
        raise MissingInputError(f"check: {path} must be a folder or a zip. Received: nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            yield _open_zip(path, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} is not a zip that can be read: {error}") from None


def validate(
    bundle: Bundle,
    benchmark: Benchmark,
    *,
    sizes: Mapping[str, Size] | None,
    found: Callable[[str, np.ndarray], None] | None = None,
) -> Report:
    """Reads every file of a bundle that must hold those of `sizes`, no more and no less.

    Args:
        sizes: None: without the data set; the names must be of the kind and in the numbers that
            the test split has.
        found: is given the name and flow, [H, W, 2] in pixels, of each file that is right.
    """
    report = Report(files=len(bundle.names))
    if sizes is not None:
        report.refuse("missing", sorted(sizes.keys() - bundle.names))
        report.refuse("that do not belong there", sorted(set(bundle.names) - sizes.keys()))
    else:
        right = [name for name in bundle.names if re.fullmatch(benchmark.names, name)]
        wrong = sorted(set(bundle.names) - set(right))
        report.refuse("with names that the benchmark does not have", wrong)
        received = benchmark.parts(right)
        report.errors += [
            f"{part}: {count} files are needed. Received: {received[part]}"
            for part, count in benchmark.files.items()
            if received[part] != count
        ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "flow"
        for name in tqdm(bundle.names, desc="validate", leave=False, disable=None):
            size = benchmark.size if sizes is None else sizes.get(name)
            try:
                flow = _read(bundle.read(name), benchmark, place, size)
            except DataError as error:
                report.errors.append(f"{name}: {str(error).replace(str(place), name)}")
                continue
            report.largest = max(report.largest, float(np.abs(flow).max()))
            if benchmark.format is KITTI_PNG and (cut := int(np.isin(flow, _KITTI_ENDS).sum())):
                report.warnings.append(f"{name}: {cut} numbers at the ends of KITTI's range")
            if found is not None and size is not None:
                found(name, flow)
    return report


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
        raise DataError(f"{path} has an entry that is not a plain file: {entry.filename[:80]!r}")
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{path} is encrypted: {entry.filename[:80]!r}")
    if entry.file_size > MAX_FILE:
        raise DataError(f"{entry.filename} in {path} is larger than {MAX_FILE:,} bytes")


def _read(content: bytes, benchmark: Benchmark, place: Path, size: Size | None) -> np.ndarray:
    """The flow [H, W, 2] in a file, complete and in pixels; `place` is for a copy of the file."""
    if not content.startswith(benchmark.format.magic):
        raise DataError(f"it must begin with {benchmark.format.magic!r}. Received: {content[:8]!r}")
    place.write_bytes(content)
    flow, known = read_flow(place)
    received = Size(*flow.shape[:2])
    if size is not None and received != size:
        raise DataError(
            f"it must be {size.height} x {size.width} (height x width). Received: "
            f"{received.height} x {received.width}"
        )
    if gaps := int((known == 0).sum()):
        raise DataError(f"it must have a flow at every pixel. Received: none (or NaN) at {gaps}")
    farthest = FARTHEST * float(np.hypot(*received))
    if (largest := float(np.abs(flow).max())) > farthest:
        raise DataError(
            f"its motion must be in pixels, below {farthest:.0f}. Received: {largest:.6g}"
        )
    return flow
