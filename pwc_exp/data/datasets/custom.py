"""Custom data: pairs by patterns of file names, pairs that a CSV lists, frames without flow."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from pwc_exp.data.datasets.layout import IncompleteError, Tree, natural_key
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import ConfigError, DataError, MissingInputError

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


_NEEDED = ("frame1", "frame2")
_MASKS = ("valid", "invalid", "occlusion", "visible", "objects")
_PATHS = (*_NEEDED, "flow", *_MASKS)
_KNOWN = (*_PATHS, "flow_stride", "scene", "split", "id")

Texts = tuple[str, ...]  # what the wildcards of a pattern matched


def folder(
    root: Path, *, frame1: str, frame2: str | None, flow: str | None, valid: str | None
) -> list[Sample]:
    """Pairs of the files that match patterns, paired by what the wildcards matched.

    Without `frame2`, a pair is two consecutive files of a folder among those that `frame1` matches,
    in natural order, and a scene is a folder; else a scene is a pair. The flow and mask of a pair
    match as its first frame does. valid: masks, zero where the flow is not to be used.
    """
    tree = Tree(root, f"files that match frame1={frame1}")
    tree.require(root)
    frames = match_files(tree, "frame1", frame1)

    def partners(name: str, pattern: str | None, needed: Iterable[Texts]) -> dict[Texts, Path]:
        """Files that belong to first frames: one for each needed, none without."""
        if pattern is None:
            return {}
        found = match_files(tree, name, pattern)
        patterns = f"frame1={frame1}", f"{name}={pattern}"
        _refuse_lone(patterns, [frames[texts] for texts in needed if texts not in found])
        _refuse_lone(patterns[::-1], [path for texts, path in found.items() if texts not in frames])
        return found

    seconds = _next_files(frames) if frame2 is None else partners("frame2", frame2, frames)
    flows, masks = partners("flow", flow, seconds), partners("valid", valid, seconds)
    samples = []
    for texts, second in seconds.items():
        name = "/".join(text for text in texts if text)
        place = frames[texts].parent.relative_to(root).as_posix()
        samples.append(
            Sample(
                id=name,
                scene=place if frame2 is None else name,
                frame1=frames[texts],
                frame2=second,
                flow=flows.get(texts),
                valid=masks.get(texts),
            )
        )
    return tree.complete(samples)


def _refuse_lone(patterns: Sequence[str], alone: list[Path]) -> None:
    if alone:
        raise DataError(
            f"{len(alone)} files that match {patterns[0]} have no partner whose wildcards match "
            f"the same in {patterns[1]}. The first: {min(alone)}."
        )


def _next_files(files: dict[Texts, Path]) -> dict[Texts, Path]:
    """What the wildcards matched in a file -> the next file of its folder."""
    ordered = sorted(files.items(), key=lambda item: (item[1].parent, natural_key(item[1].name)))
    return {
        texts: second
        for (texts, first), (_, second) in pairwise(ordered)
        if first.parent == second.parent
    }


def unlabelled(root: Path) -> list[Sample]:
    """Pairs of consecutive images of a folder, in natural order, without ground truth."""
    tree = Tree(root, "images such as frame_0001.png and frame_0002.png")
    tree.require(root)
    names = [name for name in tree.names(root) if name.lower().endswith(_FRAME_SUFFIXES)]
    if len(names) < 2:
        raise DataError(f"Expected at least two images in {root}. Received: {len(names)}.")
    return tree.complete(
        Sample(
            id=Path(first).stem,
            scene=root.name,
            frame1=root / first,
            frame2=root / second,
            flow=None,
        )
        for first, second in pairwise(sorted(names, key=natural_key))
    )


def match_files(tree: Tree, name: str, pattern: str) -> dict[Texts, Path]:
    """What the wildcards matched -> file, for every file below the root that matches.

    Args:
        name: of the pattern, for messages.
        pattern: relative to the root; `*` is any text and `?` any character within a name, `**` any
            number of folders (symbolic links among these are not followed).
    """
    parts = _parts(name, pattern)
    found: dict[Texts, Path] = {}
    for texts, path in _walk(tree, tree.root, parts):
        if texts in found:
            raise DataError(
                f"{name}={pattern} matches two files in the same way: {found[texts]} and {path}."
            )
        found[texts] = path
    if not found:
        raise MissingInputError(
            f"No file matches {name}={pattern} in {tree.root}. Received: {tree.received()}."
        )
    return found


def _parts(name: str, pattern: str) -> list[str]:
    if pattern.startswith("/") or "\\" in pattern or ".." in pattern.split("/"):
        raise ConfigError(f"{name} must stay in the root, with / between folders: {pattern}.")
    parts = list(PurePosixPath(pattern).parts)
    if not parts or any("**" in part and part != "**" for part in parts) or parts[-1] == "**":
        raise ConfigError(f"{name} must name files; ** matches whole folders: {pattern}.")
    if not any(set(part) & set("*?") for part in parts):
        raise ConfigError(f"{name} must have a wildcard, * or ?: {pattern}.")
    return parts


def _walk(tree: Tree, folder: Path, parts: list[str]) -> Iterator[tuple[Texts, Path]]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        for below, deeper in _descend(tree, folder, ""):
            yield from _prefixed((below,), _walk(tree, deeper, rest))
        return
    wildcards = {"*": "(.*)", "?": "(.)"}
    regex = re.compile("".join(wildcards.get(c) or re.escape(c) for c in head), re.DOTALL)
    folders = set(tree.folders(folder))
    for name in tree.names(folder):
        if match := regex.fullmatch(name):
            if rest and name in folders:
                yield from _prefixed(match.groups(), _walk(tree, folder / name, rest))
            elif not rest and name not in folders:
                yield match.groups(), folder / name


def _descend(tree: Tree, folder: Path, below: str) -> Iterator[tuple[str, Path]]:
    """The folder and all folders below it, with the way there."""
    yield below, folder
    for name in tree.folders(folder, links=False):
        yield from _descend(tree, folder / name, f"{below}/{name}" if below else name)


def _prefixed(texts: Texts, found: Iterator[tuple[Texts, Path]]) -> Iterator[tuple[Texts, Path]]:
    return ((texts + more, path) for more, path in found)


def from_manifest(root: Path, *, manifest: str | Path) -> list[Sample]:
    """Pairs of a CSV file whose header names some of `_KNOWN`, at least frame1 and frame2.

    Paths are relative to the root. Without `scene`, pairs that share a frame, also by way of other
    pairs, are of one scene; without `id`, it is the path of the first frame.
    """
    path = Path(manifest)
    rows = _read(path)  # by line
    tree = Tree(root, f"the files that {path} lists")
    tree.require(root)
    scenes = _linked(rows.values())
    samples = {line: _sample(root, cells, scenes) for line, cells in rows.items()}
    gaps = [(gap, line) for line, sample in samples.items() if (gap := tree.gap(sample))]
    if gaps:
        raise IncompleteError(
            f"{len(gaps)} of {len(samples)} pairs that {path} lists lack a file. "
            f"The first: {gaps[0][0]}, in line {gaps[0][1]}.",
            list(samples.values()),
        )
    ids: dict[str, int] = {}
    splits: dict[str, tuple[str | None, int]] = {}
    for line, sample in samples.items():
        before = ids.setdefault(sample.id, line)
        if before != line:
            raise _refusal(path, line, f"id {sample.id} is that of line {before} too")
        split, before = splits.setdefault(sample.scene, (sample.split, line))
        if split != sample.split:
            problem = f"scene {sample.scene} is {sample.split} here and {split} in line {before}"
            raise _refusal(path, line, problem)
    return tree.complete(samples.values())


def _sample(root: Path, cells: dict[str, str], scenes: dict[str, str]) -> Sample:
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


def _read(path: Path) -> dict[int, dict[str, str]]:
    """Number of a line -> its cells by column, without the empty ones."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 in {path}. Received: {error.reason}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    lines: dict[int, list[str]] = {}
    try:
        for values in reader:
            if any(value.strip() for value in values):
                lines[reader.line_num] = [value.strip() for value in values]
    except csv.Error as error:
        raise _refusal(path, reader.line_num, str(error)) from None
    if len(lines) < 2:
        raise DataError(f"No pairs in {path}. Expected a header and a line for each pair.")
    (first, header), *rows = lines.items()
    _check_header(path, first, header)
    return {line: _checked(path, line, header, values) for line, values in rows}


