"""The small JSON beside each result: what it is, how it was made, and whether it is intact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pwc_exp import __version__
from pwc_exp.storage import sha256_of, write_file

COMPONENTS = ["x, right", "y, down"]


def write_record(path: Path, content: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Writes a record, last of all: where it is, `files` (kind -> path) are whole."""
    described = {kind: _describe(file) for kind, file in files.items()}
    record = {"pwc_exp": __version__, **content, "files": described}
    write_file(path, (json.dumps(record, indent=2) + "\n").encode())


def read_record(path: Path) -> dict[str, Any]:
    """Reads a record; {} for what is none."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def same(record: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    """Whether a record's results were made of the same frames, in the same way.

    Weights are known by their content, wherever they lie by now. Frames without an
    identity, as those of a stream, are never known to be the same.
    """
    identities = [frame.get("identity") for frame in content["frames"]]
    if None in identities or record.get("pwc_exp") != __version__:
        return False
    weights = record.get("weights")
    if not isinstance(weights, dict) or weights.get("sha256") != content["weights"]["sha256"]:
        return False
    return all(record.get(key) == content[key] for key in ("frames", "settings"))


def intact(record: Mapping[str, Any], folder: Path, kinds: set[str]) -> bool:
    """Whether all results of these kinds are there, with the bytes that were written."""
    files = record.get("files", {})
    if not kinds <= files.keys():
        return False
    return all(_described_as(folder / str(files[kind].get("name")), files[kind]) for kind in kinds)


def _described_as(path: Path, description: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == description["bytes"] and _describe(path) == description
    except (OSError, KeyError):
        return False


def _describe(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
