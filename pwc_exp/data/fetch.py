"""Downloads data sets from their authors' servers: plan, download, check, unpack.

Archives are in `<root>/archives`, where one that was downloaded by hand can be put, too. Until it
is complete and checked, a download is called `<name>.part`; `<name>.part.json` beside it says which
version of the server's file it is a part of, so that a later call can resume it.

Archives are unpacked whole, inside one folder, or not at all. Only files and folders are taken,
under names that stay inside; links, devices and anything else are refused, and so is an archive
that would fill the disk.
"""

import bz2
import errno
import gzip
import json
import lzma
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from itertools import accumulate
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import requests
from tqdm import tqdm

from pwc_exp import __version__, storage
from pwc_exp.data.datasets import Archive, Entry
from pwc_exp.data.formats.headers import open_file
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError

_BLOCK = 2**18  # bytes; what an interrupted download loses at most
_LONGEST_WAIT = 60.0  # seconds
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that are worth another attempt
_UNPACK_BLOCK = 2**20  # bytes
_DEEPEST = 32  # folders within each other
_SMALL = 64 * 2**20  # bytes that any archive may unpack to
_LARGEST_RATIO = 100  # frames and flow shrink by less than 10
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_DAMAGE = (
    *(EOFError, NotImplementedError, ValueError),  # ValueError: of names and numbers in headers
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
_BAR: dict[str, Any] = {"unit": "B", "unit_scale": True, "leave": False, "disable": None}
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


class Unpacked(NamedTuple):
    """What an archive held."""

    files: int
    size: int  # bytes
    kept: int  # files that existed already, of the same size; they were not touched


class _TransientError(Exception):
    """What another attempt may mend. The message says what the server did."""


class _ChangedError(_TransientError):
    """The part on disk is not of the file that the server has now."""


def fetch(
    entry: Entry,
    root: Path,
    *,
    accept_licence: bool,
    keep_archives: bool = False,
    timeout: float = 30.0,
) -> Fetched:
    """Downloads and unpacks what is not yet in `root`; without `accept_licence`, shows the plan.

    timeout: seconds without a byte after which an attempt to download is given up.
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
        print(f"{name}: already fetched. To fetch it again, remove {folder / name}.done.")
    if not pending:
        return Fetched((), already, ())
    free = shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.is_dir())).free
    print(f"{entry.name}: licence: {entry.licence}\n  see {entry.page}")
    needed = _show_plan(folder, pending, keep_archives, timeout)
    print(f"  into {root}, where {_text(free)} are free")
    if not accept_licence:
        print("Nothing was downloaded: accept the licence to continue.")
        return Fetched((), already, names)
    if needed > free:
        raise OutputError(
            f"{root} needs {_text(needed)} or more for archives and files. Free: {_text(free)}."
        )
    storage.make_folder(folder)
    with storage.lock(folder / ".lock"):
        for archive in pending:
            path = folder / archive.name
            digest = download(archive.url, path, sha256=archive.sha256, timeout=timeout)
            print(f"{archive.name}: sha256 {digest}")
            unpacked = _place(path, root, archive)
            done = {"url": archive.url, "sha256": digest, **unpacked._asdict()}
            _write_json(folder / f"{archive.name}.done", done)
            if not keep_archives:
                path.unlink()
            print(f"{archive.name}: {unpacked.files} files, {_text(unpacked.size)}, in {root}")
    return Fetched(names, already, ())


def _is_done(folder: Path, archive: Archive) -> bool:
    """Whether an earlier call unpacked this archive, from this address."""
    try:
        done = json.loads((folder / f"{archive.name}.done").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(done, dict) and done.get("url") == archive.url


def _show_plan(folder: Path, archives: list[Archive], keep_archives: bool, timeout: float) -> int:
    """Prints what is to be downloaded; returns the bytes that archives and files need, at least."""
    sizes, on_disk = [], 0
    for archive in archives:
        path = folder / archive.name
        found = next((p for p in (path, _part(path)) if p.is_file()), None)
        here = found.stat().st_size if found else 0
        size = here if found == path else probe(archive.url, timeout=timeout).size
        partly = f", {_text(here)} of it downloaded" if here else ""
        print(f"  {archive.name}: {_text(size)}{partly}, from {archive.url}")
        sizes.append(size or 0)
        on_disk += here
    # Unpacked files take at least as much as their archives, which are packed beside them.
    unpacked = list(accumulate(sizes))
    packed = unpacked if keep_archives else sizes
    return max(sum(pair) for pair in zip(unpacked, packed, strict=True)) - on_disk


def _place(path: Path, root: Path, archive: Archive) -> Unpacked:
    if archive.name.endswith(_PACKED):
        return unpack(path, root, strip=archive.strip)
    content = path.read_bytes()
    place = root / archive.name
    if place.exists() and place.read_bytes() != content:
        raise DataError(f"{place} exists already, and is not what {archive.url} is. Remove it.")
    storage.write_file(place, content)
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
) -> str:
    """Downloads `path`, unless it exists, and returns its sha256, also written beside it.

    Args:
        sha256: Expected. Without it, a file that exists already must be what `<name>.sha256` says,
            if there is one.
        timeout: Seconds without a byte after which an attempt is given up.
        attempts: Attempts in a row that may fail without a byte more than ever before.
    """
    found = path
    if not path.is_file():
        storage.make_folder(path.parent)
        found = _part(path)
        _complete(found, url, timeout=timeout, attempts=attempts)
    beside = path.with_name(f"{path.name}.sha256")
    recorded = beside.read_text(encoding="utf-8").split() if beside.is_file() else []
    expected = sha256 or (recorded[0] if recorded else None)
    digest = storage.sha256_of(found)
    _note(_part(path)).unlink(missing_ok=True)
    if expected is not None and digest != expected.lower():
        bad = path.with_name(f"{path.name}.bad")
        found.replace(bad)
        beside.unlink(missing_ok=True)
        raise DataError(
            f"Wrong checksum: {url}. Expected sha256 {expected}. Received: {digest}, kept as {bad}."
        )
    storage.write_file(beside, f"{digest}  {path.name}\n".encode())
    found.replace(path)
    return digest


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _write_json(path: Path, content: dict[str, object]) -> None:
    storage.write_file(path, json.dumps(content, indent=2).encode())


def _complete(part: Path, url: str, *, timeout: float, attempts: int) -> None:
    failures, furthest = 0, 0
    while True:
        try:
            return _transfer(part, url, timeout)
        except _TransientError as error:
            if isinstance(error, _ChangedError):
                _note(part).unlink(missing_ok=True)  # the next attempt starts from the beginning
            reason = str(error)
        reached = part.stat().st_size if part.exists() else 0
        failures = 1 if reached > furthest else failures + 1
        furthest = max(furthest, reached)
        if failures >= attempts:
            raise MissingInputError(
                f"Cannot download {url}: it {reason} at attempt {failures}. "
                f"{reached} bytes are kept in {part}."
            )
        time.sleep(min(2.0 ** (failures - 1), _LONGEST_WAIT))


def _transfer(part: Path, url: str, timeout: float) -> None:
    """Completes a part, from where it broke off if it is one of the file that the server has."""
    kept = _read_note(part, url)
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
                raise _ChangedError("changed while it was downloaded")
            _write_json(_note(part), {"url": url, "remote": remote._asdict()})
            _receive(response, part, start=start, size=remote.size)
    except requests.RequestException as error:
        raise _TransientError(f"broke off ({_reason(error)})") from None
    except UserError:
        raise
    except OSError as error:
        raise OutputError(f"{part} cannot be written: {error.strerror}.") from None


def _range(kept: Remote | None, start: int) -> dict[str, str]:
    if kept is None or not start:
        return {}
    strong = kept.version and not kept.version.startswith("W/")  # weak tags are not allowed here
    return {"Range": f"bytes={start}-"} | ({"If-Range": str(kept.version)} if strong else {})


def _receive(response: requests.Response, part: Path, *, start: int, size: int | None) -> None:
    """Appends the content of a response to the first `start` bytes of a part."""
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(desc=part.stem, total=size, initial=start, **_BAR) as bar,
    ):
        for block in response.iter_content(_BLOCK):
            bar.update(file.write(block))
        file.flush()
        os.fsync(file.fileno())
        if size is not None and file.tell() != size:
            raise _TransientError(f"broke off after {file.tell()} of {size} bytes")


def _read_note(part: Path, url: str) -> Remote | None:
    """What a part on disk is a part of; None where that is not known."""
    try:
        values = json.loads(_note(part).read_bytes())
        return Remote(**values["remote"]) if values["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def probe(url: str, *, timeout: float = 30.0) -> Remote:
    """Asks the server for size and version of a file, at the cost of one byte of its content."""
    # Not HEAD: stores that sign an address sign the method with it, and refuse any other.
    try:
        with _open(url, {"Range": "bytes=0-0"}, timeout) as response:
            return _remote(response)
    except _ChangedError:
        raise DataError(f"An empty file: {url}.") from None
    except _TransientError as error:
        raise MissingInputError(f"Cannot reach {url}: it {error}.") from None


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
    """Opens a file on a server, or the range of it that `headers` ask for; refuses web pages."""
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
            raise _ChangedError("changed while it was downloaded")
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


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or what it is instead
    size: int  # bytes that it declares
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path,
    root: Path,
    *,
    strip: str = "",
    max_members: int = 1_000_000,
    max_bytes: int | None = None,
) -> Unpacked:
    """Unpacks a zip or tar (plain, gz, bz2, xz) into `root`, which may hold other files.

    Everything is unpacked into a folder beside its place first and moved when it is complete. A
    file that exists already must have the same size, and is kept.

    Args:
        strip: A leading folder that is left out of the names.
        max_members: Files and folders that it may hold.
        max_bytes: Bytes that it may unpack to. By default a hundred times its own size.
    """
    if not archive.is_file():
        raise MissingInputError(f"No such archive: {archive}.")
    storage.make_folder(root)
    if max_bytes is None:
        max_bytes = max(_SMALL, _LARGEST_RATIO * archive.stat().st_size)
    free = shutil.disk_usage(root).free

    def admit(members: int, size: int) -> None:
        if members > max_members:
            raise DataError(f"Refused: {archive} holds more than {max_members} files and folders.")
        if size > max_bytes:
            raise DataError(
                f"Refused: {archive} unpacks to {size} bytes or more. Expected {max_bytes} at most."
            )
        if size > free:
            raise OutputError(
                f"{archive} unpacks to {size / 1e9:.1f} GB or more, {free / 1e9:.1f} GB are free"
            )

    temporary = root / f".tmp-{archive.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed in here
    try:
        with _explained(archive, root):
            unpacked = _extract(archive, root, temporary, strip, admit)
            _move(temporary, root)
            if hasattr(os, "sync"):
                os.sync()  # one for all, as an fsync of each of 100,000 files takes minutes
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return unpacked


def _extract(
    archive: Path, root: Path, temporary: Path, strip: str, admit: Callable[[int, int], None]
) -> Unpacked:
    temporary.mkdir()
    members = files = size = kept = 0
    with tqdm(desc=f"unpack {archive.name}", **_BAR) as bar:
        for member in _members(archive, admit):
            path = _checked_path(archive, member, strip)
            members, size = members + 1, size + member.size
            files += member.kind == "file"
            admit(members, size)
            if member.kind == "file" and os.path.lexists(root / path):
                _require_same(archive, root / path, member)
                kept += 1
                continue
            try:
                folder = temporary / (path if member.kind == "folder" else path.parent)
                folder.mkdir(parents=True, exist_ok=True)
                if member.kind == "file":
                    _write(archive, temporary / path, member)
            except (FileExistsError, NotADirectoryError):
                raise DataError(
                    f"Refused: {archive} holds {member.name!r} twice, or as a file and a folder."
                ) from None
            bar.update(member.size)
    return Unpacked(files, size, kept)


def _require_same(archive: Path, place: Path, member: _Member) -> None:
    if not place.is_file() or place.stat().st_size != member.size:
        raise DataError(
            f"{place} exists already, and is not the {member.size} bytes that {archive} holds. "
            "Remove the one or the other."
        )


def _members(archive: Path, admit: Callable[[int, int], None]) -> Iterator[_Member]:
    with open_file(archive) as file:
        head = file.read(max(map(len, _COMPRESSED)))
    if head.startswith(b"PK"):
        return _zip_members(archive, admit)
    opener = next((_COMPRESSED[magic] for magic in _COMPRESSED if head.startswith(magic)), None)
    return _tar_members(archive, opener or open)


def _zip_members(archive: Path, admit: Callable[[int, int], None]) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        # The directory of a zip states the sizes of all files, so nothing is written in vain.
        admit(len(infos), sum(info.file_size for info in infos))
        for info in infos:
            mode = info.external_attr >> 16  # 0 where a program wrote none
            kind = "folder" if info.is_dir() else "file"
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link" if stat.S_ISLNK(mode) else "a device or pipe"
            if info.flag_bits & 1:
                kind = "encrypted"
            yield _Member(info.filename, kind, info.file_size, partial(file.open, info))


class _Header(tarfile.TarInfo):
    """A header of a tar; tarfile itself takes a damaged one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"broken off: {error}") from None