def _check_header(path: Path, line: int, header: list[str]) -> None:
    for name in header:
        if name not in _KNOWN:
            raise _refusal(path, line, f"unknown column {name!r}. Known: {', '.join(_KNOWN)}")
        if header.count(name) > 1:
            raise _refusal(path, line, f"column {name} occurs twice")
    for name in _NEEDED:
        if name not in header:
            raise _refusal(path, line, f"expected a column {name}. Received: {', '.join(header)}")


def _checked(path: Path, line: int, header: list[str], values: list[str]) -> dict[str, str]:
    if len(values) != len(header):
        raise _refusal(path, line, f"expected {len(header)} cells. Received: {len(values)}")
    cells = dict(zip(header, values, strict=True))
    for name, value in cells.items():
        if not value and name not in _MASKS:
            raise _refusal(path, line, f"{name} is empty")
        if name in _PATHS and (value.startswith("/") or ".." in Path(value).parts):
            raise _refusal(path, line, f"{name} must be a path in data.root. Received: {value}")
    if not re.fullmatch(r"[1-9]\d?", stride := cells.get("flow_stride", "1")):
        raise _refusal(path, line, f"flow_stride must be 1 to 99. Received: {stride}")
    if cells.get("split", "train") not in ("train", "val"):
        raise _refusal(path, line, f"split must be train or val. Received: {cells['split']}")
    return {name: value for name, value in cells.items() if value}


def _linked(rows: Iterable[dict[str, str]]) -> dict[str, str]:
    """First frame of a pair -> a name for all pairs that are linked with it by common frames."""
    parents: dict[str, str] = {}

    def top(frame: str) -> str:
        while parents.setdefault(frame, frame) != frame:
            parents[frame] = parents[parents[frame]]  # keeps the way short
            frame = parents[frame]
        return frame

    for cells in rows:
        parents[top(cells["frame2"])] = top(cells["frame1"])
    return {cells["frame1"]: _without_suffix(top(cells["frame1"])) for cells in rows}


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _refusal(path: Path, line: int, problem: str) -> DataError:
    return DataError(f"{path}, line {line}: {problem}.")
