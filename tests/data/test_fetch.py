"""Fetching data sets: the catalogue, downloads that servers cut, and what is put where."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import filelock
import pytest
import requests
from file_server import Server, serving

from pwc_exp.data import fetch as fetching
from pwc_exp.data.datasets import CATALOGUE, Archive, Entry
from pwc_exp.data.fetch import Fetched, download, fetch, probe
from pwc_exp.errors import BusyError, DataError, MissingInputError, OutputError

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than one block
DIGEST = hashlib.sha256(CONTENT).hexdigest()
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


PUBLIC = {
    "sintel",
    "flyingchairs",
    "flyingchairs2",
    "flyingthings3d",
    "flyingthings3d_subset",
    "kitti2012",
    "kitti2015",
    "hd1k",
    "middlebury",
    "spring",
}
BY_FORM = {"tartanair", "viper"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited between attempts, none in truth."""
    seconds: list[float] = []
    monkeypatch.setattr("pwc_exp.data.fetch.time.sleep", seconds.append)
    return seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "flow.zip"


def get(url: str, path: Path, **options: object) -> str:
    return download(url, path, **{"timeout": 5.0} | options)  # type: ignore[arg-type]


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.parent.iterdir())


def test_a_file_arrives_whole_with_its_checksum_beside_it(server: Server, path: Path) -> None:
    assert get(server.put("/a", CONTENT), path) == DIGEST
    assert path.read_bytes() == CONTENT
    assert path.with_name("flow.zip.sha256").read_text() == f"{DIGEST}  flow.zip\n"
    assert names(path) == ["flow.zip", "flow.zip.sha256"]


def test_a_complete_file_is_not_asked_for_again(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    get(url, path)
    assert get(url, path, sha256=DIGEST) == DIGEST
    assert len(server.requests) == 1


def test_a_cut_download_is_resumed_where_it_broke_off(
    server: Server, path: Path, waits: list[float]
) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000, 500_001])
    assert get(url, path) == DIGEST
    assert server.ranges() == [None, "bytes=300000-", "bytes=800001-"]
    assert server.requests[1][2]["If-Range"] == '"one"'
    assert waits == [1.0, 1.0]  # the wait grows only while nothing comes


def test_another_process_resumes_where_one_broke_off(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000])
    with pytest.raises(MissingInputError, match=r"broke off after 300000 of 1280000.*\.part"):
        get(url, path, attempts=1)
    assert not path.exists()
    assert get(url, path) == DIGEST
    assert server.ranges() == [None, "bytes=300000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_without_parts_or_versions_still_serves(
    server: Server, path: Path, ranges: bool
) -> None:
    url = server.put("/a", CONTENT, ranges=ranges, etag=None, cuts=[300_000])
    assert get(url, path) == DIGEST
    assert len(server.requests) == 2


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_begins_anew(server: Server, path: Path, if_range: bool) -> None:
    with pytest.raises(MissingInputError):
        get(server.put("/a", CONTENT[::-1], cuts=[300_000]), path, attempts=1)
    url = server.put("/a", CONTENT, etag='"two"', if_range=if_range)
    assert get(url, path) == DIGEST


def test_a_part_of_another_address_is_not_used(server: Server, path: Path) -> None:
    with pytest.raises(MissingInputError):
        get(server.put("/b", CONTENT[::-1], cuts=[300_000]), path, attempts=1)
    assert get(server.put("/a", CONTENT), path) == DIGEST
    assert server.ranges() == [None, None]


def test_a_part_longer_than_the_file_begins_anew(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000])
    with pytest.raises(MissingInputError):
        get(url, path, attempts=1)
    path.with_name("flow.zip.part").write_bytes(CONTENT + CONTENT)
    assert get(url, path) == DIGEST


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"url": 1}', b'{"url": "U", "remote": {}}'])
def test_a_damaged_note_begins_anew(server: Server, path: Path, note: bytes) -> None:
    url = server.put("/a", CONTENT)
    path.parent.mkdir()
    path.with_name("flow.zip.part").write_bytes(b"something else")
    path.with_name("flow.zip.part.json").write_bytes(note.replace(b"U", url.encode()))
    assert get(url, path) == DIGEST


def test_passing_errors_are_tried_again_ever_more_slowly(
    server: Server, path: Path, waits: list[float]
) -> None:
    url = server.put("/a", CONTENT, statuses=[503, 500, 429])
    assert get(url, path) == DIGEST
    assert waits == [1.0, 2.0, 4.0]


