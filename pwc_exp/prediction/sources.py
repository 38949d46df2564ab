"""What `frames=` names: pairs of frames, from files, lists, videos or standard input.

Nothing is decoded before it is asked for, and a frame that two pairs share is decoded once. Videos
are read with PyAV, a binding of FFmpeg.

Letters: H height, W width.
"""

import csv
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pwc_exp.config.commands import STANDARD_INPUT
from pwc_exp.data.datasets.custom import unlabelled
from pwc_exp.data.datasets.layout import natural_key
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.formats.images import read_frame
from pwc_exp.errors import ConfigError, DataError, DeviceMemoryError, MissingInputError

OF_ONE_PAIR = (DataError, MissingInputError, DeviceMemoryError)  # the next pair may be fine
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")
_TEXT_VIDEO = b"YUV4MPEG2"  # begins a video format whose header is text


@dataclass(eq=False)
class Frame:
    """An image, read when its pixels are first asked for."""

    title: str  # names it in messages and records
    read: Callable[[], np.ndarray]
    file: Path | None  # that it comes from; None: a stream

    @cached_property
    def pixels(self) -> np.ndarray:
        """[H, W, 3] float32 RGB in [0, 1]."""
        return self.read()


class Pair(NamedTuple):
    """Two frames, and the name of their results: a path without suffix, below `out`."""

    name: str
    frame1: Frame
    frame2: Frame

    def frames(self, *, backward: bool) -> tuple[Frame, Frame]:
        """The frame whose pixels a flow moves, and the frame that it leads to."""
        return (self.frame2, self.frame1) if backward else (self.frame1, self.frame2)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of both frames, which must have one size."""
        size1, size2 = self.frame1.pixels.shape[:2], self.frame2.pixels.shape[:2]
        if size1 != size2:
            raise DataError(
                "Frames of one pair must be of one size (height x width): "
                f"{self.frame1.title} is {size1[0]} x {size1[1]}, "
                f"{self.frame2.title} is {size2[0]} x {size2[1]}"
            )
        return size1[0], size1[1]

    @property
    def files(self) -> list[Path]:
        """The files that the frames come from; none of a stream."""
        return [frame.file for frame in (self.frame1, self.frame2) if frame.file is not None]

    def __str__(self) -> str:
        return f"{self.frame1.title} -> {self.frame2.title}"


class Source(NamedTuple):
    """Pairs, and what is known about them before they are read."""

    title: str  # of all of it, for the names of videos
    pairs: Callable[[], Iterator[Pair]]  # can be iterated once if it is a stream
    sample: Callable[[int], Iterable[Pair]] = lambda count: []  # some pairs, spread over all
    total: int | None = None  # pairs, if that is known
    frame_rate: Fraction | None = None  # of a video, per second
    inputs: frozenset[Path] = frozenset()  # resolved files, which no result may replace
    names: Sequence[str] = ()  # of the pairs, where they are known


class _Listed(NamedTuple):
    """The files of a pair, and the name of its results; None: that of the first."""

    frame1: Path
    frame2: Path
    name: str | None = None


def open_source(places: Sequence[str]) -> Source:
    """Finds the frames that `places` name.

    They are image files, at least two: consecutive frames. Or one of: a folder, a pattern with
    wildcards, a list (.txt, .csv), a video, "-".

    Raises:
        ConfigError: two pairs would have one name.
        MissingInputError, DataError: there are no frames.
    """
    path = Path(places[0])
    if len(places) > 1:
        paths = [Path(place) for place in places]
        if folders := [each for each in paths if each.is_dir()]:
            raise ConfigError(f"frames: of several, each must be an image. Received: {folders[0]}")
        return _files([_Listed(*pair) for pair in pairwise(paths)], title=path.stem)
    if places[0] == STANDARD_INPUT:
        return _standard_input(sys.stdin.buffer)  # type: ignore[arg-type]
    if path.is_dir():
        listed = [_Listed(sample.frame1, sample.frame2) for sample in unlabelled(path)]
        return _files(listed, title=path.resolve().name)
    if not path.exists():
        return _files(_match_images(places[0]), title="frames")
    if read := {".csv": _read_csv, ".txt": _read_list}.get(path.suffix.lower()):
        return _files(read(path), title=path.stem)
    return _video(path)


def _files(listed: Sequence[_Listed], *, title: str) -> Source:
    if not listed:
        raise DataError(f"{title}: no pair of frames")
    total, named = len(listed), list(zip(_names(listed), listed, strict=True))
    return Source(
        title=title,
        pairs=lambda: _pairs_of_files(named),
        sample=lambda count: _pairs_of_files(
            named[number] for number in sorted({n * total // count for n in range(count)})
        ),
        total=total,
        inputs=frozenset(path.resolve() for item in listed for path in item[:2]),
        names=[name for name, _ in named],
    )


def _pairs_of_files(named: Iterable[tuple[str, _Listed]]) -> Iterator[Pair]:
    def frame(path: Path) -> Frame:
        return Frame(str(path), lambda: read_frame(path), path)

    before: Frame | None = None
    for name, (path1, path2, _) in named:
        frame1 = before if before and before.file == path1 else frame(path1)
        before = frame(path2)
        yield Pair(name, frame1, before)


def _names(listed: Sequence[_Listed]) -> list[str]:
    """The first frames' paths without suffix, below the folder that all of them share."""
    folders = [os.path.abspath(item.frame1.parent) for item in listed]
    shared = os.path.commonpath(folders)
    names = [
        item.name or (Path(folder).relative_to(shared) / item.frame1.stem).as_posix()
        for item, folder in zip(listed, folders, strict=True)
    ]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"frames: names must differ. Received: {name} twice")
    return names


