"""What `frames=` names: pairs of frames, from files, lists, videos or standard input.

Nothing is decoded before it is asked for, and a frame that two pairs share is decoded once.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from pwc_exp.config.commands import STANDARD_INPUT
from pwc_exp.data.datasets import unlabelled
from pwc_exp.data.formats.images import read_frame
from pwc_exp.errors import ConfigError, DataError, DeviceMemoryError, MissingInputError
from pwc_exp.prediction.clips import inspect_clip, read_clip, sample_clip
from pwc_exp.prediction.lists import Listed, match_images, read_csv, read_lines, read_text

OF_ONE_PAIR = (DataError, MissingInputError, DeviceMemoryError)  # the next may not have it
LISTS = {".csv": read_csv, ".txt": read_text}
_TEXT_MAGIC = b"YUV4MPEG2"  # a raw video that begins as text


class Frame:
    """An image, read when its pixels are first asked for.

    Attributes:
        title: names it in messages and records.
        identity: what tells that it is another than before; None if nothing does.
    """

    def __init__(
        self, title: str, read: Callable[[], np.ndarray], identity: dict[str, Any] | None
    ) -> None:
        self.title = title
        self.identity = identity
        self._read = read

    @cached_property
    def pixels(self) -> np.ndarray:
        """[H, W, 3] float32 RGB in [0, 1]."""
        return self._read()


class Pair(NamedTuple):
    """Two frames, and the name of their results: a path without suffix, below `out`."""

    name: str
    frame1: Frame
    frame2: Frame

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of both; refuses two sizes."""
        (height1, width1), (height2, width2) = (
            frame.pixels.shape[:2] for frame in (self.frame1, self.frame2)
        )
        if (height1, width1) != (height2, width2):
            raise DataError(
                "Frames of one pair must be of one size (height x width): "
                f"{self.frame1.title} is {height1} x {width1}, "
                f"{self.frame2.title} is {height2} x {width2}"
            )
        return height1, width1

    def __str__(self) -> str:
        return f"{self.frame1.title} -> {self.frame2.title}"


class Source(NamedTuple):
    """Pairs, and what is known of them beforehand."""

    title: str  # of all of it, for the names of videos
    pairs: Callable[[], Iterator[Pair]]  # once, if it is a stream
    sample: Callable[[int], Iterable[Pair]]  # at most so many pairs, spread over all; none: stream
    total: int | None  # pairs, if that is known
    frame_rate: Fraction | None  # of a video, per second
    identity: dict[str, Any] | None  # tells that all is as it was before; None: nothing does
    inputs: frozenset[Path]  # files that no result may replace, resolved
    names: Sequence[str]  # of the pairs, where they are known


def open_source(places: Sequence[str]) -> Source:
    """Finds the frames that `places` name.

    Args:
        places: image files, at least two: consecutive frames. Or one of: a folder, a pattern with
            wildcards, a list (.txt, .csv), a video, "-".

    Raises:
        ConfigError: two pairs would have one name.
        MissingInputError, DataError: there are no frames.
    """
    if len(places) > 1:
        paths = [Path(place) for place in places]
        for path in paths:
            if path.is_dir():
                raise ConfigError(f"frames: of several, each must be an image. Received: {path}")
        return _files([Listed(*pair) for pair in pairwise(paths)], title=paths[0].stem)
    (place,) = places
    path = Path(place)
    if place == STANDARD_INPUT:
        return _standard_input(cast(BufferedReader, sys.stdin.buffer))
    if path.is_dir():
        samples = unlabelled(path)
        title = path.resolve().name
        return _files([Listed(sample.frame1, sample.frame2) for sample in samples], title=title)
    if not path.exists():
        return _files(match_images(place), title="frames")
    if path.suffix.lower() in LISTS:
        return _files(LISTS[path.suffix.lower()](path), title=path.stem)
    return _clip(path)


