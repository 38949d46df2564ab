"""Conversions: nothing is made twice, nothing is left half made, whatever stops them."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pwc_exp.data.conversion import Job, Outcome, convert
from pwc_exp.errors import DataError, OutputError
from pwc_exp.storage import write_file

SIZE = 300_000  # bytes of an output of the slow conversion
SLOW_CONVERSION = f"""
import signal, sys, time
from pathlib import Path
from pwc_exp.data.conversion import Job, convert
from pwc_exp.storage import write_file

def work(number, path):
    time.sleep(0.02)
    write_file(path, bytes([number]) * {SIZE})

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
folder = Path(sys.argv[1])
jobs = [Job(number, folder / str(number % 3) / f"{{number}}.bin") for number in range(40)]
print(convert(jobs, work, folder=folder, workers=3, label="slow").kept)
"""


def jobs_in(folder: Path, count: int) -> list[Job[int]]:
    return [Job(number, folder / f"{number}.txt") for number in range(count)]


def write_number(number: int, path: Path) -> None:
    write_file(path, str(number).encode())


def run(
    jobs: list[Job[int]], folder: Path, work: Callable[[int, Path], None] = write_number
) -> Outcome:
    return convert(jobs, work, folder=folder, workers=2, label="test")


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "new" / "folder", 5)
    jobs[3].output.parent.mkdir(parents=True)
    jobs[3].output.write_text("mine")
    assert run(jobs, tmp_path) == Outcome(made=4, kept=1, failures=[])
    assert [job.output.read_text() for job in jobs] == ["0", "1", "2", "mine", "4"]


def test_refused_inputs_stop_nothing_and_are_tried_again(tmp_path: Path) -> None:
    damaged = {1, 4}

    def work(number: int, path: Path) -> None:
        if number in damaged:
            raise DataError(f"damaged {number}")
        write_number(number, path)

    jobs = jobs_in(tmp_path, 6)
    outcome = run(jobs, tmp_path, work)
    assert [str(failure) for failure in outcome.failures] == ["damaged 1", "damaged 4"]
    assert outcome[:2] == (4, 0)
    damaged.clear()
    assert run(jobs, tmp_path, work) == Outcome(made=2, kept=4, failures=[])


def test_a_full_disk_stops_the_conversion_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    started = []

    def work(number: int, path: Path) -> None:
        started.append(number)
        time.sleep(0.005)
        write_number(number, path)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"\.txt cannot be written: no space left") as caught:
        run(jobs_in(tmp_path, 100), tmp_path, work)
    assert "\n" not in str(caught.value)
    assert len(started) < 100
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_programming_error_is_not_taken_for_a_bad_input(tmp_path: Path) -> None:
    def work(_: int, __: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(jobs_in(tmp_path, 2), tmp_path, work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_whole_files_and_is_continued(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SLOW_CONVERSION, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("*/[0-9]*.bin"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
    done = list(tmp_path.glob("*/[0-9]*.bin"))
    assert process.returncode == -number
    assert 5 <= len(done) < 40
    assert all(path.stat().st_size == SIZE for path in done)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(again.stdout) == len(done)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.name for path in files} == {f"{number}.bin" for number in range(40)}
    assert all(path.read_bytes() == bytes([int(path.stem)]) * SIZE for path in files)


def test_two_conversions_into_one_folder_make_each_output_once(tmp_path: Path) -> None:
    made = []

    def work(number: int, path: Path) -> None:
        made.append(number)
        time.sleep(0.005)
        write_number(number, path)

    jobs = jobs_in(tmp_path, 12)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: run(jobs, tmp_path, work), range(2)))
    assert sorted(made) == list(range(12))
    assert sorted(outcome.made for outcome in outcomes) == [0, 12]


def test_a_finished_conversion_writes_nothing(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    for job in jobs:
        write_number(job.item, job.output)
    assert run(jobs, tmp_path) == Outcome(made=0, kept=2, failures=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.txt", "1.txt"]


def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert run(jobs_in(tmp_path, 2), tmp_path).made == 2
    assert "one at a time" in caplog.text


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="file"):
        run(jobs_in(tmp_path / "file", 1), tmp_path / "file")
    (tmp_path / "folder" / ".lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"\.lock cannot be written"):
        run(jobs_in(tmp_path / "folder", 1), tmp_path / "folder")
