import fcntl
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import Server, serving

from pwc_exp.data.fetching.archives import Archive, Entry
from pwc_exp.data.fetching.fetch import Fetched, fetch
from pwc_exp.errors import DataError, MissingInputError, OutputError

FRAMES = {"toy/training/clean/a.png": b"frame" * 300, "toy/training/clean/b.png": b"other" * 300}
FLOWS = {"toy/training/flow/a.flo": b"flow" * 500}
SPLIT = b"1\n2\n"
NAMES = ("split.txt", "frames.zip", "flow.tar.bz2")
UNPACKED = {name.removeprefix("toy/"): content for name, content in (FRAMES | FLOWS).items()}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)  # without the time of today
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def entry(server: Server) -> Entry:
    archives = (
        Archive(server.put("/split.txt", SPLIT), "split.txt"),
        Archive(server.put("/file/17", zipped(FRAMES)), "frames.zip", "toy"),
        Archive(server.put("/flow.tar.bz2", tarred(FLOWS)), "flow.tar.bz2", "toy"),
    )
    return Entry("toy", "CC BY 4.0", "https://toy.example", "this test", archives)


@pytest.fixture
def lines() -> list[str]:
    return []


def run(entry: Entry, root: Path, lines: list[str], **options: bool) -> Fetched:
    options = {"accept_licence": True} | options
    return fetch(entry, root, timeout=5.0, sleep=lambda _: None, report=lines.append, **options)


