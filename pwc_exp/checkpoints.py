"""Checkpoints: every variable of a run at a step, in a folder that can be verified.

    <folder>/step-00001000/state.safetensors    every variable, by name
    <folder>/step-00001000/manifest.json        step, progress, metrics, versions, sha256 of both

One is written durably and read only if intact; a run keeps the best. State is an explicit list,
because the object graphs of Keras' and TensorFlow's savers silently lose variables. Variable names
contain the names of model, layers and optimizer; set these explicitly, or a second model in the
same process gets other names.
"""

import errno
import hashlib
import itertools
import json
import logging
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from pwc_exp import __version__, storage
from pwc_exp.errors import DataError, MissingInputError, NonFiniteError, ResumeError

if TYPE_CHECKING:
    import keras

FORMAT = 2
STATE_FILE = "state.safetensors"
MANIFEST_FILE = "manifest.json"
MODEL_PREFIX = "model/"
EMA_PREFIX = "ema/"  # moving averages of the model's variables, by the same paths
OPTIMIZER_PREFIX = "optimizer/"
_DTYPES = {
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}  # safetensors' names
_STEP_FOLDER = re.compile(r"step-(\d{8,})")
_CORRUPT = ".corrupt-"
_NEWEST = 2  # always kept: the last one, and one to resume from should that be damaged
_SHOWN = 5  # names in an error message
_LOG = logging.getLogger(__name__)

Scalar = float | int | str
_NOTHING: Mapping[str, Scalar] = MappingProxyType({})


class Variable(Protocol):
    """A Keras or TensorFlow variable: it can be saved and assigned."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size in each dimension."""

    def assign(self, value: np.ndarray) -> object:
        """Sets all values."""

    def __array__(self) -> np.ndarray: ...


class Manifest(NamedTuple):
    """What manifest.json says about a state. progress: what a resume needs besides variables."""

    step: int
    metrics: Mapping[str, float]
    fingerprint: Mapping[str, str]
    progress: Mapping[str, Scalar]


class Checkpoint(NamedTuple):
    """A checkpoint in memory. path: where it was read."""

    step: int
    arrays: Mapping[str, np.ndarray]
    manifest: Manifest
    path: Path


def save(
    folder: Path,
    *,
    step: int,
    state: Mapping[str, Variable | np.ndarray],
    metrics: Mapping[str, float],
    fingerprint: Mapping[str, str],
    progress: Mapping[str, Scalar] = _NOTHING,
) -> Path:
    """Writes `state` as it is after `step` and returns its folder, once it is safe on the disk.

    Saving the same state of the same step again only replaces the manifest.

    Args:
        progress: what a resume needs besides variables; read back with the same types and bits.

    Raises:
        NonFiniteError: a weight is NaN or infinite; nothing is written.
        OutputError: it cannot be written, or another state of this step exists.
    """
    # order="C" and not ascontiguousarray, which turns scalars into vectors.
    arrays = {name: np.asarray(variable, order="C") for name, variable in state.items()}
    if bad := _non_finite(arrays):
        raise NonFiniteError(
            f"step {step}: weights must be finite. Received: NaN or infinity in {len(bad)} "
            f"variables ({_first(bad)}); no checkpoint was written"
        )
    data = safetensors.numpy.save(arrays)
    manifest = _encode(Manifest(step, metrics, fingerprint, progress), data)
    path = folder / f"step-{step:08d}"
    if (path / STATE_FILE).is_file() and (path / STATE_FILE).read_bytes() == data:
        storage.write_file(path / MANIFEST_FILE, manifest)
        return path
    with storage.folder(path, needed=len(data) + len(manifest)) as new:
        (new / STATE_FILE).write_bytes(data)
        (new / MANIFEST_FILE).write_bytes(manifest)
    return path


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint's folder, or a bare .safetensors file, which is weights at step 0.

    Raises:
        MissingInputError: one of its files is missing.
        DataError: the content is not what was saved, or the disk cannot read it.
        ResumeError: it has another format version.
    """
    if path.is_file():
        return Checkpoint(0, _read_tensors(path, _read(path)), Manifest(0, {}, {}, {}), path)
    manifest, content = _read_manifest(path)
    state_file = path / STATE_FILE
    if not state_file.is_file():
        raise MissingInputError(f"{state_file} is missing")
    data = _read(state_file)
    if len(data) != content["bytes"]:
        raise DataError(f"{state_file} must have {content['bytes']} bytes. Received: {len(data)}")
    if hashlib.sha256(data).hexdigest() != content["sha256"]:
        raise DataError(f"{state_file} is damaged: its sha256 is not {content['sha256'][:16]}…")
    return Checkpoint(manifest.step, _read_tensors(state_file, data), manifest, path)


def read_manifest(path: Path) -> Manifest:
    """Reads the manifest of the checkpoint in folder `path`; its state may be damaged."""
    return _read_manifest(path)[0]


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints in `folder`, by step."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=_step)


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step; None if there is none."""
    return next(reversed(list_checkpoints(folder)), None)


