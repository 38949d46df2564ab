"""Downloads data sets from their authors' servers: plan, download, check, unpack.

Archives are in `<root>/archives`, where one that was downloaded by hand can be put, too. Until it
is complete and checked, a download is called `<name>.part`; `<name>.part.json` beside it says which
version of the server's file it is a part of, so that a later call can resume it.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from http import HTTPStatus
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from tqdm import tqdm

from pwc_exp import __version__
from pwc_exp.data.conversion import locked
from pwc_exp.data.datasets.catalogue import Archive, Entry
from pwc_exp.data.unpack import Unpacked, unpack
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError
from pwc_exp.storage import make_folder, sha256_of, write_file

_BLOCK = 2**18  # bytes; what an interrupted download loses at most
_LONGEST_WAIT = 60.0  # seconds
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that are worth another attempt
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Fetched(NamedTuple):
    """What a call did; the archives by name."""

    fetched: tuple[str, ...]
    already: tuple[str, ...]  # by an earlier call
    pending: tuple[str, ...]  # as the licence was not accepted


class Remote(NamedTuple):
    """What a server says of a file."""

    size: int | None  # bytes
    version: str | None  # its ETag or, without one, when it was last modified


class _Planned(NamedTuple):
    archive: Archive
    size: int | None  # bytes
    on_disk: int  # bytes of it that were downloaded before


class _TransientError(Exception):
    """What another attempt may mend. The message says what the server did."""


class _ChangedError(Exception):
    """The part on disk is not of the file that the server has now."""


def fetch(
    entry: Entry,
    root: Path,
    *,
    accept_licence: bool,
    keep_archives: bool = False,
    timeout: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[str], None] = print,
) -> Fetched:
    """Downloads and unpacks what is not yet in `root`; without `accept_licence`, shows the plan.

    Args:
        timeout: Seconds without a byte after which an attempt to download is given up.
        sleep: Called between attempts with the seconds to wait.
        report: Called with each line for the user.
    """
    if not entry.archives:
        raise MissingInputError(
            f"{entry.name} cannot be fetched. See {entry.page}, and unpack it into {root}."
        )
    folder = root / "archives"
    pending = [archive for archive in entry.archives if not _is_done(folder, archive)]
    names = tuple(archive.name for archive in pending)
    already = tuple(archive.name for archive in entry.archives if archive not in pending)
    for name in already:
        report(f"{name}: already fetched. To fetch it again, remove {folder / name}.done.")
    if not pending:
        return Fetched((), already, ())
    planned = [_plan(folder, archive, timeout) for archive in pending]
    free = shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.is_dir())).free
    _show(entry, root, planned, free, report)
    if not accept_licence:
        report("Nothing was downloaded: accept the licence to continue.")
        return Fetched((), already, names)
    _require_space(root, planned, free, keep_archives)
    with locked(folder, timeout=0):
        for archive in pending:
            path = folder / archive.name
            digest = download(
                archive.url, path, sha256=archive.sha256, timeout=timeout, sleep=sleep
            )
            report(f"{archive.name}: sha256 {digest}")
            unpacked = _place(path, root, archive)
            done = {"url": archive.url, "sha256": digest, **unpacked._asdict()}
            write_file(folder / f"{archive.name}.done", json.dumps(done, indent=2).encode())
            if not keep_archives:
                path.unlink()
            report(f"{archive.name}: {unpacked.files} files, {_text(unpacked.size)}, in {root}")
    return Fetched(names, already, ())


def _is_done(folder: Path, archive: Archive) -> bool:
    """Whether an earlier call unpacked this archive, from this address."""
    try:
        done = json.loads((folder / f"{archive.name}.done").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(done, dict) and done.get("url") == archive.url


def _plan(folder: Path, archive: Archive, timeout: float) -> _Planned:
    path = folder / archive.name
    if path.is_file():
        return _Planned(archive, path.stat().st_size, path.stat().st_size)
    part = _part(path)
    on_disk = part.stat().st_size if part.is_file() else 0
    return _Planned(archive, probe(archive.url, timeout=timeout).size, on_disk)


def _show(
    entry: Entry, root: Path, planned: list[_Planned], free: int, report: Callable[[str], None]
) -> None:
    report(f"{entry.name}: licence: {entry.licence}")
    report(f"  see {entry.page}")
    for archive, size, on_disk in planned:
        partly = f", {_text(on_disk)} of it downloaded" if on_disk else ""
        report(f"  {archive.name}: {_text(size)}{partly}, from {archive.url}")
    report(f"  into {root}, where {_text(free)} are free")


def _require_space(root: Path, planned: list[_Planned], free: int, keep_archives: bool) -> None:
    """Refuses a disk that cannot hold even the archives twice: packed and unpacked."""
    sizes = [size or 0 for _, size, _ in planned]
    unpacked = list(accumulate(sizes))
    packed = unpacked if keep_archives else sizes
    needed = max(sum(pair) for pair in zip(unpacked, packed, strict=True))
    needed -= sum(on_disk for _, _, on_disk in planned)
    if needed > free:
        raise OutputError(
            f"{root} needs {_text(needed)} or more for archives and files. Free: {_text(free)}."
        )


def _place(path: Path, root: Path, archive: Archive) -> Unpacked:
    if archive.name.endswith(_PACKED):
        return unpack(path, root, strip=archive.strip)
    content = path.read_bytes()
    place = root / archive.name
    if place.exists() and place.read_bytes() != content:
        raise DataError(f"{place} exists already, and is not what {archive.url} is. Remove it.")
    write_file(place, content)
    return Unpacked(1, len(content), 0)


def _text(count: int | None) -> str:
    if count is None:
        return "of unknown size"
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Downloads `path`, unless it exists, and returns its sha256, also written beside it.

    Args:
        sha256: Expected. Without it, a file that exists already must be what `<name>.sha256` says,
            if there is one.
        timeout: Seconds without a byte after which an attempt is given up.
        attempts: Attempts in a row that may fail without a byte more than ever before.
        sleep: Called between attempts with the seconds to wait.
    """
    found = path
    if not path.is_file():
        make_folder(path.parent)
        _complete_part(url, path, timeout=timeout, attempts=attempts, sleep=sleep)
        found = _part(path)
    beside = path.with_name(f"{path.name}.sha256")
    recorded = beside.read_text(encoding="utf-8").split() if beside.is_file() else []
    expected = sha256 or (recorded[0] if recorded else None)
    digest = sha256_of(found)
    _note(path).unlink(missing_ok=True)
    if expected is not None and digest != expected.lower():
        bad = path.with_name(f"{path.name}.bad")
        found.replace(bad)
        beside.unlink(missing_ok=True)
        raise DataError(
            f"Wrong checksum: {url}. Expected sha256 {expected}. Received: {digest}, kept as {bad}."
        )
    write_file(beside, f"{digest}  {path.name}\n".encode())
    found.replace(path)
    return digest


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.part.json")