def _tar_members(archive: Path, opener: Callable[..., Any]) -> Iterator[_Member]:
    # tarfile's own decompression ends silently at a cut, and after the first of the streams that a
    # parallel bzip2 writes. "r|": one pass, as decompressing is what takes the time.
    with (
        opener(archive, "rb") as raw,
        tarfile.open(fileobj=raw, mode="r|", tarinfo=_Header) as file,
    ):
        while info := file.next():
            file.members = []  # type: ignore[attr-defined] # else it keeps all of them
            kind = "folder" if info.isdir() else "file"
            if not (info.isdir() or info.isreg()):
                kind = "a link" if info.issym() or info.islnk() else "a device or pipe"
            yield _Member(info.name, kind, info.size, partial(file.extractfile, info))
        raw.read(_UNPACK_BLOCK)  # to the end, where gzip has its checksum


def _checked_path(archive: Path, member: _Member, strip: str) -> PurePosixPath:
    """The path of a member, relative to the root; refuses what could lead out of it."""
    name, path = member.name, PurePosixPath(member.name)
    if member.kind not in ("file", "folder"):
        raise DataError(f"Refused: {archive} holds {name!r}, which is {member.kind}.")
    leads_out = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive
    if leads_out or "\\" in name or not name.isprintable():
        raise DataError(f"Refused: {archive} holds {name!r}, which is no plain relative path.")
    if len(path.parts) > _DEEPEST:
        raise DataError(f"Refused: {archive} holds {name[:80]!r} in {len(path.parts)} folders.")
    if strip and path.parts[:1] == (strip,):
        path = PurePosixPath(*path.parts[1:])
    if member.kind == "file" and not path.parts:
        raise DataError(f"Refused: {archive} holds {name!r}, a file without a name.")
    return path