def newest_intact(folder: Path) -> Checkpoint | None:
    """Reads the intact checkpoint of the highest step; None if `folder` has none at all.

    Newer, damaged ones are renamed to `.corrupt-<name>`, with a warning each; call it in one
    process at a time.

    Raises:
        DataError: there are some, and all are damaged; they keep their names.
        ResumeError: the newest one has another format version.
    """
    damaged = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = load(path)
        except (DataError, MissingInputError) as error:
            damaged[path] = error
            continue
        for corrupt, reason in damaged.items():
            _LOG.warning("%s is set aside as %s: %s", corrupt, _set_aside(corrupt).name, reason)
        return checkpoint
    if damaged:
        reasons = _first(map(str, damaged.values()))
        raise DataError(f"{folder} holds damaged checkpoints only: {reasons}")
    return None


def best(folder: Path, *, key: str) -> Path | None:
    """The checkpoint with the lowest metric `key`; None if none has a finite one."""
    return next(iter(_ranked(folder, key)), None)


def best_and_last(folder: Path, *, key: str) -> dict[str, Path]:
    """The checkpoints that users ask for, by name: "best" and "last", where they exist."""
    chosen = {"best": best(folder, key=key), "last": latest(folder)}
    return {name: path for name, path in chosen.items() if path is not None}


def retain(folder: Path, *, keep_best: int, key: str) -> None:
    """Removes all checkpoints but the last two and the `keep_best` with the lowest metric `key`."""
    storage.remove_leftovers(folder)
    found = list_checkpoints(folder)
    kept = {*found[-_NEWEST:], *_ranked(folder, key)[:keep_best]}
    for path in found:
        if path not in kept:
            storage.remove_folder(path)


def named_state(
    model: "keras.Model", optimizer: "keras.Optimizer | None" = None
) -> dict[str, Variable]:
    """Lists every variable of `model` and of a built `optimizer`, by a unique name."""
    named = [(MODEL_PREFIX + variable.path, variable) for variable in model.variables]
    if optimizer is not None:
        named += [(OPTIMIZER_PREFIX + variable.path, variable) for variable in optimizer.variables]
    state = dict(named)
    if len(state) != len(named):
        names = [name for name, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Every variable needs a name of its own. Received: {_first(twice)}")
    return state


def restore(state: Mapping[str, Variable], checkpoint: Checkpoint) -> None:
    """Sets every variable of `state` to the bits in `checkpoint`: all of them, or none.

    Raises:
        ResumeError: names, shapes or types differ, or a weight is NaN or infinite.
    """
    arrays = checkpoint.arrays
    live = {name: np.asarray(state[name]).dtype for name in state if name in arrays}
    types = [
        f"{name} {arrays[name].dtype}, not {dtype}"
        for name, dtype in live.items()
        if arrays[name].dtype != dtype
    ]
    if unlike := [*_differences(state, arrays), *_listed("of another type", types)]:
        raise ResumeError(
            f"{checkpoint.path} is not of this model and optimizer: {'; '.join(unlike)}"
        )
    if bad := _non_finite(arrays):
        raise ResumeError(f"{checkpoint.path} {_holds_non_finite(bad)}")
    for name, variable in state.items():
        variable.assign(arrays[name])


def assign_weights(
    state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray], *, source: str
) -> None:
    """Sets the model's variables in `state` to the `weights_of` `arrays`: all of them, or none.

    Args:
        source: where the arrays come from, for error messages.

    Raises:
        DataError: names or shapes differ, or a value is NaN or infinite.
    """
    variables = {name: state[name] for name in state if name.startswith(MODEL_PREFIX)}
    weights = weights_of(arrays)
    if unlike := _differences(variables, weights):
        raise DataError(f"{source} holds weights of another architecture: {'; '.join(unlike)}")
    if bad := _non_finite(weights):
        raise DataError(f"{source} {_holds_non_finite(bad)}")
    for name, variable in variables.items():
        variable.assign(weights[name])