def data_of(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    names = {path: path.relative_to(root) for path in files}
    return {
        str(name): path.read_bytes() for path, name in names.items() if name.parts[0] != "archives"
    }


def test_a_data_set_is_downloaded_unpacked_and_tidied(
    entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    root = tmp_path / "new" / "toy"
    assert run(entry, root, lines) == Fetched(NAMES, (), ())
    assert data_of(root) == {"split.txt": SPLIT, **UNPACKED}
    kept = {path.name for path in (root / "archives").iterdir()}
    assert kept == {".lock"} | {f"{name}.{end}" for name in NAMES for end in ("done", "sha256")}
    digest = hashlib.sha256(zipped(FRAMES)).hexdigest()
    assert f"frames.zip: sha256 {digest}" in lines
    assert f"frames.zip: 2 files, 3000 bytes, in {root}" in lines


def test_the_plan_comes_first_and_alone_without_the_licence(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    assert run(entry, tmp_path / "toy", lines, accept_licence=False) == Fetched((), (), NAMES)
    assert not (tmp_path / "toy").exists()
    assert server.ranges() == ["bytes=0-0"] * 3
    assert lines[0] == "toy: licence: CC BY 4.0"
    assert lines[1] == "  see https://toy.example"
    size = len(zipped(FRAMES))
    assert lines[3] == f"  frames.zip: {size} bytes, from {server.url}/file/17"
    assert lines[-1] == "Nothing was downloaded. Accept the licence to go on."


def test_a_second_call_does_nothing(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    run(entry, tmp_path, lines)
    server.requests.clear()
    assert run(entry, tmp_path, lines) == Fetched((), NAMES, ())
    assert server.requests == []
    assert f"remove {tmp_path}/archives/frames.zip.done" in lines[-2]


def test_only_what_is_missing_is_fetched_again(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    run(entry, tmp_path, lines)
    (tmp_path / "archives" / "frames.zip.done").unlink()
    server.requests.clear()
    assert run(entry, tmp_path, lines) == Fetched(("frames.zip",), ("split.txt", NAMES[2]), ())
    assert {path for _, path, _ in server.requests} == {"/file/17"}


def test_an_archive_from_another_address_is_not_the_same(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    run(entry, tmp_path, lines)
    moved = entry.archives[1]._replace(url=server.put("/new", zipped(FRAMES)))
    again = run(entry._replace(archives=(moved,)), tmp_path, lines)
    assert again.fetched == ("frames.zip",)


def test_archives_can_be_kept_and_are_used_again(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    run(entry, tmp_path, lines, keep_archives=True)
    assert (tmp_path / "archives" / "frames.zip").read_bytes() == zipped(FRAMES)
    (tmp_path / "archives" / "frames.zip.done").unlink()
    server.requests.clear()
    assert run(entry, tmp_path, lines).fetched == ("frames.zip",)
    assert server.requests == []


def test_an_archive_that_was_put_there_by_hand_is_used(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "frames.zip").write_bytes(zipped(FRAMES))
    by_hand = entry._replace(archives=entry.archives[1:2])
    assert run(by_hand, tmp_path, lines).fetched == ("frames.zip",)
    assert server.requests == []


def test_a_call_goes_on_after_a_failure(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    server.files["/file/17"].cuts = [100] * 6  # one for the plan
    server.files["/file/17"].ranges = False
    with pytest.raises(MissingInputError, match=f"{server.url}/file/17"):
        run(entry, tmp_path, lines)
    assert data_of(tmp_path) == {"split.txt": SPLIT}
    server.files["/file/17"].cuts, server.files["/file/17"].ranges = [], True
    server.requests.clear()
    assert run(entry, tmp_path, lines).fetched == NAMES[1:]
    assert "bytes=100-" in server.ranges()
    assert data_of(tmp_path) == {"split.txt": SPLIT, **UNPACKED}


def test_a_wrong_checksum_unpacks_nothing(entry: Entry, tmp_path: Path, lines: list[str]) -> None:
    wrong = entry.archives[1]._replace(sha256="0" * 64)
    with pytest.raises(DataError, match="Wrong checksum"):
        run(entry._replace(archives=(wrong,)), tmp_path, lines)
    assert data_of(tmp_path) == {}


def test_a_hostile_archive_is_not_noted_as_done(
    server: Server, entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    bad = Archive(server.put("/bad.zip", zipped({"../out": b"x"})), "bad.zip")
    for _ in range(2):
        with pytest.raises(DataError, match="no plain relative path"):
            run(entry._replace(archives=(bad,)), tmp_path / "toy", lines)
    assert {path.name for path in tmp_path.iterdir()} == {"toy"}


def test_a_placed_file_is_not_overwritten(entry: Entry, tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "split.txt").write_bytes(b"mine")
    with pytest.raises(DataError, match=f"{tmp_path}/split.txt is there already"):
        run(entry, tmp_path, lines)
    assert (tmp_path / "split.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(("keep", "factor"), [(True, 4), (False, 3)])
def test_a_disk_without_space_is_refused_before_the_download(
    server: Server,
    tmp_path: Path,
    keep: bool,
    factor: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two archives of one size: at the end, both unpacked, and one or both packed beside them.
    content = zipped(FRAMES)
    archives = tuple(Archive(server.put(f"/{n}.zip", content), f"{n}.zip", "toy") for n in "ab")
    entry = Entry("toy", "CC BY 4.0", "https://toy.example", "this test", archives)
    usage = SimpleNamespace(free=factor * len(content) - 1)
    monkeypatch.setattr("pwc_exp.data.fetching.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=f"{tmp_path} needs {factor * len(content)} bytes"):
        run(entry, tmp_path, [], keep_archives=keep)
    assert len(server.requests) == 2  # the plan
    usage.free = factor * len(content)
    run(entry, tmp_path, [], keep_archives=keep)


def test_two_processes_do_not_fetch_into_one_folder(
    entry: Entry, tmp_path: Path, lines: list[str]
) -> None:
    (tmp_path / "archives").mkdir()
    with (tmp_path / "archives" / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(OutputError, match=f"Another process fetches into {tmp_path}"):
            run(entry, tmp_path, lines)
    run(entry, tmp_path, lines)


def test_without_public_archives_the_page_is_named(tmp_path: Path, lines: list[str]) -> None:
    entry = Entry("toy", "see the page", "https://toy.example/form", "this test", ())
    with pytest.raises(MissingInputError, match="toy cannot be fetched. See https://toy.example/f"):
        run(entry, tmp_path, lines)
