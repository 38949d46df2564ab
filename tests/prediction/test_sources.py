"""Pairs of frames from everything that `frames=` can name."""

import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grey_frames import grey

from pwc_exp.data.formats.images import read_frame
from pwc_exp.errors import ConfigError, DataError, MissingInputError
from pwc_exp.prediction import sources
from pwc_exp.prediction.sources import Source, open_source


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is also the current one, with frames in two folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1", "a/2", "a/10", "b/1", "b/2", "with space"):
        grey(tmp_path / f"{name}.png", 9)
    return tmp_path


def listed(source: Source) -> list[tuple[str, str, str]]:
    return [(pair.name, pair.frame1.title, pair.frame2.title) for pair in source.pairs()]


LINES = """
# frame 1, frame 2, name
a/1.png b/1.png
a/1.png\tb/2.png\tother/name

a/1.png
a/2.png
with space.png
a/10.png\twith space.png\tlast
"""
OF_LINES = [
    ("a/1.png", "b/1.png"),
    ("a/1.png", "b/2.png"),
    ("a/1.png", "a/2.png"),
    ("a/2.png", "with space.png"),
    ("a/10.png", "with space.png"),
]
OF_LIST = ("first", "other/name", "1", "2", "last")
OF_A = [("1", "a/1.png", "a/2.png"), ("2", "a/2.png", "a/10.png")]
OF_B = [("1", "b/1.png", "b/2.png")]
OF_BOTH = [*((f"a/{one}", *two) for one, *two in OF_A), ("b/1", "b/1.png", "b/2.png")]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["a/2.png", "b/1.png"], [("2", "a/2.png", "b/1.png")]),
        (["a"], OF_A),
        (["*/*.png"], OF_BOTH),
        (["b/?.png"], OF_B),
        (["a/pairs.csv"], [("x", "a/1.png", "a/2.png"), ("2", "a/2.png", "a/../b/1.png")]),
        (["pairs.txt"], [(n, *two) for n, two in zip(OF_LIST, OF_LINES, strict=True)]),
    ],
)
def test_files_folders_patterns_and_lists(
    at: Path, places: Sequence[str], expected: list[tuple[str, str, str]]
) -> None:
    (at / "a/pairs.csv").write_text("name, frame1, frame2\nx, 1.png, 2.png\n, 2.png, ../b/1.png\n")
    (at / "pairs.txt").write_text(LINES.replace("b/1.png\n", "b/1.png first\n"))
    source = open_source(places)
    assert listed(source) == expected
    assert source.total == len(expected)


def test_standard_input_names_pairs_as_a_list_does(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(content: bytes) -> Source:
        stream = io.BufferedReader(io.BytesIO(content))
        monkeypatch.setattr(sources.sys, "stdin", SimpleNamespace(buffer=stream))
        return open_source(["-"])

    names, *frames = zip(*listed(source(LINES.encode())), strict=True)
    assert list(zip(*frames, strict=True)) == OF_LINES
    assert names == ("1", "other/name", "1_2", "2", "last")
    with pytest.raises(MissingInputError, match="standard input is empty"):
        source(b"")


def test_a_frame_of_two_pairs_is_decoded_once_and_not_kept(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_frame(path)

    monkeypatch.setattr(sources, "read_frame", noted)
    source = open_source(["a"])
    assert read == []
    assert [pair.size for pair in source.pairs()] == [(30, 46)] * 2
    assert read == ["1.png", "2.png", "10.png"]
    assert [pair.size for pair in source.pairs()] == [(30, 46)] * 2  # nothing was kept
    assert len(read) == 6


def test_a_sample_is_spread_over_all_pairs(at: Path) -> None:
    paths = [str(grey(at / f"c/{number:02}.png", number)) for number in range(21)]
    titles = [pair.frame1.title for pair in open_source(["c"]).sample(4)]
    assert titles == [f"c/{number:02}.png" for number in (0, 5, 10, 15)]
    assert len(list(open_source(paths[:3]).sample(9))) == 2


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        (["a/1.png", "b"], ConfigError, "each must be an image. Received: b"),
        (["none/*.png"], MissingInputError, "no image matches: none"),
        (["a/1.png", "a/1.png", "b/1.png"], ConfigError, "1 twice"),
        (["bad.txt"], DataError, "bad.txt, line 2: two paths and"),
        (["up.txt"], DataError, "up.txt, line 1: the name must be a path"),
        (["bad.csv"], DataError, "columns frame1 and frame2 are needed"),
        (["one.txt"], DataError, "no pair of frames"),
    ],
)
def test_what_names_no_pairs_is_refused(
    at: Path, places: list[str], error: type[Exception], message: str
) -> None:
    (at / "bad.txt").write_text("a/1.png\na b c d\n")
    (at / "up.txt").write_text("a/1.png a/2.png ../../x\n")
    (at / "bad.csv").write_text("first,second\na,b\n")
    (at / "one.txt").write_text("a/1.png\n")
    with pytest.raises(error, match=message):
        open_source(places)


def test_frames_of_two_sizes_are_refused_by_name(at: Path) -> None:
    grey(at / "small.png", 1, (20, 24))
    (pair,) = open_source(["a/1.png", "small.png"]).pairs()
    with pytest.raises(DataError, match=r"a/1.png is 30 x 46, small.png is 20 x 24"):
        assert pair.size
