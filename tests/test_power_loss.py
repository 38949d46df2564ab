"""Power loss: what a program has called safe is there, whole, in every state a disk may be in.

The programs run on a real file system. A model (power_cuts.py) cuts the power after each of their
operations; the real recovery then runs on each state of the disk that the model allows.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from power_cuts import Disk, Tree, lay_out

from pwc_exp import checkpoints, storage
from pwc_exp.errors import DataError

KEY = "val/aepe"
LINES = ["one", "second", "third line"]


class DamagedError(Exception):
    """Recovery has used what was never written."""


class Report(NamedTuple):
    """What recovery made of all states."""

    cuts: int
    states: int  # one state after two cuts counts twice
    lost: int
    damaged: int


Program = Callable[[Path, Disk], None]
Mutation = Callable[[pytest.MonkeyPatch], None]
Recovery = Callable[[Path], int]  # how much of the program's work is there; -1: refuses to go on


def enumerate_states(
    program: Program,
    recovery: Recovery,
    folder: Path,
    *,
    break_it: Mutation | None = None,
) -> Report:
    """Runs `program`, then `recovery` in every state; a broken one only to its first failure."""
    root = folder / "root"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        disk = Disk(root)
        disk.follow(patched)
        if break_it:
            break_it(patched)
        program(root, disk)
    found: dict[Tree, int | None] = {}
    states = lost = damaged = 0
    for number, cut in enumerate(disk.cuts):
        for tree in cut.states:
            if tree not in found:
                found[tree] = _recovered(tree, recovery, folder / str(len(found)))
            number_there = found[tree]
            states += 1
            damaged += number_there is None
            lost += number_there is not None and number_there < cut.promised
        if break_it and (lost or damaged):
            return Report(number + 1, states, lost, damaged)
    return Report(len(disk.cuts), states, lost, damaged)


def _recovered(tree: Tree, recovery: Recovery, place: Path) -> int | None:
    lay_out(tree, place)
    try:
        return recovery(place)
    except DamagedError:
        return None


def state_at(step: int) -> dict[str, np.ndarray]:
    return {"model/kernel": np.full(64, step, np.float32), "optimizer/step": np.array(step)}


def save(folder: Path, step: int, metric: float = 1.0) -> None:
    checkpoints.save(folder, step=step, state=state_at(step), metrics={KEY: metric}, fingerprint={})


def restart(root: Path) -> int:
    """Goes on with a run: the step it starts from."""
    try:
        found = checkpoints.newest_intact(root / "run/checkpoints")
    except DataError:
        return -1
    if found is None:
        return 0
    expected = state_at(found.step)
    if {name: found.arrays[name].tobytes() for name in found.arrays} != {
        name: expected[name].tobytes() for name in expected
    }:
        raise DamagedError
    return found.step


def restart_with_journal(root: Path) -> int:
    """As `restart`; a point of each step up to the one it starts from must be in the journal."""
    step = restart(root)
    if step > 0 and read_lines(root / "run/lines") < step:
        return -1
    return step


def write_files(root: Path, disk: Disk) -> None:
    for version in (1, 2, 3):
        storage.write_file(root / "a.json", b"version %d" % version * 4)
        disk.promise(version)


def read_version(root: Path) -> int:
    path = root / "a.json"
    if not path.exists():
        return 0
    versions = [b"version %d" % version * 4 for version in (1, 2, 3)]
    if path.read_bytes() not in versions:
        raise DamagedError
    return versions.index(path.read_bytes()) + 1


def append_lines(root: Path, disk: Disk) -> None:
    run = root / "run"
    storage.make_folder(run)
    for count, line in enumerate(LINES, start=1):
        storage.append_line(run / "lines", line)
        if count > 1:  # one time for two lines
            storage.sync_file(run / "lines")
            disk.promise(count)


def mend_a_torn_line(root: Path, disk: Disk) -> None:
    run = root / "run"
    storage.make_folder(run)
    for line in LINES[:2]:
        storage.append_line(run / "lines", line)
    whole = (run / "lines").read_bytes()
    (run / "lines").write_bytes(whole + LINES[2].encode()[:3])
    disk.settle()
    disk.promise(2)
    storage.truncate(run / "lines", len(whole))
    storage.append_line(run / "lines", LINES[2])
    storage.sync_file(run / "lines")
    disk.promise(3)


def read_lines(path: Path) -> int:
    data = path.read_bytes() if path.exists() else b""
    lines = data.decode().split("\n")[:-1]
    if lines != LINES[: len(lines)]:
        raise DamagedError
    return len(lines)


def run_lines(root: Path) -> int:
    return read_lines(root / "run/lines")


def save_once(root: Path, disk: Disk) -> None:
    save(root / "run/checkpoints", 1)
    disk.promise(1)


def save_and_retain(root: Path, disk: Disk) -> None:
    folder = root / "run/checkpoints"
    for step, metric in ((1, 1.0), (2, 3.0), (3, 2.0), (4, 0.5)):
        save(folder, step, metric)
        disk.promise(step)
        checkpoints.retain(folder, keep_best=1, key=KEY)


def save_twice(root: Path, disk: Disk) -> None:
    for metric in (2.0, 1.0):
        save(root / "run/checkpoints", 1, metric)
        disk.promise(1)


def save_after_the_journal(root: Path, disk: Disk) -> None:
    storage.make_folder(root / "run")
    for step, line in enumerate(LINES, start=1):
        storage.append_line(root / "run/lines", line)
        storage.sync_file(root / "run/lines")
        save(root / "run/checkpoints", step)
        disk.promise(step)


def fall_back(root: Path, disk: Disk) -> None:
    """Finds the last two damaged, goes on from the one before, and saves one of them again."""
    folder = root / "run/checkpoints"
    for step in (1, 2, 3):
        save(folder, step)
    (folder / "step-00000002" / checkpoints.MANIFEST_FILE).write_bytes(b"{")
    (folder / "step-00000003" / checkpoints.STATE_FILE).write_bytes(b"")
    disk.settle()
    disk.promise(1)
    assert restart(root) == 1
    save(folder, 2)
    disk.promise(2)


PROGRAMS: list[tuple[Program, Recovery]] = [
    (write_files, read_version),
    (append_lines, run_lines),
    (mend_a_torn_line, run_lines),
    (save_and_retain, restart),
    (save_twice, restart),
    (save_after_the_journal, restart_with_journal),
    (fall_back, restart),
]


@pytest.mark.parametrize(
    ("program", "recovery"), PROGRAMS, ids=[program.__name__ for program, _ in PROGRAMS]
)
def test_no_cut_loses_what_was_promised(
    program: Program, recovery: Recovery, tmp_path: Path
) -> None:
    report = enumerate_states(program, recovery, tmp_path)
    print(report)
    assert report.cuts > 5
    assert report.states >= report.cuts
    assert (report.lost, report.damaged) == (0, 0)


def no_fsync_of(kind: Callable[[Path], bool], patched: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def forgetful(descriptor: int) -> None:
        if not kind(Path(f"/proc/self/fd/{descriptor}").readlink()):
            fsync(descriptor)

    patched.setattr(os, "fsync", forgetful)


def no_fsync_of_folders(patched: pytest.MonkeyPatch) -> None:
    no_fsync_of(Path.is_dir, patched)


def no_fsync_of_files(patched: pytest.MonkeyPatch) -> None:
    no_fsync_of(Path.is_file, patched)


def no_fsync_of_the_journal(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(storage, "sync_file", lambda path: None)


MUTANTS: list[tuple[Program, Recovery, Mutation, str]] = [
    (write_files, read_version, no_fsync_of_folders, "lost"),
    (write_files, read_version, no_fsync_of_files, "damaged"),
    (append_lines, run_lines, no_fsync_of_folders, "lost"),
    (append_lines, run_lines, no_fsync_of_files, "lost"),
    (mend_a_torn_line, run_lines, no_fsync_of_files, "lost"),
    (save_once, restart, no_fsync_of_folders, "lost"),
    (save_once, restart, no_fsync_of_files, "lost"),
    (save_twice, restart, no_fsync_of_files, "lost"),
    (save_after_the_journal, restart_with_journal, no_fsync_of_the_journal, "lost"),
    (fall_back, restart, no_fsync_of_folders, "lost"),
]


@pytest.mark.parametrize(
    ("program", "recovery", "mutation", "outcome"),
    MUTANTS,
    ids=[f"{program.__name__}-{mutation.__name__}" for program, _, mutation, _ in MUTANTS],
)
def test_cuts_do_harm_without_fsync(
    program: Program, recovery: Recovery, mutation: Mutation, outcome: str, tmp_path: Path
) -> None:
    report = enumerate_states(program, recovery, tmp_path, break_it=mutation)
    print(report)
    assert getattr(report, outcome) > 0


def test_only_the_checksum_tells_zeros_from_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind:
        def hexdigest(self) -> str:
            return ""

    monkeypatch.setattr(checkpoints.hashlib, "sha256", lambda data: Blind())
    report = enumerate_states(save_once, restart, tmp_path, break_it=no_fsync_of_files)
    print(report)
    assert report.damaged > 0
