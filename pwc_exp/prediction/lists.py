"""Pairs that a list names: lines of text, a CSV file, or a pattern with wildcards."""

import csv
import glob
import io
import shlex
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.datasets.layout import natural_key
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.errors import DataError, MissingInputError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


class Listed(NamedTuple):
    """The files of a pair, and the name of its results; None: that of the first."""

    frame1: Path
    frame2: Path
    name: str | None = None


def read_lines(lines: Iterable[str], folder: Path, title: str) -> Iterator[Listed]:
    """Pairs of lines: "frame1 frame2", "frame1 frame2 name", or one path: the next frame.

    A tab separates, or else white space, which quotes protect; a line that is the path of a file
    is that path. Empty lines, and those that begin with #, are left out.

    Args:
        folder: that relative paths start from.
        title: of the list, for messages.
    """
    before: Path | None = None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        words = _words(text, folder, f"{title}, line {number}")
        frame1 = folder / words[0]
        if len(words) == 1:
            if before is not None:
                yield Listed(before, frame1)
            before = frame1
        else:
            yield Listed(frame1, folder / words[1], _checked(words[2:], f"{title}, line {number}"))
            before = None


def read_text(path: Path) -> list[Listed]:
    """Pairs of a .txt file, whose paths are relative to its folder."""
    return list(read_lines(_text(path).splitlines(), path.parent, str(path)))


def read_csv(path: Path) -> list[Listed]:
    """Pairs of a .csv file with a header: columns frame1, frame2 and, if wished, name."""
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), skipinitialspace=True)
    columns = rows.fieldnames or []
    if not {"frame1", "frame2"} <= set(columns):
        raise DataError(f"{path}: columns frame1 and frame2 are needed. Received: {columns}")
    pairs = []
    for row in rows:
        frame1, frame2 = row["frame1"], row["frame2"]
        where = f"{path}, line {rows.line_num}"
        if not frame1 or not frame2:
            raise DataError(f"{where}: two frames are needed. Received: {row}")
        name = _checked([row["name"]] if row.get("name") else [], where)
        pairs.append(Listed(path.parent / frame1, path.parent / frame2, name))
    return pairs


def match_images(pattern: str) -> list[Listed]:
    """Consecutive images that match a pattern with wildcards; a folder's last begins no pair."""
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]
    images = [path for path in found if path.suffix.lower() in IMAGES]
    if not images:
        raise MissingInputError(f"frames: no such file or folder, and no image matches: {pattern}")
    ordered = sorted(images, key=lambda path: (path.parent, natural_key(path.name)))
    return [
        Listed(*pair)
        for _, group in groupby(ordered, key=lambda path: path.parent)
        for pair in pairwise(group)
    ]


def _words(text: str, folder: Path, where: str) -> list[str]:
    if "\t" in text:
        words = [word.strip() for word in text.split("\t")]
    elif (folder / text).exists():
        words = [text]
    else:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise DataError(f"{where}: {error}. Received: {text}") from None
    if len(words) > 3:
        raise DataError(f"{where}: one or two paths and a name are expected. Received: {text}")
    return words


def _checked(names: list[str], where: str) -> str | None:
    """The name that a line gives; it must stay below the folder of the results."""
    if not names:
        return None
    (name,) = names
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{where}: the name must be a path below out. Received: {name}")
    return name


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 in {path}. Received: {error.reason}.") from None
