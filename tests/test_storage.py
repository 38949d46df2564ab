"""Durable writes: whole or absent, in the right order on the disk; the lock names its holder."""

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwc_exp import storage
from pwc_exp.errors import BusyError, DiskFullError, OutputError


class StoppedError(Exception):
    """Stands for the end of the process."""


def stop(*_: object, **__: object) -> None:
    raise StoppedError


def refuse(number: int) -> Callable[..., None]:
    def refusal(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refusal


def plain(name: str) -> str:
    """A temporary name without its random part."""
    return re.sub(r"^(\.(?:tmp|del)-.*)\.[0-9a-f]{8}$", r"\1", name)


def record_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are fsynced and renamed from now on, in order."""
    calls: list[str] = []
    fsync = os.fsync

    def recorded_fsync(descriptor: int) -> None:
        calls.append("fsync " + plain(Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def recorded(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(self: Path, target: Path) -> Path:
            calls.append(f"rename {plain(self.name)} {plain(target.name)}")
            return move(self, target)

        return moved

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded(Path.rename))
    monkeypatch.setattr(Path, "replace", recorded(Path.replace))
    return calls


def write_folder(path: Path) -> None:
    with storage.folder(path / "result", needed=1) as new:
        (new / "data").write_bytes(b"1")


@pytest.mark.parametrize(
    ("act", "order"),
    [
        (
            lambda path: storage.write_file(path / "a.json", b"new"),
            "fsync .tmp-a.json, rename .tmp-a.json a.json, fsync {}",
        ),
        (
            write_folder,
            "fsync data, fsync .tmp-result, rename .tmp-result result, fsync {}",
        ),
        (lambda path: storage.sync_file(path / "lines"), "fsync lines, fsync {}"),
        (lambda path: storage.make_folder(path / "a/b/c"), "fsync {}, fsync a, fsync b"),
    ],
    ids=["file", "folder", "sync", "folders"],
)
def test_content_is_on_the_disk_before_it_gets_its_name(
    act: Callable[[Path], None], order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lines").touch()
    calls = record_calls(monkeypatch)
    act(tmp_path)
    assert ", ".join(calls) == order.format(tmp_path.name)


def test_file_keeps_its_content_if_the_write_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    storage.write_file(path, b"old")
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(StoppedError):
        storage.write_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_folder_of_a_failed_block_never_appears(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), storage.folder(tmp_path / "result", needed=1) as new:
        (new / "data").write_bytes(b"1")
        raise StoppedError
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    with storage.folder(tmp_path / "result", needed=1) as new:
        (new / "old").write_bytes(b"")
    with (
        pytest.raises(OutputError, match="result cannot be written: file exists"),
        storage.folder(tmp_path / "result", needed=1),
    ):
        pytest.fail("the block must not begin")
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "old"]


def test_leftover_of_a_killed_process_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in (".tmp-result", ".del-result", ".tmp-result.00000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stale").write_bytes(b"")
    with storage.folder(tmp_path / "result", needed=1) as new:
        (new / "data").write_bytes(b"")
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["data"]
    storage.remove_folder(tmp_path / "result")
    assert not (tmp_path / "result").exists()


def test_folder_loses_its_name_before_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    emptied: list[str] = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: emptied.append(path.name))
    storage.remove_folder(tmp_path / "result")
    assert [plain(path.name) for path in tmp_path.iterdir()] == [".del-result"]
    assert emptied == [path.name for path in tmp_path.iterdir()]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".tmp-a", ".del-b", "c", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / ".tmp-d").write_bytes(b"")
    storage.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "c"]


def test_lines_are_appended_in_one_write_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write

    def recorded(descriptor: int, data: bytes) -> int:
        written.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", recorded)
    lines = ["1", "é" * 100_000]
    for line in lines:
        storage.append_line(tmp_path / "lines", line)
    assert written == [f"{line}\n".encode() for line in lines]
    assert (tmp_path / "lines").read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_refusal_names_the_path_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(OutputError) as file_error:
        storage.write_file(tmp_path / "a.json", b"new")
    with (
        pytest.raises(OutputError) as folder_error,
        storage.folder(tmp_path / "result", needed=1) as new,
    ):
        (new / "data").write_bytes(b"")
    for error, name in ((file_error, "a.json"), (folder_error, "result")):
        message = str(error.value)
        assert str(tmp_path / name) in message
        assert os.strerror(number).lower() in message
        assert "\n" not in message
        assert ("MB are free" in message) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert list(tmp_path.iterdir()) == []


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (
        lambda: storage.make_folder(tmp_path / "file" / "run"),
        lambda: storage.append_line(tmp_path / "file" / "lines", "1"),
        lambda: storage.write_file(tmp_path / "file" / "a.json", b""),
    ):
        with pytest.raises(OutputError, match="not a directory"):
            write()


def test_partly_written_line_is_an_error_and_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.append_line(tmp_path / "lines", "1")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-2]))
    with pytest.raises(DiskFullError, match="no space left"):
        storage.append_line(tmp_path / "lines", "1234")
    assert (tmp_path / "lines").read_text() == "1\n"


def test_two_writers_of_one_file_are_not_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    fsync = os.fsync

    def overtaken(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        storage.write_file(path, b"second")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", overtaken)
    storage.write_file(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_fsync_that_failed_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_file(tmp_path / "a.json", b"old")
    synced: list[str] = []

    def failing(descriptor: int) -> None:
        synced.append(plain(Path(f"/proc/self/fd/{descriptor}").readlink().name))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(DiskFullError, match=r"output error \(needs 1 MB, \d+ MB are free\)"):
        storage.write_file(tmp_path / "a.json", b"new")
    assert synced == [".tmp-a.json"]
    with pytest.raises(DiskFullError):
        storage.sync_file(tmp_path / "a.json")
    assert synced == [".tmp-a.json", "a.json"]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", b"old")]


def test_file_is_cut_and_never_lengthened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"12345")
    calls = record_calls(monkeypatch)
    storage.truncate(path, 3)
    assert (path.read_bytes(), calls) == (b"123", ["fsync lines"])
    with pytest.raises(ValueError, match="lines has 3 bytes and cannot be cut to 4"):
        storage.truncate(path, 4)
    assert path.read_bytes() == b"123"


def test_mistakes_of_the_block_are_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage.folder(tmp_path / "result", needed=1):
        (tmp_path / "absent").read_bytes()


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


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with held_by_another_process(path) as process:
        threading.Timer(0.2, process.kill).start()
        with storage.lock(path, wait=True):
            assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_without_flock_a_lock_is_a_file_that_is_removed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path; from pwc_exp import storage; path = Path(sys.argv[1])\n"
        "with storage.lock(path):\n"
        "    try: storage.lock(path).__enter__()\n"
        "    except storage.BusyError as error: print(error)\n"
        "print(path.exists())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / ".lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    held, exists = done.stdout.splitlines()
    assert held.startswith(f"{tmp_path / '.lock'} is held by ")
    assert exists == "False"


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
