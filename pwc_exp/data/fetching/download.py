"""Downloads of large files: continued where they broke off, and checked before they get their name.

Until it is complete and checked, a file is called `<name>.part`. Beside it, `<name>.part.json`
remembers which version of the server's file it is a part of.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from pwc_exp.data.fetching.remote import (
    ChangedError,
    PassingError,
    Remote,
    open_remote,
    refuse_page,
    remote_of,
    words_of,
)
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError
from pwc_exp.storage import make_folder, write_file

_BLOCK = 2**18  # bytes; what a cut loses at most
_LONGEST_WAIT = 60.0  # seconds
_OF_THE_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
}


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Downloads `path`, unless it is there, and returns its sha256, also written beside it.

    Args:
        sha256: What it must be. Without it, a file that is already there must be what
            `<name>.sha256` says, if that is there.
        timeout: Seconds without a byte after which an attempt is given up.
        attempts: Attempts in a row that may fail without a byte more than ever before.
        sleep: Called between attempts with the seconds to wait.
    """
    if not path.is_file():
        make_folder(path.parent)
        _complete_part(url, path, timeout=timeout, attempts=attempts, sleep=sleep)
    beside = path.with_name(f"{path.name}.sha256")
    return _named(url, path, beside, sha256 or _recorded(beside))


def _named(url: str, path: Path, beside: Path, expected: str | None) -> str:
    """Checks the file, or its complete part, and gives it its name."""
    part = _part(path)
    found = path if path.is_file() else part
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _note(path).unlink(missing_ok=True)
    if expected is not None and digest != expected.lower():
        bad = path.with_name(f"{path.name}.bad")
        found.replace(bad)
        beside.unlink(missing_ok=True)
        raise DataError(
            f"Wrong checksum: {url}. Expected sha256 {expected}. Received: {digest}, kept as {bad}."
        )
    write_file(beside, f"{digest}  {path.name}\n".encode())
    if found is part:
        part.replace(path)
    return digest


def _recorded(beside: Path) -> str | None:
    words = beside.read_text(encoding="utf-8").split() if beside.is_file() else []
    return words[0] if words else None


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
        except ChangedError:
            _note(path).unlink(missing_ok=True)  # so that the next attempt begins anew
            reason = "changed while it was downloaded"
        except PassingError as error:
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
        with open_remote(url, _range(kept, start), timeout) as response:
            refuse_page(url, response)
            remote = remote_of(response)
            start = _agreed_start(response, kept, remote, start)
            write_file(note, json.dumps({"url": url, "remote": remote._asdict()}).encode())
            with part.open("ab" if start else "wb") as file:
                _copy(response, file, path.name, remote.size)
    except UserError:
        raise
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise OutputError(f"{part} cannot be written: {error.strerror}.") from None
        raise PassingError(f"broke off ({words_of(error)})") from None


def _copy(response: Any, file: IO[bytes], name: str, size: int | None) -> None:
    with tqdm(
        desc=name,
        total=size,
        initial=file.tell(),
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
    ) as bar:
        while block := response.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
    file.flush()
    os.fsync(file.fileno())
    if size is not None and file.tell() != size:
        # http.client ends a body that was cut without a word.
        raise PassingError(f"broke off after {file.tell()} of {size} bytes")


def _range(kept: Remote | None, start: int) -> dict[str, str]:
    if kept is None or not start:
        return {}
    # Of the two, only a strong tag says that each byte is the same; a weak one is not allowed here.
    strong = kept.etag if kept.etag and not kept.etag.startswith("W/") else None
    version = strong or kept.modified
    return {"Range": f"bytes={start}-"} | ({"If-Range": version} if version else {})


def _agreed_start(response: Any, kept: Remote | None, remote: Remote, start: int) -> int:
    """Where the bytes that come belong: at `start`, or at 0 if the server sends the whole file."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    content_range = response.headers.get("Content-Range", "")
    same = kept is not None and remote[:3] == kept[:3]
    if not (same and content_range.startswith(f"bytes {start}-")):
        raise ChangedError
    return start


def _read_note(note: Path, url: str) -> Remote | None:
    """What the part on disk is a part of; None where that is not known."""
    try:
        values = json.loads(note.read_bytes())
        return Remote(**values["remote"]) if values["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
