"""Checkpoints: every variable of a run at a step, in a folder that proves itself intact.

    <folder>/step-00001000/state.safetensors    every variable, by name
    <folder>/step-00001000/manifest.json        step, metrics, versions, sha256 of the state

State is an explicit list, because object graphs as followed by Keras' and TensorFlow's own savers
lose variables without a word. Names hold the names of model, layers and optimizer; give these
explicitly, or a second model of the same process has other names.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from pwc_exp import durable
from pwc_exp.errors import DataError, MissingInputError

if TYPE_CHECKING:
    import keras

FORMAT = 1
STATE_FILE = "state.safetensors"
MANIFEST_FILE = "manifest.json"
MODEL_PREFIX = "model/"
OPTIMIZER_PREFIX = "optimizer/"
_STEP_FOLDER = re.compile(r"step-(\d{8,})")
_SHOWN = 5  # names in an error message
_DTYPES = {
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}  # safetensors' names


class Variable(Protocol):
    """What can be saved and assigned: a Keras variable."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in each dimension."""

    def assign(self, value: np.ndarray) -> object:
        """Sets all of it."""

    def __array__(self) -> np.ndarray: ...


class Manifest(NamedTuple):
    """What a checkpoint says about itself."""

    step: int
    metrics: Mapping[str, float]
    fingerprint: Mapping[str, str]


class Checkpoint(NamedTuple):
    """A checkpoint in memory."""

    step: int
    arrays: Mapping[str, np.ndarray]
    manifest: Manifest


def named_state(
    model: "keras.Model", optimizer: "keras.Optimizer | None" = None
) -> dict[str, Variable]:
    """Lists every variable of `model` and of `optimizer`, which must be built, by a unique name."""
    named = [(MODEL_PREFIX + variable.path, variable) for variable in model.variables]
    if optimizer is not None:
        named += [(OPTIMIZER_PREFIX + variable.path, variable) for variable in optimizer.variables]
    state = dict(named)
    if len(state) != len(named):
        names = [name for name, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Every variable needs a name of its own. Received: {_first(twice)}")
    return state


def save(
    folder: Path,
    *,
    step: int,
    state: Mapping[str, Variable | np.ndarray],
    metrics: Mapping[str, float],
    fingerprint: Mapping[str, str],
) -> Path:
    """Writes `state` as it is after `step` and returns its folder, once it is safe on the disk."""
    # order="C" and not ascontiguousarray, which turns scalars into vectors.
    arrays = {name: np.asarray(variable, order="C") for name, variable in state.items()}
    data = safetensors.numpy.save(arrays)
    manifest = {
        "format": FORMAT,
        "step": step,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "metrics": {key: _to_json(float(value)) for key, value in metrics.items()},
        "fingerprint": dict(fingerprint),
    }
    manifest["checksum"] = _checksum(manifest)
    path = folder / f"step-{step:08d}"
    with durable.folder(path) as new:
        (new / STATE_FILE).write_bytes(data)
        (new / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints in `folder`, by step."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=_step)


def latest(folder: Path) -> Path | None:
    """Finds the checkpoint of the highest step; None if there is none."""
    return next(reversed(list_checkpoints(folder)), None)


def best(folder: Path, *, key: str) -> Path | None:
    """Finds the checkpoint whose metric `key` is lowest; None if none has a number there."""
    return next(iter(_ranked(folder, key)), None)


def retain(folder: Path, *, keep_best: int, key: str) -> None:
    """Removes all checkpoints but the last one and the `keep_best` with the lowest metric `key`."""
    durable.remove_leftovers(folder)
    kept = {latest(folder), *_ranked(folder, key)[:keep_best]}
    for path in list_checkpoints(folder):
        if path not in kept:
            durable.remove_folder(path)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint's folder, or a bare .safetensors file, which is weights at step 0.

    Raises:
        DataError: the content is not what was saved.
    """
    if path.is_file():
        return Checkpoint(0, _decode(path, path.read_bytes()), Manifest(0, {}, {}))
    raw = _read_manifest(path)
    state_file = path / STATE_FILE
    if not state_file.is_file():
        raise MissingInputError(f"{state_file} is missing")
    data = state_file.read_bytes()
    if len(data) != raw["bytes"]:
        raise DataError(f"{state_file} must have {raw['bytes']} bytes. Received: {len(data)}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != raw["sha256"]:
        raise DataError(f"{state_file} is damaged: its sha256 is not {raw['sha256'][:16]}…")
    metrics = {name: float(value) for name, value in raw["metrics"].items()}
    manifest = Manifest(raw["step"], metrics, raw["fingerprint"])
    return Checkpoint(manifest.step, _decode(state_file, data), manifest)


def assign(state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray], *, source: str) -> None:
    """Sets every variable of `state` from `arrays`: all of them, or none.

    Args:
        source: where the arrays come from, for the message.

    Raises:
        DataError: names or shapes differ, or a value is NaN or infinite.
    """
    common = [name for name in state if name in arrays]
    problems = {
        "missing": [name for name in state if name not in arrays],
        "unexpected": [name for name in arrays if name not in state],
        "of another shape": [
            f"{name} {arrays[name].shape}, not {tuple(state[name].shape)}"
            for name in common
            if arrays[name].shape != tuple(state[name].shape)
        ],
    }
    found = [f"{len(names)} {what} ({_first(names)})" for what, names in problems.items() if names]
    if found:
        raise DataError(f"{source} holds weights of another architecture: {'; '.join(found)}")
    bad = [name for name in common if not np.isfinite(arrays[name]).all()]
    if bad:
        raise DataError(f"{source} holds NaN or infinity in {len(bad)} variables ({_first(bad)})")
    for name, variable in state.items():
        variable.assign(arrays[name])


def assign_weights(
    state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray], *, source: str
) -> None:
    """Sets the model's variables only, as `assign` does; `arrays` may hold the optimizer's too."""
    assign(
        {name: state[name] for name in state if name.startswith(MODEL_PREFIX)},
        {name: arrays[name] for name in arrays if name.startswith(MODEL_PREFIX)},
        source=source,
    )


def _decode(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.deserialize(data)
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from error
    # By hand, as safetensors.numpy.load does not read the bfloat16 that its save writes.
    unknown = {tensor["dtype"] for _, tensor in tensors} - set(_DTYPES)
    if unknown:
        raise DataError(f"{path} must hold types of {sorted(_DTYPES)}. Received: {sorted(unknown)}")
    return {
        name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        for name, tensor in tensors
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise MissingInputError(f"{path} is not a checkpoint: {MANIFEST_FILE} is missing")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        checksum = manifest.pop("checksum")
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a checkpoint's manifest") from error
    if checksum != _checksum(manifest):
        raise DataError(f"{file} is damaged: its content does not have its checksum")
    if version != FORMAT:
        raise DataError(f"{file} must be of format {FORMAT}. Received: {version}")
    return manifest


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _ranked(folder: Path, key: str) -> list[Path]:
    """The checkpoints that have a finite metric `key`, lowest first, later first if equal."""
    metrics = {path: _metric(path, key) for path in list_checkpoints(folder)}
    finite = [path for path, metric in metrics.items() if math.isfinite(metric)]
    return sorted(finite, key=lambda path: (metrics[path], -_step(path)))


def _metric(path: Path, key: str) -> float:
    try:
        return float(_read_manifest(path)["metrics"].get(key, math.nan))
    except (DataError, MissingInputError):
        return math.nan  # a damaged checkpoint is never the best


def _to_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