def _complete_part(
    url: str, path: Path, *, timeout: float, attempts: int, sleep: Callable[[float], None]
) -> None:
    failures, furthest = 0, 0
    while True:
        try:
            return _transfer(url, path, timeout)
        except _ChangedError:
            _note(path).unlink(
                missing_ok=True
            )  # so that the next attempt starts from the beginning
            reason = "changed while it was downloaded"
        except _TransientError as error:
            reason = str(error)
        reached = _part(path).stat().st_size if _part(path).exists() else 0
        failures = 1 if reached > furthest else failures + 1
        furthest = max(furthest, reached)
        if failures >= attempts:
            raise MissingInputError(
                f"Cannot download {url}: it {reason} at attempt {failures}. "
                f"{reached} bytes are kept in {_part(path)}."
            )
        sleep(min(2.0 ** (failures - 1), _LONGEST_WAIT))


def _transfer(url: str, path: Path, timeout: float) -> None:
    """Completes the part, from where it broke off if that is a part of the same file."""
    part, note = _part(path), _note(path)
    kept = _read_note(note, url)
    start = part.stat().st_size if kept and part.exists() else 0
    if kept and start and start == kept.size:
        return
    try:
        with _open(url, _range(kept, start), timeout) as response:
            remote = _remote(response)
            begins = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                start = 0  # the server sends the whole file
            elif kept != remote or not begins:
                raise _ChangedError
            write_file(note, json.dumps({"url": url, "remote": remote._asdict()}).encode())
            _receive(response, part, start=start, size=remote.size)
    except requests.RequestException as error:
        raise _TransientError(f"broke off ({_reason(error)})") from None
    except UserError:
        raise
    except OSError as error:
        raise OutputError(f"{part} cannot be written: {error.strerror}.") from None