def _match_images(pattern: str) -> list[_Listed]:
    """Consecutive images that match a pattern; the last image of a folder begins no pair."""
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]
    images = [path for path in found if path.suffix.lower() in IMAGES]
    if not images:
        raise MissingInputError(f"frames: no such file or folder, and no image matches: {pattern}")
    ordered = sorted(images, key=lambda path: (path.parent, natural_key(path.name)))
    folders = groupby(ordered, key=lambda path: path.parent)
    return [_Listed(*pair) for _, group in folders for pair in pairwise(group)]


def _read_csv(path: Path) -> list[_Listed]:
    """Pairs of a .csv file with a header: columns frame1, frame2 and, optionally, name."""
    rows = csv.DictReader(io.StringIO(_read_text(path), newline=""), skipinitialspace=True)
    columns = rows.fieldnames or []
    if not {"frame1", "frame2"} <= set(columns):
        raise DataError(f"{path}: columns frame1 and frame2 are needed. Received: {columns}")
    return [
        _listed([row["frame1"], row["frame2"], row.get("name")], path.parent, path, rows.line_num)
        for row in rows
    ]


def _read_list(path: Path) -> list[_Listed]:
    return list(_read_lines(_read_text(path).splitlines(), path.parent, path))


def _read_lines(lines: Iterable[str], folder: Path, title: Path | str) -> Iterator[_Listed]:
    """Pairs of lines: "frame1 frame2", "frame1 frame2 name", or one path: the next frame.

    Tabs or white space separate; a line that is the path of a file is that path. Empty lines and
    lines that begin with # are skipped. Relative paths start from `folder`.
    """
    before: str | None = None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        words = [text] if (folder / text).exists() else text.split("\t" if "\t" in text else None)
        if len(words) > 1:
            yield _listed([word.strip() for word in words], folder, title, number)
            before = None
            continue
        if before is not None:
            yield _listed([before, text], folder, title, number)
        before = text


