"""Brings a data set of the catalogue onto the disk: plan, download, check, unpack, note it as done.

Archives lie in `<root>/archives`, where one that was downloaded by hand can be put, too.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.fetching.archives import Archive, Entry
from pwc_exp.data.fetching.download import download
from pwc_exp.data.fetching.remote import Remote, probe
from pwc_exp.data.fetching.unpack import Unpacked, unpack
from pwc_exp.errors import DataError, MissingInputError, OutputError
from pwc_exp.storage import make_folder, write_file

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Fetched(NamedTuple):
    """What a call did; the archives by name."""

    fetched: tuple[str, ...]
    already: tuple[str, ...]  # by an earlier call
    pending: tuple[str, ...]  # as the licence was not accepted


class _Planned(NamedTuple):
    archive: Archive
    remote: Remote
    on_disk: int  # bytes of it that are there already


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
        report(f"{name}: there already. To fetch it again, remove {_mark(folder, name)}.")
    if not pending:
        return Fetched((), already, ())
    planned = [_plan(folder, archive, timeout) for archive in pending]
    free = shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.is_dir())).free
    _show(entry, root, planned, free, report)
    if not accept_licence:
        report("Nothing was downloaded. Accept the licence to go on.")
        return Fetched((), already, names)
    _require_space(root, planned, free, keep_archives)
    make_folder(folder)
    with _alone(folder):
        for archive in pending:
            digest = download(
                archive.url,
                folder / archive.name,
                sha256=archive.sha256,
                timeout=timeout,
                sleep=sleep,
            )
            report(f"{archive.name}: sha256 {digest}")
            unpacked = _place(folder / archive.name, root, archive)
            _note_as_done(folder, archive, digest, unpacked)
            if not keep_archives:
                (folder / archive.name).unlink()
            report(f"{archive.name}: {unpacked.files} files, {_size(unpacked.size)}, in {root}")
    return Fetched(names, already, ())


def _plan(folder: Path, archive: Archive, timeout: float) -> _Planned:
    path = folder / archive.name
    parts = (path, path.with_name(f"{path.name}.part"))
    on_disk = next((part.stat().st_size for part in parts if part.is_file()), 0)
    if path.is_file():
        return _Planned(archive, Remote(on_disk, None, None), on_disk)
    return _Planned(archive, probe(archive.url, timeout=timeout), on_disk)


def _show(
    entry: Entry, root: Path, planned: list[_Planned], free: int, report: Callable[[str], None]
) -> None:
    report(f"{entry.name}: licence: {entry.licence}")
    report(f"  see {entry.page}")
    for archive, remote, on_disk in planned:
        there = f", {_size(on_disk)} of it are there" if on_disk else ""
        report(f"  {archive.name}: {_size(remote.size)}{there}, from {archive.url}")
    report(f"  into {root}, where {_size(free)} are free")


def _require_space(root: Path, planned: list[_Planned], free: int, keep_archives: bool) -> None:
    """Refuses a disk that cannot hold even the archives twice: packed and unpacked."""
    sizes = [remote.size or 0 for _, remote, _ in planned]
    unpacked = list(accumulate(sizes))
    packed = unpacked if keep_archives else sizes
    needed = max(sum(pair) for pair in zip(unpacked, packed, strict=True))
    needed -= sum(on_disk for _, _, on_disk in planned)
    if needed > free:
        raise OutputError(
            f"{root} needs {_size(needed)} or more for archives and files. Free: {_size(free)}."
        )


def _place(path: Path, root: Path, archive: Archive) -> Unpacked:
    if archive.name.endswith(_PACKED):
        return unpack(path, root, strip=archive.strip)
    content = path.read_bytes()
    place = root / archive.name
    if place.exists() and place.read_bytes() != content:
        raise DataError(f"{place} is there already, and is not what {archive.url} is. Remove it.")
    write_file(place, content)
    return Unpacked(1, len(content), 0)


def _mark(folder: Path, name: str) -> Path:
    return folder / f"{name}.done"


def _is_done(folder: Path, archive: Archive) -> bool:
    """Whether an earlier call unpacked this archive, from this address."""
    try:
        noted = json.loads(_mark(folder, archive.name).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(noted, dict) and noted.get("url") == archive.url


def _note_as_done(folder: Path, archive: Archive, digest: str, unpacked: Unpacked) -> None:
    note = {"url": archive.url, "sha256": digest, **unpacked._asdict()}
    write_file(_mark(folder, archive.name), json.dumps(note, indent=2).encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuses a second process that fetches into the same folder; it would write the same files."""
    with (folder / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"Another process fetches into {folder.parent}.") from None
        yield


def _size(count: int | None) -> str:
    if count is None:
        return "of unknown size"
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