def test_attempts_are_bounded(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, statuses=[500] * 99)
    with pytest.raises(MissingInputError, match=rf"{url}: it answered 500 Internal Server Error"):
        get(url, path)
    assert len(server.requests) == 5


def test_a_server_that_always_cuts_at_one_place_is_given_up(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, ranges=False, cuts=[1000] * 99)
    with pytest.raises(MissingInputError, match="broke off after 1000 of 1280000 bytes"):
        get(url, path)
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_asked_for_once(server: Server, path: Path, status: int) -> None:
    url = server.put("/a", CONTENT, statuses=[status] * 2)
    with pytest.raises(MissingInputError, match=f"{url}: it answered {status}"):
        get(url, path)
    assert len(server.requests) == 1
    with pytest.raises(MissingInputError, match=f"{url}: it answered {status}"):
        probe(url)


def test_a_redirection_is_followed_with_its_address_unchanged(server: Server, path: Path) -> None:
    server.put("/signed?key=a%2Fb", CONTENT, cuts=[300_000])
    url = server.put("/a", location="/signed?key=a%2Fb")
    assert get(url, path) == DIGEST
    assert server.ranges() == [None, None, "bytes=300000-", "bytes=300000-"]


def test_redirections_are_limited(server: Server, path: Path) -> None:
    for number in range(7):
        server.put(f"/{number}", location=f"/{number + 1}")
    server.put("/7", CONTENT)
    assert get(f"{server.url}/2", path) == DIGEST
    with pytest.raises(MissingInputError, match="too many redirections"):
        get(f"{server.url}/0", path.with_name("other"))


def test_a_redirection_does_not_give_up_encryption() -> None:
    def target(first: str, then: str) -> str | None:
        response = requests.Response()
        response.status_code, response.url = 302, first
        response.headers["Location"] = then
        return fetching._Session().get_redirect_target(response)

    assert target("http://a/b", "https://c/d") == "https://c/d"
    assert target("http://a/b", "http://c/d") == "http://c/d"
    assert target("https://a/b", "/c") == "/c"
    with pytest.raises(DataError, match="https://a/b leads to http://c/d"):
        target("https://a/b", "http://c/d")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_a_redirection_leads_only_to_web_servers(server: Server, path: Path, place: str) -> None:
    url = server.put("/a", location=place)
    with pytest.raises((DataError, MissingInputError), match=f"{url}"):
        get(url, path)
    with pytest.raises(DataError, match="Expected an http or https address"):
        get(place, path)
    assert not path.exists()


def test_a_web_page_is_not_taken_for_an_archive(server: Server, path: Path) -> None:
    url = server.put("/a", b"<html>log in", content_type="text/html; charset=utf-8")
    with pytest.raises(DataError, match=f"a web page: {url}"):
        get(url, path)
    with pytest.raises(DataError, match=f"a web page: {url}"):
        probe(url)


def test_a_server_that_falls_silent_is_given_up(server: Server, path: Path) -> None:
    silent = threading.Event()
    url = server.put("/a", CONTENT, silent=silent)
    try:
        with pytest.raises(MissingInputError, match=f"{url}: it broke off .*timed out"):
            get(url, path, timeout=0.1, attempts=2)
    finally:
        silent.set()


def test_a_server_that_is_not_there_is_reported_in_one_line(server: Server, path: Path) -> None:
    url = "http://127.0.0.1:9/a"  # "discard": nothing listens
    with pytest.raises(MissingInputError, match=f"{url}: it cannot be reached .*refused"):
        get(url, path)
    with pytest.raises(MissingInputError, match=f"{url}: it cannot be reached .*refused"):
        probe(url)


