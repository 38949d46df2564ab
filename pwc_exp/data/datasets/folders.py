"""Folders of one's own: pairs by patterns of their names, and frames without ground truth."""

from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.datasets.layout import Tree, natural_key
from pwc_exp.data.datasets.patterns import Texts, match_files
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


class _Matches(NamedTuple):
    """The files that match a pattern, by what its wildcards matched."""

    pattern: str  # with its name: frame1=*.png
    files: dict[Texts, Path]


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
    frames = _matches(tree, "frame1", frame1)
    if frame2 is None:
        seconds = _next_files(frames.files)
    else:
        seconds = _partners(tree, "frame2", frame2, frames, frames.files)
    flows = _partners(tree, "flow", flow, frames, seconds)
    masks = _partners(tree, "valid", valid, frames, seconds)
    samples = []
    for texts, second in seconds.items():
        first = frames.files[texts]
        name = "/".join(text for text in texts if text)
        samples.append(
            Sample(
                id=name,
                scene=first.parent.relative_to(root).as_posix() if frame2 is None else name,
                frame1=first,
                frame2=second,
                flow=flows.get(texts),
                valid=masks.get(texts),
            )
        )
    return tree.complete(samples)


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


def _matches(tree: Tree, name: str, pattern: str) -> _Matches:
    return _Matches(f"{name}={pattern}", match_files(tree, name, pattern))


def _partners(
    tree: Tree, name: str, pattern: str | None, frames: _Matches, needed: Iterable[Texts]
) -> dict[Texts, Path]:
    """Files that belong to first frames: one for each needed, none without; {} for no pattern."""
    if pattern is None:
        return {}
    partners = _matches(tree, name, pattern)
    _require_same(frames, partners, needed)
    _require_same(partners, frames, partners.files)
    return partners.files


def _require_same(one: _Matches, other: _Matches, needed: Iterable[Texts]) -> None:
    alone = [one.files[texts] for texts in needed if texts not in other.files]
    if alone:
        raise DataError(
            f"{len(alone)} files that match {one.pattern} have no partner whose wildcards match "
            f"the same in {other.pattern}. The first: {min(alone)}."
        )


def _next_files(files: dict[Texts, Path]) -> dict[Texts, Path]:
    """What the wildcards matched in a file -> the next file of its folder."""
    ordered = sorted(files.items(), key=lambda item: (item[1].parent, natural_key(item[1].name)))
    return {
        texts: second
        for _, group in groupby(ordered, key=lambda item: item[1].parent)
        for (texts, _), (_, second) in pairwise(group)
    }