def _listed(words: Sequence[str | None], folder: Path, title: Path | str, number: int) -> _Listed:
    """Two paths and, optionally, a name, which must stay below the folder of the results."""
    where = f"{title}, line {number}"
    frame1, frame2, name, *more = [*words, None]
    if not frame1 or not frame2 or any(more):
        raise DataError(
            f"{where}: two paths and, if wished, a name are expected. Received: {words}"
        )
    if name and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise DataError(f"{where}: the name must be a path below out. Received: {name}")
    return _Listed(folder / frame1, folder / frame2, name or None)


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 in {path}. Received: {error.reason}.") from None


def _standard_input(stream: io.BufferedReader) -> Source:
    """Lines that name images, or a video: the first bytes decide."""
    head = stream.peek()
    if not head:
        raise MissingInputError("frames: standard input is empty")
    if b"\0" in head or head.startswith(_TEXT_VIDEO):
        images = read_video(stream, "standard input")
        return Source("frames", lambda: _consecutive(images, "standard input", "frame", None))

    def named() -> Iterator[tuple[str, _Listed]]:
        times: Counter[str] = Counter()
        lines = (line.decode(errors="surrogateescape") for line in stream)
        for listed in _read_lines(lines, Path(), "standard input"):
            name = listed.name or listed.frame1.stem
            times[name] += 1  # later names are not known yet, so the first keeps its name
            yield name if times[name] == 1 else f"{name}_{times[name]}", listed

    return Source("frames", lambda: _pairs_of_files(named()))


def _video(path: Path) -> Source:
    with _opened(path, str(path)) as (_, stream):  # by its header, which may be wrong
        frames, frame_rate = stream.frames, stream.average_rate

    return Source(
        title=path.stem,
        pairs=lambda: _consecutive(read_video(path, str(path)), str(path), path.stem, path),
        sample=lambda count: _sample_video(path, count),
        total=frames - 1 if frames else None,
        frame_rate=frame_rate,
        inputs=frozenset({path.resolve()}),
    )


def _sample_video(path: Path, count: int) -> Iterator[Pair]:
    """Pairs of consecutive frames at `count` places spread over a video, but for damaged ones."""
    for number in range(count):
        with suppress(DataError), _opened(path, str(path)) as (container, stream):
            length = int((stream.duration or 0) * number / count)
            container.seek((stream.start_time or 0) + length, stream=stream)
            two = islice(container.decode(stream), 2)
            images = [frame.to_ndarray(format="rgb24") for frame in two]
            if len(images) == 2:
                yield from _consecutive(images, str(path), path.stem, path)


def _consecutive(
    images: Iterable[np.ndarray], title: str, stem: str, file: Path | None
) -> Iterator[Pair]:
    """Pairs of images of a video, [H, W, 3] uint8, named by their number."""

    def frame(number: int, pixels: np.ndarray) -> Frame:
        named = f"{title}, frame {number}"
        return Frame(named, lambda: pixels.astype(np.float32) / np.float32(255), file)

    frames = (frame(number, pixels) for number, pixels in enumerate(images, start=1))
    number = 0
    for number, (frame1, frame2) in enumerate(pairwise(frames), start=1):
        yield Pair(f"{stem}_{number:06d}", frame1, frame2)
    if not number:
        raise DataError(f"{title}: a video of at least two frames is needed")


def read_video(source: Path | BinaryIO, title: str) -> Iterator[np.ndarray]:
    """The frames of a video in the order in which they are shown, [H, W, 3] uint8 RGB.

    Pixels are taken as they are stored: a rotation that the file asks for is not applied.

    Raises:
        DataError: it is not a video, or damaged from some frame on, after the frames before it.
    """
    with _opened(source, title) as (container, stream):
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


@contextmanager
def _opened(source: Path | BinaryIO, title: str) -> Iterator[tuple[Any, Any]]:
    """Gives the container and its first video stream; FFmpeg's complaints become one line."""
    import av.error

    try:
        with av.open(str(source) if isinstance(source, Path) else source) as container:
            if not container.streams.video:
                raise DataError(f"{title}: not a video, it has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{title}: not a video that can be decoded; {reason}") from error