def _receive(response: requests.Response, part: Path, *, start: int, size: int | None) -> None:
    """Appends the content of a response to the first `start` bytes of a part."""
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(
            desc=part.stem,
            total=size,
            initial=start,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None,
        ) as bar,
    ):
        for block in response.iter_content(_BLOCK):
            bar.update(file.write(block))
        file.flush()
        os.fsync(file.fileno())
        if size is not None and file.tell() != size:
            raise _TransientError(f"broke off after {file.tell()} of {size} bytes")


def _range(kept: Remote | None, start: int) -> dict[str, str]:
    if kept is None or not start:
        return {}
    strong = kept.version and not kept.version.startswith("W/")  # weak tags are not allowed here
    version = {"If-Range": str(kept.version)} if strong else {}
    return {"Range": f"bytes={start}-", **version}


def _read_note(note: Path, url: str) -> Remote | None:
    """What the part on disk is a part of; None where that is not known."""
    try:
        values = json.loads(note.read_bytes())
        return Remote(**values["remote"]) if values["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def probe(url: str, *, timeout: float = 30.0) -> Remote:
    """Asks the server for size and version of a file, at the cost of one byte of its content."""
    # Not HEAD: stores that sign an address sign the method with it, and refuse any other.
    try:
        with _open(url, {"Range": "bytes=0-0"}, timeout) as response:
            return _remote(response)
    except _TransientError as error:
        raise MissingInputError(f"Cannot reach {url}: it {error}.") from None
    except _ChangedError:
        raise DataError(f"An empty file: {url}.") from None


def _remote(response: requests.Response) -> Remote:
    headers = response.headers
    partial = response.status_code == HTTPStatus.PARTIAL_CONTENT
    length = headers.get("Content-Range" if partial else "Content-Length", "").rpartition("/")[2]
    version = headers.get("ETag") or headers.get("Last-Modified")
    return Remote(int(length) if length.isdecimal() else None, version)


class _Session(requests.Session):
    """A session that never follows a redirection from https to anything else."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a response redirects to, if it does."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https":
            url = urljoin(resp.url, target)
            if urlsplit(url).scheme != "https":
                raise DataError(f"Refused: {resp.url} leads to {url}. Expected https.")
        return target


def _open(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """Opens a file on a server, or the range of it that `headers` ask for; refuses web pages.

    Raises:
        _TransientError: another attempt may succeed.
        _ChangedError: the file has no such range.
    """
    headers = {
        "User-Agent": f"pwc_exp/{__version__}",
        "Accept-Encoding": "identity",  # else ranges and length would be those of compressed data
        **headers,
    }
    session = _Session()
    session.max_redirects = 5
    try:
        response = session.get(url, headers=headers, timeout=timeout, stream=True)
    except requests.TooManyRedirects:
        raise MissingInputError(f"Cannot download {url}: too many redirections.") from None
    except requests.RequestException as error:
        if isinstance(error, ValueError):  # of the address, or of one that it redirects to
            raise DataError(f"Expected an http or https address: {url} ({error}).") from None
        raise _TransientError(f"cannot be reached ({_reason(error)})") from None
    code = response.status_code
    if code >= 300:
        response.close()
        if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _ChangedError
        if code in _TRANSIENT:
            raise _TransientError(f"answered {code} {response.reason}")
        raise MissingInputError(f"Cannot download {url}: it answered {code} ({response.reason}).")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        response.close()
        raise DataError(f"Not a file but a web page: {url}. Open it in a browser.")
    response.raw.enforce_content_length = False  # it would discard the last bytes before a cut
    return response


def _reason(error: requests.RequestException) -> str:
    """The innermost reason of a network error, on one line."""
    cause = error.args[0] if error.args else error
    return " ".join(str(getattr(cause, "reason", cause)).split()) or type(error).__name__