def weights_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's arrays in a checkpoint; moving averages where the checkpoint has them."""
    weights = {name: arrays[name] for name in arrays if name.startswith(MODEL_PREFIX)}
    averages = {
        MODEL_PREFIX + name.removeprefix(EMA_PREFIX): arrays[name]
        for name in arrays
        if name.startswith(EMA_PREFIX)
    }
    return weights | averages


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _ranked(folder: Path, key: str) -> list[Path]:
    """The checkpoints that have a finite metric `key`, lowest first, later first if equal."""
    metrics = {}
    for path in list_checkpoints(folder):
        try:
            metrics[path] = read_manifest(path).metrics.get(key, math.nan)
        except (DataError, MissingInputError, ResumeError):
            continue  # a damaged checkpoint is never the best
    finite = [path for path, metric in metrics.items() if math.isfinite(metric)]
    return sorted(finite, key=lambda path: (metrics[path], -_step(path)))


def _set_aside(path: Path) -> Path:
    plain = path.with_name(_CORRUPT + path.name)
    numbered = (plain.with_name(f"{plain.name}-{number}") for number in itertools.count(2))
    target = next(place for place in itertools.chain([plain], numbered) if not place.exists())
    storage.rename(path, target)
    return target


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise DataError(f"{file} cannot be read: {os.strerror(errno.EIO).lower()}") from error


def _read_tensors(path: Path, data: bytes) -> dict[str, np.ndarray]:
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
        for name, tensor in sorted(tensors, key=lambda named: named[0])  # they come in any order
    }


def _encode(manifest: Manifest, data: bytes) -> bytes:
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


def _read_manifest(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of the checkpoint in folder `path`, and the JSON that it was read from."""
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise MissingInputError(f"{path} is not a checkpoint: {MANIFEST_FILE} is missing")
    try:
        text = _read(file).decode()
        content: dict[str, Any] = json.loads(text)
        # The same content formatted differently, as with another space, is not what was written.
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
        return manifest, {key: content[key] for key in ("bytes", "sha256")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a checkpoint's manifest") from error


def _render(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _to_json(key: str, value: Scalar) -> Any:
    """A number or string; NaN and infinities, which JSON lacks, as their 64 bits."""
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


def _non_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the weights and averages that hold NaN or infinity."""
    weights = [name for name in arrays if name.startswith((MODEL_PREFIX, EMA_PREFIX))]
    return [name for name in weights if not np.isfinite(arrays[name]).all()]


def _first(names: Iterable[str]) -> str:
    """The first few of `names`, for an error message."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _differences(state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """How names and shapes in `arrays` differ from those of `state`."""
    shapes = [
        f"{name} {arrays[name].shape}, not {tuple(variable.shape)}"
        for name, variable in state.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    return [
        *_listed("missing", [name for name in state if name not in arrays]),
        *_listed("unexpected", [name for name in arrays if name not in state]),
        *_listed("of another shape", shapes),
    ]


def _listed(what: str, names: list[str]) -> list[str]:
    return [f"{len(names)} {what} ({_first(names)})"] if names else []


def _holds_non_finite(names: list[str]) -> str:
    return f"holds NaN or infinity in {len(names)} variables ({_first(names)})"
