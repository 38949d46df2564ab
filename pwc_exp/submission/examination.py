"""What is wrong with a bundle: number, names, type, size, gaps, range of its files."""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.io import KITTI_SCALE, read_flow
from pwc_exp.errors import DataError
from pwc_exp.submission.benchmarks import KITTI_PNG, Benchmark
from pwc_exp.submission.bundle import Bundle

SHOWN = 5  # names in a line
FARTHEST = 2.0  # diagonals of the frame; what moves farther is a mistake in the units
_KITTI_ENDS = (-32768 / KITTI_SCALE, 32767 / KITTI_SCALE)  # px, the ends of its range

Found = Callable[[str, np.ndarray], None]


@dataclass
class Findings:
    """What was found.

    errors: for which the server would refuse the bundle, or score it wrongly.
    warnings: which are worth a look.
    largest: px, of a motion.
    """

    files: int = 0
    largest: float = 0.0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def examine(
    bundle: Bundle, benchmark: Benchmark, *, sizes: Mapping[str, Size], found: Found | None = None
) -> Findings:
    """Reads every file of a bundle that must hold those of `sizes`, no more and no less.

    found: is given the name and flow, [H, W, 2] in pixels, of each file that is right.
    """
    findings = Findings(files=len(bundle.names))
    _compare_names(bundle.names, sizes, findings)
    _examine_files(bundle, benchmark, sizes.get, findings, found)
    return findings


def examine_names(bundle: Bundle, benchmark: Benchmark, *, pattern: str) -> Findings:
    """Likewise without the data set: names must match `pattern`, in the published numbers."""
    findings = Findings(files=len(bundle.names))
    wrong = [name for name in bundle.names if not re.fullmatch(pattern, name)]
    _note(findings.errors, "of names that the benchmark has not", wrong)
    right = [name for name in bundle.names if name not in set(wrong)]
    for part, count in benchmark.files.items():
        received = benchmark.parts(right)[part]
        if received != count:
            findings.errors.append(f"{part}: {count} files are needed. Received: {received}")
    _examine_files(bundle, benchmark, lambda name: benchmark.size, findings, None)
    return findings


def _compare_names(names: Iterable[str], expected: Mapping[str, Size], findings: Findings) -> None:
    there = set(names)
    _note(findings.errors, "missing", [name for name in expected if name not in there])
    _note(findings.errors, "that do not belong there", sorted(there - expected.keys()))


def _note(lines: list[str], what: str, names: list[str]) -> None:
    if names:
        more = ", …" if len(names) > SHOWN else ""
        lines.append(f"{len(names)} files {what}: {', '.join(names[:SHOWN])}{more}")


def _examine_files(
    bundle: Bundle,
    benchmark: Benchmark,
    size_of: Callable[[str], Size | None],
    findings: Findings,
    found: Found | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in tqdm(bundle.names, desc="check", leave=False, disable=None):
            try:
                flow, known = _decode(bundle.read(name), benchmark, Path(folder) / "flow")
            except DataError as error:
                findings.errors.append(f"{name}: {str(error).replace(f'{folder}/flow', name)}")
                continue
            wrong = _wrong(flow, known, size_of(name))
            if wrong:
                findings.errors.append(f"{name}: {wrong}")
                continue
            findings.largest = max(findings.largest, float(np.abs(flow).max()))
            if benchmark.format is KITTI_PNG and (cut := int(np.isin(flow, _KITTI_ENDS).sum())):
                findings.warnings.append(f"{name}: {cut} numbers at the ends of KITTI's range")
            if found is not None and size_of(name) is not None:
                found(name, flow)


def _decode(content: bytes, benchmark: Benchmark, place: Path) -> tuple[np.ndarray, np.ndarray]:
    if not content.startswith(benchmark.format.magic):
        raise DataError(f"it must begin with {benchmark.format.magic!r}. Received: {content[:8]!r}")
    place.write_bytes(content)
    return read_flow(place)


def _wrong(flow: np.ndarray, known: np.ndarray, size: Size | None) -> str | None:
    received = Size(*flow.shape[:2])
    if size is not None and received != size:
        return f"it must be {size.height} x {size.width} (height x width). Received: " + (
            f"{received.height} x {received.width}"
        )
    if gaps := int((known == 0).sum()):
        return f"it must have a flow at every pixel. Received: none (or NaN) at {gaps}"
    farthest = FARTHEST * float(np.hypot(*received))
    if (largest := float(np.abs(flow).max())) > farthest:
        return f"its motion must be in pixels, below {farthest:.0f}. Received: {largest:.6g}"
    return None
