import hashlib
import json
import threading
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from urllib.request import Request

import pytest
from file_server import Server, serving

from pwc_exp.data.fetching.download import download
from pwc_exp.data.fetching.remote import _Redirections, probe
from pwc_exp.errors import DataError, MissingInputError, OutputError

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than one block
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "flow.zip"


def fetch(url: str, path: Path, **options: object) -> str:
    options = {"timeout": 5.0, "sleep": lambda _: None} | options
    return download(url, path, **options)  # type: ignore[arg-type]


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.parent.iterdir())


def test_a_file_arrives_whole_with_its_checksum_beside_it(server: Server, path: Path) -> None:
    assert fetch(server.put("/a", CONTENT), path) == DIGEST
    assert path.read_bytes() == CONTENT
    assert path.with_name("flow.zip.sha256").read_text() == f"{DIGEST}  flow.zip\n"
    assert names(path) == ["flow.zip", "flow.zip.sha256"]


def test_a_complete_file_is_not_asked_for_again(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    fetch(url, path)
    assert fetch(url, path, sha256=DIGEST) == DIGEST
    assert len(server.requests) == 1


def test_a_cut_download_goes_on_where_it_broke_off(server: Server, path: Path) -> None:
    waits: list[float] = []
    url = server.put("/a", CONTENT, cuts=[300_000, 500_001])
    assert fetch(url, path, sleep=waits.append) == DIGEST
    assert server.ranges() == [None, "bytes=300000-", "bytes=800001-"]
    assert server.requests[1][2]["If-Range"] == '"one"'
    assert waits == [1.0, 1.0]  # the wait grows only while nothing comes


def test_another_process_goes_on_where_one_broke_off(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000])
    with pytest.raises(MissingInputError, match=r"broke off after 300000 of 1280000.*\.part"):
        fetch(url, path, attempts=1)
    assert not path.exists()
    assert fetch(url, path) == DIGEST
    assert server.ranges() == [None, "bytes=300000-"]


def test_a_complete_part_is_not_asked_for_again(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000])
    with pytest.raises(MissingInputError):
        fetch(url, path, attempts=1)
    path.with_name("flow.zip.part").write_bytes(CONTENT)
    assert fetch(url, path) == DIGEST
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_without_parts_or_versions_still_serves(
    server: Server, path: Path, ranges: bool
) -> None:
    url = server.put("/a", CONTENT, ranges=ranges, etag=None, cuts=[300_000])
    assert fetch(url, path) == DIGEST
    assert len(server.requests) == 2
    assert probe(url).resumable == ranges


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_begins_anew(server: Server, path: Path, if_range: bool) -> None:
    with pytest.raises(MissingInputError):
        fetch(server.put("/a", CONTENT[::-1], cuts=[300_000]), path, attempts=1)
    url = server.put("/a", CONTENT, etag='"two"', if_range=if_range)
    assert fetch(url, path) == DIGEST


def test_a_part_of_another_address_is_not_used(server: Server, path: Path) -> None:
    with pytest.raises(MissingInputError):
        fetch(server.put("/b", CONTENT[::-1], cuts=[300_000]), path, attempts=1)
    assert fetch(server.put("/a", CONTENT), path) == DIGEST
    assert server.ranges() == [None, None]


def test_a_part_longer_than_the_file_begins_anew(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[300_000])
    with pytest.raises(MissingInputError):
        fetch(url, path, attempts=1)
    path.with_name("flow.zip.part").write_bytes(CONTENT + CONTENT)
    assert fetch(url, path) == DIGEST


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"url": 1}', b'{"url": "U", "remote": {}}'])
def test_a_damaged_note_begins_anew(server: Server, path: Path, note: bytes) -> None:
    url = server.put("/a", CONTENT)
    path.parent.mkdir()
    path.with_name("flow.zip.part").write_bytes(b"something else")
    path.with_name("flow.zip.part.json").write_bytes(note.replace(b"U", url.encode()))
    assert fetch(url, path) == DIGEST


def test_passing_errors_are_tried_again_ever_more_slowly(server: Server, path: Path) -> None:
    waits: list[float] = []
    url = server.put("/a", CONTENT, statuses=[503, 500, 429])
    assert fetch(url, path, sleep=waits.append) == DIGEST
    assert waits == [1.0, 2.0, 4.0]


def test_attempts_are_bounded(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, statuses=[500] * 99)
    with pytest.raises(MissingInputError, match=rf"{url}: it answered 500 Internal Server Error"):
        fetch(url, path)
    assert len(server.requests) == 5


def test_a_server_that_always_cuts_at_one_place_is_given_up(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, ranges=False, cuts=[1000] * 99)
    with pytest.raises(MissingInputError, match="broke off after 1000 of 1280000 bytes"):
        fetch(url, path)
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_asked_for_once(server: Server, path: Path, status: int) -> None:
    url = server.put("/a", CONTENT, statuses=[status] * 2)
    with pytest.raises(MissingInputError, match=f"{url}: it answered {status}"):
        fetch(url, path)
    assert len(server.requests) == 1
    with pytest.raises(MissingInputError, match=f"{url}: it answered {status}"):
        probe(url)


