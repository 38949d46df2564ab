"""A model of a disk that loses power: which states it may be in after each operation of a program.

Stricter than any usual file system, as in ALICE (https://www.usenix.org/node/186195). Of the
operations on a folder that has not been fsynced since, any subset has happened; a file that has not
been fsynced holds what it held, or nothing, or half, or zeros, or all. Nothing else is ever lost.
"""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Tree = bytes | frozenset[tuple[str, Any]]  # content of a file, or (name, tree) of all in a folder


class File:
    """A file: what is safe, and what has been written since."""

    def __init__(self) -> None:
        self.safe = b""
        self.written: list[bytes] = []  # its whole content after each write

    def content(self) -> bytes:
        return self.written[-1] if self.written else self.safe

    def fsync(self) -> None:
        self.safe, self.written = self.content(), []

    def states(self) -> set[Tree]:
        found: set[Tree] = {self.safe}
        for before, after in itertools.pairwise([self.safe, *self.written]):
            found.add(after)
            if not before.startswith(after):  # it was not cut
                kept = len(before) if after.startswith(before) else 0
                half = after[: (kept + len(after)) // 2]
                found |= {after[:kept], half, half.ljust(len(after), b"\0")}
        return found


class Change(NamedTuple):
    """What happened to the names in a folder."""

    removed: str | None
    added: str | None
    node: "File | Folder | None"  # that is called `added`


class Folder:
    """A folder: the names that are safe, and what has happened to names since."""

    def __init__(self) -> None:
        self.safe: dict[str, File | Folder] = {}
        self.changes: list[Change] = []

    def entries(self) -> "dict[str, File | Folder]":
        return self._after(self.changes)

    def fsync(self) -> None:
        self.safe, self.changes = self.entries(), []

    def states(self) -> set[Tree]:
        found: set[Tree] = set()
        for happened in itertools.product((False, True), repeat=len(self.changes)):
            entries = self._after(list(itertools.compress(self.changes, happened)))
            trees = [[(name, tree) for tree in node.states()] for name, node in entries.items()]
            found |= {frozenset(tree) for tree in itertools.product(*trees)}
        return found

    def _after(self, changes: list[Change]) -> "dict[str, File | Folder]":
        entries = dict(self.safe)
        for removed, added, node in changes:
            if removed is not None:
                entries.pop(removed, None)
            if added is not None and node is not None:
                entries[added] = node
        return entries


class Cut(NamedTuple):
    """The power goes off here."""

    after: str  # the last operation
    promised: int
    states: set[Tree]


class Disk:
    """Follows what a program does below `root`, and notes the states after every operation."""

    def __init__(self, root: Path) -> None:
        self.cuts: list[Cut] = []
        self._root = root
        self._top = Folder()
        self._promised = 0

    def promise(self, number: int) -> None:
        """From here on, `number` of what the program has done must never be lost."""
        self._promised = number
        self._cut(f"promised {number}")

    def settle(self) -> None:
        """Makes everything safe: the program to be looked at begins here."""
        nodes: list[File | Folder] = [self._top]
        for node in nodes:
            node.fsync()
            if isinstance(node, Folder):
                nodes += node.safe.values()
        self.cuts.clear()

    def follow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Notes all that happens, until `monkeypatch` is undone."""
        for module, name, note in (
            (os, "mkdir", self._made_folder),
            (os, "open", self._opened),
            (Path, "write_bytes", self._wrote_file),
            (os, "write", self._wrote),
            (os, "ftruncate", self._wrote),
            (os, "rename", self._renamed),
            (os, "replace", self._renamed),
            (os, "unlink", self._removed),
            (os, "rmdir", self._removed),
            (os, "fsync", self._fsynced),
        ):
            monkeypatch.setattr(module, name, _noting(getattr(module, name), note))

    def _made_folder(self, path: Path, *_: int) -> None:
        self._change(path.parent, Change(None, path.name, Folder()))

    def _opened(self, path: Any, flags: int, *_: int, **__: int) -> None:
        if flags & os.O_CREAT and Path(path).is_relative_to(self._root):
            self._made_file(Path(path))

    def _wrote_file(self, path: Path, content: bytes) -> None:
        self._made_file(path)
        self._write(path, content)

    def _made_file(self, path: Path) -> None:
        if path.name not in self._folder(path.parent).entries():
            self._change(path.parent, Change(None, path.name, File()))

    def _wrote(self, descriptor: int, *_: object) -> None:
        path = _path_of(descriptor)
        self._write(path, path.read_bytes())

    def _write(self, path: Path, content: bytes) -> None:
        file = self._find(path)
        assert isinstance(file, File)
        file.written.append(content)
        self._cut(f"write {path}")

    def _renamed(self, path: Path, target: Path) -> None:
        assert path.parent == target.parent
        self._change(path.parent, Change(path.name, target.name, self._find(path)))

    def _removed(self, path: Any, *, dir_fd: int | None = None) -> None:
        folder = Path(path).parent if dir_fd is None else _path_of(dir_fd)
        self._change(folder, Change(Path(path).name, None, None))

    def _fsynced(self, descriptor: int) -> None:
        path = _path_of(descriptor)
        self._find(path).fsync()
        self._cut(f"fsync {path}")

    def _change(self, folder: Path, change: Change) -> None:
        self._folder(folder).changes.append(change)
        self._cut(f"{change.removed} -> {change.added} in {folder}")

    def _folder(self, path: Path) -> Folder:
        node = self._find(path)
        assert isinstance(node, Folder)
        return node

    def _find(self, path: Path) -> File | Folder:
        node: File | Folder = self._top
        for name in path.relative_to(self._root).parts:
            assert isinstance(node, Folder)
            node = node.entries()[name]
        return node

    def _cut(self, after: str) -> None:
        self.cuts.append(Cut(after, self._promised, self._top.states()))


def _noting(original: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        note(*args, **kwargs)
        return result

    return replacement


def lay_out(tree: Tree, path: Path) -> None:
    """Makes real files and folders of a state; `path` is not there yet."""
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        return
    path.mkdir()
    for name, content in tree:
        lay_out(content, path / name)


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
