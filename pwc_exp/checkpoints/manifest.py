"""manifest.json: what a checkpoint says about itself, in JSON of which every byte is checked."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pwc_exp import __version__
from pwc_exp.errors import DataError, ResumeError

FORMAT = 2
MANIFEST_FILE = "manifest.json"

Scalar = float | int | str


class Manifest(NamedTuple):
    """What belongs to a state."""

    step: int
    metrics: Mapping[str, float]
    fingerprint: Mapping[str, str]
    progress: Mapping[str, Scalar]  # what a run that goes on must know besides its variables


class Sealed(NamedTuple):
    """A manifest, and the file that it vouches for."""

    manifest: Manifest
    size: int  # bytes
    sha256: str


def encode(manifest: Manifest, data: bytes) -> bytes:
    """The content of manifest.json beside a state file that holds `data`."""
    content = {
        "format": FORMAT,
        "pwc_exp": __version__,
        "step": manifest.step,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "metrics": {key: _to_json(key, float(value)) for key, value in manifest.metrics.items()},
        "progress": {key: _to_json(key, value) for key, value in manifest.progress.items()},
        "fingerprint": dict(manifest.fingerprint),
    }
    return _render({**content, "checksum": _checksum(content)}).encode()


def decode(file: Path, data: bytes) -> Sealed:
    """Reads what `encode` wrote; `file` is for the message.

    Raises:
        DataError: one byte or more of it is another.
        ResumeError: it is intact, and of another format.
    """
    try:
        text = data.decode()
        content: dict[str, Any] = json.loads(text)
        # The same content in other words, as with one space more, is not what was written.
        intact = text == _render(content) and content.pop("checksum") == _checksum(content)
        version = content["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} is not a checkpoint's manifest") from error
    if not intact:
        raise DataError(f"{file} is damaged: its content does not have its checksum")
    if version != FORMAT:
        writer = content.get("pwc_exp", "of another version")
        raise ResumeError(
            f"{file} must be of format {FORMAT}. Received: {version}, written by pwc_exp {writer}"
        )
    try:
        manifest = Manifest(
            step=content["step"],
            metrics={key: float(_from_json(value)) for key, value in content["metrics"].items()},
            fingerprint=content["fingerprint"],
            progress={key: _from_json(value) for key, value in content["progress"].items()},
        )
        return Sealed(manifest, content["bytes"], content["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a checkpoint's manifest") from error


def _render(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _to_json(key: str, value: Scalar) -> Any:
    """A number or string; what JSON has no number for, NaN and infinities, as its 64 bits."""
    if not isinstance(value, float | int | str):
        raise TypeError(f"{key} must be a number or a string. Received: {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        return {"float64": struct.pack(">d", value).hex()}
    return value


def _from_json(value: Any) -> Scalar:
    if isinstance(value, dict):
        return float(struct.unpack(">d", bytes.fromhex(value["float64"]))[0])
    if not isinstance(value, float | int | str):
        raise TypeError
    return value
