"""Patterns of file names: which files match, and what their wildcards matched."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pwc_exp.data.datasets.layout import Tree
from pwc_exp.errors import ConfigError, DataError, MissingInputError

Texts = tuple[str, ...]


def match_files(tree: Tree, name: str, pattern: str) -> dict[Texts, Path]:
    """What the wildcards matched -> file, for every file below the root that matches.

    Args:
        name: of the pattern, for messages.
        pattern: relative to the root; `*` is any text and `?` any character within a name, `**` any
            number of folders (symbolic links among these are not followed).
    """
    parts = _parts(name, pattern)
    found: dict[Texts, Path] = {}
    for texts, path in _walk(tree, tree.root, parts):
        if texts in found:
            raise DataError(
                f"{name}={pattern} matches two files in the same way: {found[texts]} and {path}."
            )
        found[texts] = path
    if not found:
        raise MissingInputError(
            f"No file matches {name}={pattern} in {tree.root}. Received: {tree.received()}."
        )
    return found


def _parts(name: str, pattern: str) -> list[str]:
    if pattern.startswith("/") or "\\" in pattern or ".." in pattern.split("/"):
        raise ConfigError(f"{name} must stay in the root, with / between folders: {pattern}.")
    parts = list(PurePosixPath(pattern).parts)
    if not parts or any("**" in part and part != "**" for part in parts) or parts[-1] == "**":
        raise ConfigError(f"{name} must name files; ** stands for whole folders: {pattern}.")
    if not any(set(part) & set("*?") for part in parts):
        raise ConfigError(f"{name} must have a wildcard, * or ?: {pattern}.")
    return parts


def _walk(tree: Tree, folder: Path, parts: list[str]) -> Iterator[tuple[Texts, Path]]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        for below, deeper in _descend(tree, folder, ""):
            yield from _prefixed((below,), _walk(tree, deeper, rest))
        return
    regex = re.compile("".join(_as_regex(character) for character in head), re.DOTALL)
    folders = set(tree.folders(folder))
    for name in tree.names(folder):
        if match := regex.fullmatch(name):
            if rest and name in folders:
                yield from _prefixed(match.groups(), _walk(tree, folder / name, rest))
            elif not rest and name not in folders:
                yield match.groups(), folder / name


def _descend(tree: Tree, folder: Path, below: str) -> Iterator[tuple[str, Path]]:
    """The folder and all folders below it, with the way there."""
    yield below, folder
    for name in tree.folders(folder, links=False):
        yield from _descend(tree, folder / name, f"{below}/{name}" if below else name)


def _prefixed(texts: Texts, found: Iterator[tuple[Texts, Path]]) -> Iterator[tuple[Texts, Path]]:
    return ((texts + more, path) for more, path in found)


def _as_regex(character: str) -> str:
    return {"*": "(.*)", "?": "(.)"}.get(character) or re.escape(character)
