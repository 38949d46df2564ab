"""Full, failing and read-only disks: one line for the user, and nothing that was there is lost."""

import contextlib
import errno
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pwc_exp import checkpoints, storage
from pwc_exp.errors import DiskFullError, OutputError, UserError

CLASSES = {
    errno.ENOSPC: DiskFullError,
    errno.EDQUOT: DiskFullError,
    errno.EIO: DiskFullError,
    errno.EROFS: OutputError,
}
STATE = {"model/kernel": np.arange(100, dtype=np.float32)}
KEY = "val/aepe"


class Site(NamedTuple):
    """A place of the package that writes."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    read: Callable[[Path], object]  # what must stay


class Fault:
    """Refuses one operation: the one of number `at`, from 1, in a run of the program."""

    def __init__(self, number: int, *, at: int) -> None:
        self.operation: str | None = None  # the refused one
        self._number = number
        self._left = at

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = "mkdir open write pwrite ftruncate rename replace unlink rmdir fsync"
        for module, name in [(Path, "write_bytes"), *((os, name) for name in names.split())]:
            monkeypatch.setattr(module, name, self._faulty(getattr(module, name), name))

    def _faulty(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.operation = name
                raise OSError(self._number, os.strerror(self._number))
            return original(*args, **kwargs)

        return replacement


def save(folder: Path, step: int, **arrays: np.ndarray) -> Path:
    return checkpoints.save(folder, step=step, state=STATE | arrays, metrics={}, fingerprint={})


def save_three(folder: Path) -> None:
    for step in (1, 2, 3):
        save(folder, step)


def save_and_damage(folder: Path) -> None:
    for step in (1, 2):
        path = save(folder, step)
    (path / checkpoints.STATE_FILE).unlink()


def fill_folder(path: Path) -> None:
    with storage.folder(path, needed=1) as new:
        (new / "data").write_bytes(b"new")


def hold(path: Path) -> None:
    with storage.lock(path):
        pass


def newest(folder: Path) -> int:
    checkpoint = checkpoints.newest_intact(folder)
    assert checkpoint is not None
    return checkpoint.step


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


SITES = {
    "write_file": Site(
        lambda root: storage.write_file(root / "a", b"old"),
        lambda root: storage.write_file(root / "a", b"new"),
        contents,
    ),
    "append_line": Site(
        lambda root: storage.append_line(root / "a", "old"),
        lambda root: storage.append_line(root / "a", "new"),
        contents,
    ),
    "sync_file": Site(
        lambda root: storage.append_line(root / "a", "old"),
        lambda root: storage.sync_file(root / "a"),
        contents,
    ),
    "truncate": Site(
        lambda root: storage.append_line(root / "a", "old"),
        lambda root: storage.truncate(root / "a", 1),
        contents,
    ),
    "make_folder": Site(
        lambda root: storage.write_file(root / "a", b"old"),
        lambda root: storage.make_folder(root / "b/c"),
        contents,
    ),
    "folder": Site(
        lambda root: storage.write_file(root / "a", b"old"),
        lambda root: fill_folder(root / "b"),
        contents,
    ),
    "remove_folder": Site(
        lambda root: fill_folder(root / "b"),
        lambda root: storage.remove_folder(root / "b"),
        contents,
    ),
    "lock": Site(
        lambda root: storage.write_file(root / "a", b"old"),
        lambda root: hold(root / ".lock"),
        lambda root: (root / "a").read_bytes(),
    ),
    "save": Site(lambda root: save(root, 1), lambda root: save(root, 2), newest),
    "save_again": Site(
        lambda root: save(root, 1),
        lambda root: checkpoints.save(root, step=1, state=STATE, metrics={KEY: 1}, fingerprint={}),
        newest,
    ),
    "set_aside": Site(
        save_and_damage,
        checkpoints.newest_intact,
        lambda root: checkpoints.load(root / "step-00000001").step,
    ),
    "retain": Site(
        save_three,
        lambda root: checkpoints.retain(root, keep_best=0, key=KEY),
        newest,
    ),
}


def run_with(fault: Fault, site: Site, root: Path) -> UserError | None:
    root.mkdir()
    site.prepare(root)
    with pytest.MonkeyPatch.context() as patched:
        fault.install(patched)
        try:
            site.act(root)
        except UserError as error:
            return error
    return None


@pytest.mark.parametrize("number", CLASSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", SITES)
def test_every_refused_operation_is_one_line_and_nothing_is_lost(
    name: str, number: int, tmp_path: Path
) -> None:
    site = SITES[name]
    assert run_with(Fault(number, at=10_000), site, tmp_path / "whole") is None
    after = site.read(tmp_path / "whole")
    (tmp_path / "prepared").mkdir()
    site.prepare(tmp_path / "prepared")
    before = site.read(tmp_path / "prepared")
    refused = 0
    for at in range(1, 1000):
        root = tmp_path / str(at)
        fault = Fault(number, at=at)
        error = run_with(fault, site, root)
        if fault.operation is None:
            break
        refused += 1
        if error is None:  # a folder was there, or what is no longer needed could not be removed
            assert fault.operation in ("mkdir", "open", "unlink", "rmdir")
            storage.remove_leftovers(root)
        else:
            assert_one_line(error, number)
            assert site.read(root) in (before, after)
            assert not leftovers(root)
            with contextlib.suppress(FileNotFoundError):  # the folder to be removed is gone
                site.act(root)
        assert site.read(root) == after
        assert not leftovers(root)
    assert refused > 1


def assert_one_line(error: UserError, number: int) -> None:
    assert type(error) is CLASSES[number]
    assert os.strerror(number).lower() in str(error)
    reassured = re.search(r"\d MB are free\); nothing that was on the disk was lost$", str(error))
    assert bool(reassured) == (CLASSES[number] is DiskFullError)
    assert "\n" not in str(error)


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith((".tmp-", ".del-"))]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs leave to mount a file system: {error}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
def test_last_checkpoint_of_a_really_full_disk_loads(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, *, foreseen: bool
) -> None:
    if not foreseen:  # another process takes the space after it was checked
        monkeypatch.setattr(storage, "check_space", lambda folder, needed: None)
    large = {"optimizer/velocity": np.arange(150_000, dtype=np.float32)}  # 0.6 MB
    saved = 0
    with pytest.raises(DiskFullError, match=r"needs 1 MB, 0 MB are free") as caught:
        for step in range(1, 9):
            save(small_disk / "checkpoints", step, **large)
            saved = step
    assert "\n" not in str(caught.value)
    assert saved == 3
    assert newest(small_disk / "checkpoints") == saved
    assert not leftovers(small_disk)

    shutil.rmtree(small_disk / "checkpoints/step-00000001")
    save(small_disk / "checkpoints", 4, **large)
    assert newest(small_disk / "checkpoints") == 4


def test_journal_of_a_really_full_disk_holds_whole_lines(small_disk: Path) -> None:
    journal, ballast = small_disk / "metrics.jsonl", small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    line = "x" * 999
    with pytest.raises(DiskFullError, match="no space left on device"):
        for _ in range(9999):
            storage.append_line(journal, line)
    whole = journal.read_text()
    assert whole
    assert whole == f"{line}\n" * (len(whole) // 1000)
    ballast.unlink()
    storage.append_line(journal, line)
    assert journal.read_text() == f"{whole}{line}\n"


def test_checkpoint_that_cannot_fit_is_refused_before_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20 + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    storage.check_space(tmp_path / "not/yet/there", 3 * 2**20 + 1)
    large = {"optimizer/velocity": np.zeros(2**20, np.float32)}
    with pytest.raises(DiskFullError, match=r"needs 5 MB, 3 MB are free; nothing was written$"):
        save(tmp_path / "checkpoints", 1, **large)
    assert checkpoints.newest_intact(tmp_path / "checkpoints") is None
    assert not leftovers(tmp_path)
