"""Pairs that a CSV file lists."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.datasets.layout import IncompleteError, Tree
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError

_NEEDED = ("frame1", "frame2")
_MASKS = ("valid", "invalid", "occlusion", "visible", "objects")
_PATHS = (*_NEEDED, "flow", *_MASKS)
_KNOWN = (*_PATHS, "flow_stride", "scene", "split", "id")


class _Row(NamedTuple):
    line: int
    cells: dict[str, str]  # without the empty ones


def from_manifest(root: Path, *, manifest: str | Path) -> list[Sample]:
    """Pairs of a CSV file whose header names some of `_KNOWN`, at least frame1 and frame2.

    Paths are relative to the root. Without `scene`, pairs that share a frame, also by way of other
    pairs, are of one scene; without `id`, it is the path of the first frame.
    """
    path = Path(manifest)
    rows = _read(path)
    tree = Tree(root, f"the files that {path} lists")
    tree.require(root)
    scenes = _linked(rows)
    samples = [_sample(root, row, scenes) for row in rows]
    lines = [row.line for row in rows]
    _refuse_gaps(path, tree, samples, lines)
    _refuse_conflicts(path, samples, lines)
    return tree.complete(samples)


def _sample(root: Path, row: _Row, scenes: dict[str, str]) -> Sample:
    cells = row.cells
    files = {name: root / cells[name] for name in _PATHS if name in cells}
    return Sample(
        id=cells.get("id") or _without_suffix(cells["frame1"]),
        scene=cells.get("scene") or scenes[cells["frame1"]],
        frame1=files["frame1"],
        frame2=files["frame2"],
        flow=files.get("flow"),
        flow_stride=int(cells.get("flow_stride", 1)),
        split=cells.get("split"),
        **{name: files.get(name) for name in _MASKS},
    )


def _read(path: Path) -> list[_Row]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 in {path}. Received: {error.reason}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    rows = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if header is None:
                header = [value.strip() for value in values]
                _check_header(path, reader.line_num, header)
            else:
                rows.append(_row(path, reader.line_num, header, values))
    except csv.Error as error:
        raise _refusal(path, reader.line_num, str(error)) from None
    if not rows:
        raise DataError(f"No pairs in {path}. Expected a header and a line for each pair.")
    return rows


def _check_header(path: Path, line: int, header: list[str]) -> None:
    known = ", ".join(_KNOWN)
    for name in header:
        if name not in _KNOWN:
            raise _refusal(path, line, f"unknown column {name!r}. Known: {known}")
        if header.count(name) > 1:
            raise _refusal(path, line, f"column {name} stands there twice")
    for name in _NEEDED:
        if name not in header:
            raise _refusal(path, line, f"expected a column {name}. Received: {', '.join(header)}")


def _row(path: Path, line: int, header: list[str], values: list[str]) -> _Row:
    if len(values) != len(header):
        raise _refusal(path, line, f"expected {len(header)} cells. Received: {len(values)}")
    cells = {name: value.strip() for name, value in zip(header, values, strict=True)}
    for name, value in cells.items():
        if not value and name not in _MASKS:
            raise _refusal(path, line, f"{name} is empty")
        if name in _PATHS and (value.startswith("/") or ".." in Path(value).parts):
            raise _refusal(path, line, f"{name} must be a path in data.root. Received: {value}")
    if not re.fullmatch(r"[1-9]\d?", stride := cells.get("flow_stride", "1")):
        raise _refusal(path, line, f"flow_stride must be 1 to 99. Received: {stride}")
    if cells.get("split", "train") not in ("train", "val"):
        raise _refusal(path, line, f"split must be train or val. Received: {cells['split']}")
    return _Row(line, {name: value for name, value in cells.items() if value})


def _linked(rows: Iterable[_Row]) -> dict[str, str]:
    """First frame of a pair -> a name for all pairs that are linked with it by common frames."""
    parents: dict[str, str] = {}

    def top(frame: str) -> str:
        while parents.setdefault(frame, frame) != frame:
            parents[frame] = parents[parents[frame]]  # keeps the way short
            frame = parents[frame]
        return frame

    for row in rows:
        parents[top(row.cells["frame2"])] = top(row.cells["frame1"])
    return {row.cells["frame1"]: _without_suffix(top(row.cells["frame1"])) for row in rows}


def _refuse_gaps(path: Path, tree: Tree, samples: list[Sample], lines: list[int]) -> None:
    gaps = [
        (gap, line)
        for sample, line in zip(samples, lines, strict=True)
        if (gap := tree.gap(sample)) is not None
    ]
    if gaps:
        raise IncompleteError(
            f"{len(gaps)} of {len(samples)} pairs that {path} lists lack a file. "
            f"The first: {gaps[0][0]}, in line {gaps[0][1]}.",
            samples,
        )


def _refuse_conflicts(path: Path, samples: list[Sample], lines: list[int]) -> None:
    """Refuses an id that comes twice, and a scene in both train and val."""
    ids: dict[str, int] = {}
    splits: dict[str, tuple[str | None, int]] = {}
    for sample, line in zip(samples, lines, strict=True):
        before = ids.setdefault(sample.id, line)
        if before != line:
            raise _refusal(path, line, f"id {sample.id} is that of line {before} too")
        split, before = splits.setdefault(sample.scene, (sample.split, line))
        if split != sample.split:
            problem = f"scene {sample.scene} is {sample.split} here and {split} in line {before}"
            raise _refusal(path, line, problem)


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _refusal(path: Path, line: int, problem: str) -> DataError:
    return DataError(f"{path}, line {line}: {problem}.")