def _files(listed: Sequence[Listed], *, title: str) -> Source:
    if not listed:
        raise DataError(f"{title}: no pair of frames")
    names = _names(listed)

    def pairs(chosen: Iterable[int]) -> Iterator[Pair]:
        before: Frame | None = None
        for number in chosen:
            path1, path2 = listed[number][:2]
            frame1 = before if before and before.title == str(path1) else _file(path1)
            before = _file(path2)
            yield Pair(names[number], frame1, before)

    total = len(listed)
    return Source(
        title=title,
        pairs=lambda: pairs(range(total)),
        sample=lambda count: pairs(sorted({n * total // count for n in range(count)})),
        total=total,
        frame_rate=None,
        identity=_identity_of_all(listed),
        inputs=frozenset(path.resolve() for item in listed for path in item[:2]),
        names=names,
    )


def _file(path: Path) -> Frame:
    return Frame(str(path), lambda: read_frame(path), _identity(path))


def _identity(path: Path) -> dict[str, Any] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # it will be missed when it is read
    return {"file": str(path.resolve()), "bytes": status.st_size, "modified": status.st_mtime_ns}


def _identity_of_all(listed: Sequence[Listed]) -> dict[str, Any] | None:
    each = [_identity(path) for item in listed for path in item[:2]]
    if None in each:
        return None
    return {"pairs": len(listed), "sha256": hashlib.sha256(json.dumps(each).encode()).hexdigest()}


def _names(listed: Sequence[Listed]) -> list[str]:
    """The first frames' paths without suffix, below the folder that all of them share."""
    folders = [os.path.abspath(item.frame1.parent) for item in listed]
    shared = os.path.commonpath(folders)
    names = [
        item.name
        or (Path(folder).relative_to(shared) / item.frame1.name).with_suffix("").as_posix()
        for item, folder in zip(listed, folders, strict=True)
    ]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"frames: names must differ. Received: {name} twice")
        seen.add(name)
    return names


def _clip(path: Path) -> Source:
    facts = inspect_clip(path)
    identity = _identity(path)

    def sample(count: int) -> Iterator[Pair]:
        for first, second in sample_clip(path, count):
            frames = (_decoded(str(path), pixels, None) for pixels in (first, second))
            yield Pair("", *frames)

    def pairs() -> Iterator[Pair]:
        found = False
        for pair in _consecutive(read_clip(path, str(path)), str(path), path.stem, identity):
            found = True
            yield pair
        if not found:
            raise DataError(f"{path}: a video of at least two frames is needed")

    return Source(
        title=path.stem,
        pairs=pairs,
        sample=sample,
        total=facts.frames and facts.frames - 1,
        frame_rate=facts.frame_rate,
        identity=identity,
        inputs=frozenset({path.resolve()}),
        names=[],
    )


def _consecutive(
    images: Iterable[np.ndarray], title: str, stem: str, identity: dict[str, Any] | None
) -> Iterator[Pair]:
    frames = (
        _decoded(f"{title}, frame {number}", pixels, identity and {**identity, "frame": number})
        for number, pixels in enumerate(images, start=1)
    )
    for number, (frame1, frame2) in enumerate(pairwise(frames), start=1):
        yield Pair(f"{stem}_{number:06d}", frame1, frame2)


def _decoded(title: str, pixels: np.ndarray, identity: dict[str, Any] | None) -> Frame:
    return Frame(title, lambda: pixels.astype(np.float32) / np.float32(255), identity)


def _standard_input(stream: BufferedReader) -> Source:
    """Lines that name images, or else a video: whatever comes first decides."""
    head = stream.peek(64)[:64]
    if not head:
        raise MissingInputError("frames: standard input is empty")
    if b"\0" in head or head.startswith(_TEXT_MAGIC) or not _is_text(head):
        images = read_clip(stream, "standard input")
        return _stream(lambda: _consecutive(images, "standard input", "frame", None))

    def pairs() -> Iterator[Pair]:
        times: Counter[str] = Counter()
        before: Frame | None = None
        lines = (line.decode(errors="surrogateescape") for line in stream)
        for listed in read_lines(lines, Path(), "standard input"):
            name = listed.name or listed.frame1.stem
            times[name] += 1
            if times[name] > 1:  # what comes later cannot be known, so the first keeps its name
                name = f"{name}_{times[name]}"
            first = listed.frame1
            frame1 = before if before and before.title == str(first) else _file(first)
            before = _file(listed.frame2)
            yield Pair(name, frame1, before)

    return _stream(pairs)


def _stream(pairs: Callable[[], Iterator[Pair]]) -> Source:
    return Source(
        title="frames",
        pairs=pairs,
        sample=lambda count: [],
        total=None,
        frame_rate=None,
        identity=None,
        inputs=frozenset(),
        names=[],
    )


def _is_text(head: bytes) -> bool:
    # A character may be cut at the end.
    return any(_decodes(head[: len(head) - cut]) for cut in range(4))


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
