"""The lock of a run: one holder at a time, who is named, and whose death frees it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwc_exp import storage
from pwc_exp.errors import BusyError

HOLD = """
import sys
from pathlib import Path
from pwc_exp import storage
with storage.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with held_by_another_process(path) as process:
        for _ in range(2):
            with pytest.raises(BusyError) as caught, storage.lock(path):
                pytest.fail("the lock is held")
            holder = f"process {process.pid} on {socket.gethostname()}"
            assert str(caught.value) == f"{path} is held by {holder}; try again when it has ended"


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("process 4194304 on a host of a long, long name\n" * 9)
    with held_by_another_process(path) as process:
        process.kill()
        process.wait()
        with storage.lock(path):
            assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_lock_is_free_after_the_block_even_if_it_raises(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with pytest.raises(ZeroDivisionError), storage.lock(path):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"), storage.lock(path):
            pytest.fail("the lock is held")
        raise ZeroDivisionError
    for _ in range(2):
        with storage.lock(path):
            assert path.exists()
    assert path.exists()


def test_lock_is_free_although_a_forked_process_lives(tmp_path: Path) -> None:
    with storage.lock(tmp_path / ".lock"):
        inherited = os.dup(int(descriptor_of(tmp_path / ".lock").name))
    try:
        with storage.lock(tmp_path / ".lock"):
            pass
    finally:
        os.close(inherited)


def descriptor_of(path: Path) -> Path:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return next(link for link in links if link.readlink() == path)