def test_a_redirection_is_followed_with_its_address_unchanged(server: Server, path: Path) -> None:
    server.put("/signed?key=a%2Fb", CONTENT, cuts=[300_000])
    url = server.put("/a", location="/signed?key=a%2Fb")
    assert fetch(url, path) == DIGEST
    assert server.ranges() == [None, None, "bytes=300000-", "bytes=300000-"]


def test_a_redirection_loop_ends_in_one_line(server: Server, path: Path) -> None:
    url = server.put("/a", location="/b")
    server.put("/b", location="/a")
    with pytest.raises(MissingInputError, match="one redirection after the other") as caught:
        fetch(url, path)
    assert "\n" not in str(caught.value)


def test_redirections_are_limited(server: Server, path: Path) -> None:
    for number in range(7):
        server.put(f"/{number}", location=f"/{number + 1}")
    server.put("/7", CONTENT)
    assert fetch(f"{server.url}/2", path) == DIGEST
    with pytest.raises(MissingInputError, match="one redirection after the other"):
        fetch(f"{server.url}/0", path.with_name("other"))


def test_a_redirection_does_not_give_up_encryption() -> None:
    def followed(first: str, then: str) -> Request | None:
        return _Redirections().redirect_request(Request(first), None, 302, "", Message(), then)

    assert followed("http://a/b", "https://c/d") is not None
    assert followed("http://a/b", "http://c/d") is not None
    with pytest.raises(DataError, match="https://a/b leads to http://c/d"):
        followed("https://a/b", "http://c/d")


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_a_redirection_leads_only_to_web_servers(server: Server, path: Path, place: str) -> None:
    url = server.put("/a", location=place)
    with pytest.raises((DataError, MissingInputError), match=f"{url}"):
        fetch(url, path)
    with pytest.raises(DataError, match="Expected an http or https address"):
        fetch(place, path)
    assert not path.exists()


def test_a_web_page_is_not_taken_for_an_archive(server: Server, path: Path) -> None:
    url = server.put("/a", b"<html>log in", content_type="text/html; charset=utf-8")
    with pytest.raises(DataError, match=f"a web page: {url}"):
        fetch(url, path)
    with pytest.raises(DataError, match=f"a web page: {url}"):
        probe(url)


def test_a_server_that_falls_silent_is_given_up(server: Server, path: Path) -> None:
    silent = threading.Event()
    url = server.put("/a", CONTENT, silent=silent)
    try:
        with pytest.raises(MissingInputError, match=f"{url}: it broke off .*timed out"):
            fetch(url, path, timeout=0.1, attempts=2)
    finally:
        silent.set()


def test_a_server_that_is_not_there_is_told_in_one_line(server: Server, path: Path) -> None:
    url = "http://127.0.0.1:9/a"  # "discard": nothing listens
    with pytest.raises(MissingInputError, match=f"{url}: it cannot be reached .*refused"):
        fetch(url, path)
    with pytest.raises(MissingInputError, match=f"{url}: it cannot be reached .*refused"):
        probe(url)


def test_a_wrong_length_never_gets_the_name(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, length=len(CONTENT) + 1, ranges=False)
    with pytest.raises(MissingInputError, match="broke off after 1280000 of 1280001 bytes"):
        fetch(url, path)
    assert not path.exists()


def test_a_wrong_checksum_is_set_aside(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    wrong = "0" * 64
    with pytest.raises(DataError, match=f"{url}. Expected sha256 {wrong}. Received: {DIGEST}"):
        fetch(url, path, sha256=wrong)
    assert names(path) == ["flow.zip.bad"]
    assert fetch(url, path, sha256=DIGEST.upper()) == DIGEST


def test_a_file_that_rotted_on_the_disk_is_set_aside(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT)
    fetch(url, path)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError, match="Wrong checksum"):
        fetch(url, path)
    assert fetch(url, path) == DIGEST


def test_the_plan_costs_one_byte(server: Server) -> None:
    remote = probe(server.put("/a", CONTENT))
    assert remote == (len(CONTENT), '"one"', None, True)
    assert server.ranges() == ["bytes=0-0"]
    with pytest.raises(DataError, match="An empty file"):
        probe(server.put("/empty"))


def test_a_folder_that_cannot_be_written_is_told_in_one_line(server: Server, path: Path) -> None:
    path.parent.mkdir()
    path.with_name("flow.zip.part").mkdir()
    with pytest.raises(OutputError, match=r"flow\.zip\.part cannot be written"):
        fetch(server.put("/a", CONTENT), path)


def test_the_note_says_what_the_part_is_of(server: Server, path: Path) -> None:
    url = server.put("/a", CONTENT, cuts=[1000])
    with pytest.raises(MissingInputError):
        fetch(url, path, attempts=1)
    note = json.loads(path.with_name("flow.zip.part.json").read_bytes())
    assert note["url"] == url
    assert note["remote"]["etag"] == '"one"'