def test_a_wrong_checksum_is_set_aside(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    wrong = "0" * 64
    with pytest.raises(DataError, match=f"{url}. Expected sha256 {wrong}. Received: {DIGEST}"):
        get(url, path, sha256=wrong)
    assert names(path) == ["flow.zip.bad"]
    assert get(url, path, sha256=DIGEST.upper()) == DIGEST


def test_a_file_that_rotted_on_the_disk_is_set_aside(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    get(url, path)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError, match="Wrong checksum"):
        get(url, path)
    assert get(url, path) == DIGEST


def test_the_plan_costs_one_byte(server: Server) -> None:
    remote = probe(server.put("/a", CONTENT))
    assert remote == (len(CONTENT), '"one"')
    assert server.ranges() == ["bytes=0-0"]
    with pytest.raises(DataError, match="An empty file"):
        probe(server.put("/empty"))


def test_a_folder_that_cannot_be_written_is_an_output_error(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("flow.zip.part").mkdir()
    with pytest.raises(OutputError, match=r"flow\.zip\.part cannot be written"):
        get(server.put("/a", CONTENT), path)


@pytest.fixture
def entry(server: Server) -> Entry:
    archives = (
        Archive(server.put("/split.txt", SPLIT), "split.txt"),
        Archive(server.put("/file/17", zipped(FRAMES)), "frames.zip", "toy"),
        Archive(server.put("/flow.tar.bz2", tarred(FLOWS)), "flow.tar.bz2", "toy"),
    )
    return Entry("toy", "CC BY 4.0", "https://toy.example", "this test", archives)


def run(entry: Entry, root: Path, **options: bool) -> Fetched:
    return fetch(entry, root, **{"accept_licence": True} | options, timeout=5.0)


def data_of(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    names = {path: path.relative_to(root) for path in files}
    return {
        str(name): path.read_bytes() for path, name in names.items() if name.parts[0] != "archives"
    }


def test_a_data_set_is_downloaded_unpacked_and_tidied(
    entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "toy"
    assert run(entry, root) == Fetched(NAMES, (), ())
    assert data_of(root) == {"split.txt": SPLIT, **UNPACKED}
    kept = {path.name for path in (root / "archives").iterdir()}
    assert kept == {".lock"} | {f"{name}.{end}" for name in NAMES for end in ("done", "sha256")}
    digest = hashlib.sha256(zipped(FRAMES)).hexdigest()
    lines = capsys.readouterr().out.splitlines()
    assert f"frames.zip: sha256 {digest}" in lines
    assert f"frames.zip: 2 files, 3000 bytes, in {root}" in lines


def test_the_plan_comes_first_and_alone_without_the_licence(
    server: Server, entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(entry, tmp_path / "toy", accept_licence=False) == Fetched((), (), NAMES)
    assert not (tmp_path / "toy").exists()
    assert server.ranges() == ["bytes=0-0"] * 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: licence: CC BY 4.0"
    assert lines[1] == "  see https://toy.example"
    size = len(zipped(FRAMES))
    assert lines[3] == f"  frames.zip: {size} bytes, from {server.url}/file/17"
    assert lines[-1] == "Nothing was downloaded: accept the licence to continue."


def test_a_second_call_does_nothing(
    server: Server, entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(entry, tmp_path)
    server.requests.clear()
    assert run(entry, tmp_path) == Fetched((), NAMES, ())
    assert server.requests == []
    assert f"remove {tmp_path}/archives/frames.zip.done" in capsys.readouterr().out


def test_only_what_is_missing_is_fetched_again(
    server: Server, entry: Entry, tmp_path: Path
) -> None:
    run(entry, tmp_path)
    (tmp_path / "archives" / "frames.zip.done").unlink()
    server.requests.clear()
    assert run(entry, tmp_path) == Fetched(("frames.zip",), ("split.txt", NAMES[2]), ())
    assert {path for _, path, _ in server.requests} == {"/file/17"}


def test_an_archive_from_another_address_is_not_the_same(
    server: Server, entry: Entry, tmp_path: Path
) -> None:
    run(entry, tmp_path)
    moved = entry.archives[1]._replace(url=server.put("/new", zipped(FRAMES)))
    assert run(entry._replace(archives=(moved,)), tmp_path).fetched == ("frames.zip",)


def test_a_wrong_checksum_unpacks_nothing(entry: Entry, tmp_path: Path) -> None:
    wrong = entry.archives[1]._replace(sha256="0" * 64)
    with pytest.raises(DataError, match="Wrong checksum"):
        run(entry._replace(archives=(wrong,)), tmp_path)
    assert data_of(tmp_path) == {}


def test_archives_can_be_kept_and_are_used_again(
    server: Server, entry: Entry, tmp_path: Path
) -> None:
    run(entry, tmp_path, keep_archives=True)
    assert (tmp_path / "archives" / "frames.zip").read_bytes() == zipped(FRAMES)
    (tmp_path / "archives" / "frames.zip.done").unlink()
    server.requests.clear()
    assert run(entry, tmp_path).fetched == ("frames.zip",)
    assert server.requests == []


def test_an_archive_that_was_put_there_by_hand_is_used(
    server: Server, entry: Entry, tmp_path: Path
) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "frames.zip").write_bytes(zipped(FRAMES))
    by_hand = entry._replace(archives=entry.archives[1:2])
    assert run(by_hand, tmp_path).fetched == ("frames.zip",)
    assert server.requests == []


def test_a_call_resumes_after_a_failure(server: Server, entry: Entry, tmp_path: Path) -> None:
    server.files["/file/17"].cuts = [100] * 6  # one for the plan
    server.files["/file/17"].ranges = False
    with pytest.raises(MissingInputError, match=f"{server.url}/file/17"):
        run(entry, tmp_path)
    assert data_of(tmp_path) == {"split.txt": SPLIT}
    server.files["/file/17"].cuts, server.files["/file/17"].ranges = [], True
    server.requests.clear()
    assert run(entry, tmp_path).fetched == NAMES[1:]
    assert "bytes=100-" in server.ranges()
    assert data_of(tmp_path) == {"split.txt": SPLIT, **UNPACKED}


def test_a_hostile_archive_is_not_noted_as_done(
    server: Server, entry: Entry, tmp_path: Path
) -> None:
    bad = Archive(server.put("/bad.zip", zipped({"../out": b"x"})), "bad.zip")
    for _ in range(2):
        with pytest.raises(DataError, match="no plain relative path"):
            run(entry._replace(archives=(bad,)), tmp_path / "toy")
    assert {path.name for path in tmp_path.iterdir()} == {"toy"}


def test_a_placed_file_is_not_overwritten(entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "split.txt").write_bytes(b"mine")
    with pytest.raises(DataError, match=f"{tmp_path}/split.txt exists already"):
        run(entry, tmp_path)
    assert (tmp_path / "split.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(("keep", "factor"), [(True, 4), (False, 3)])
def test_a_disk_without_space_is_refused_before_the_download(
    server: Server, tmp_path: Path, keep: bool, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two archives of one size: at the end, both unpacked, and one or both packed beside them.
    content = zipped(FRAMES)
    archives = tuple(Archive(server.put(f"/{n}.zip", content), f"{n}.zip", "toy") for n in "ab")
    entry = Entry("toy", "CC BY 4.0", "https://toy.example", "this test", archives)
    usage = SimpleNamespace(free=factor * len(content) - 1)
    monkeypatch.setattr("pwc_exp.data.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=f"{tmp_path} needs {factor * len(content)} bytes"):
        run(entry, tmp_path, keep_archives=keep)
    assert len(server.requests) == 2  # the plan
    usage.free = factor * len(content)
    run(entry, tmp_path, keep_archives=keep)


def test_two_processes_do_not_fetch_into_one_folder(entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    with (
        filelock.FileLock(tmp_path / "archives" / ".lock"),
        pytest.raises(BusyError, match=f"{tmp_path}/archives/.lock is held"),
    ):
        run(entry, tmp_path)
    run(entry, tmp_path)


def test_the_catalogue_holds_the_data_sets_of_the_field() -> None:
    assert set(CATALOGUE) == PUBLIC | BY_FORM
    assert {name for name, entry in CATALOGUE.items() if not entry.archives} == BY_FORM
    urls = [archive.url for entry in CATALOGUE.values() for archive in entry.archives]
    assert len(urls) == len(set(urls)) >= len(PUBLIC)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_is_complete_and_its_addresses_well_formed(entry: Entry) -> None:
    assert entry.licence
    assert entry.source
    assert re.match(r"https?://[^/]+\.", entry.page)
    for archive in entry.archives:
        url = urlsplit(archive.url)
        # Of all servers, only this one has no https address that a public source states.
        assert url.scheme == "https" or url.netloc == "hci-benchmark.iwr.uni-heidelberg.de"
        assert "//" not in url.path
        assert re.fullmatch(r"[A-Za-z0-9_-]+(\.zip|\.tar|\.tar\.bz2|\.txt)", archive.name)
        assert archive.url.endswith(archive.name) or entry.name == "spring"
        assert re.fullmatch(r"[A-Za-z0-9_]*", archive.strip)
    names = [archive.name for archive in entry.archives]
    assert len(set(names)) == len(names)