def _write(archive: Path, place: Path, member: _Member) -> None:
    source = member.open()
    if source is None:
        raise DataError(f"Damaged archive: {archive}. {member.name!r} cannot be read.")
    with source, place.open("xb") as target:
        shutil.copyfileobj(source, target, _UNPACK_BLOCK)
        written = target.tell()
    if written != member.size:
        raise DataError(
            f"Damaged archive: {archive}. {member.name!r} must have {member.size} bytes. "
            f"Received: {written}."
        )


def _move(source: Path, target: Path) -> None:
    """Moves what is in `source` into `target`, whole folders at a time where they are new."""
    for child in sorted(source.iterdir()):
        place = target / child.name
        if child.is_dir() and place.is_dir():
            _move(child, place)
        elif os.path.lexists(place):
            raise DataError(f"{place} exists already, and is not a folder. Remove it.")
        else:
            shutil.move(child, place)  # renames; copies where a folder is on another disk


@contextmanager
def _explained(archive: Path, root: Path) -> Iterator[None]:
    """Turns what a damaged archive or a full disk raises into one line for the user."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is None:  # of gzip and bz2; the system's errors have a number
            raise DataError(f"Damaged archive: {archive} ({error}).") from None
        reason = os.strerror(error.errno).lower()
        if error.errno == errno.EIO:
            reason += f", or {archive} cannot be read"
        raise OutputError(f"{root} cannot be written: {reason}") from None
    except _DAMAGE as error:
        raise DataError(f"Damaged archive, or none: {archive} ({error}).") from None
