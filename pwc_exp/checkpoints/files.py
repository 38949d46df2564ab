"""One checkpoint: written durably, read only if it is what was written."""

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from pwc_exp import durable
from pwc_exp.checkpoints.manifest import MANIFEST_FILE, Manifest, Scalar, Sealed, decode, encode
from pwc_exp.checkpoints.state import Variable, first, non_finite
from pwc_exp.errors import DataError, MissingInputError, NonFiniteError

STATE_FILE = "state.safetensors"
_DTYPES = {
    "BOOL": np.dtype(bool),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}  # safetensors' names
_NOTHING: Mapping[str, Scalar] = MappingProxyType({})


class Checkpoint(NamedTuple):
    """A checkpoint in memory."""

    step: int
    arrays: Mapping[str, np.ndarray]
    manifest: Manifest
    path: Path  # where it was read


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

    The same state of the same step once more gets the new manifest.

    Args:
        progress: what a run that goes on must know besides its variables; all of it comes back
            with the same type and bits.

    Raises:
        NonFiniteError: a weight is NaN or infinite; nothing is written.
        OutputError: it cannot be written, or another state of this step is there.
    """
    # order="C" and not ascontiguousarray, which turns scalars into vectors.
    arrays = {name: np.asarray(variable, order="C") for name, variable in state.items()}
    if bad := non_finite(arrays):
        raise NonFiniteError(
            f"step {step}: weights must be finite. Received: NaN or infinity in {len(bad)} "
            f"variables ({first(bad)}); no checkpoint was written"
        )
    data = safetensors.numpy.save(arrays)
    manifest = encode(Manifest(step, metrics, fingerprint, progress), data)
    path = folder / f"step-{step:08d}"
    if (path / STATE_FILE).is_file() and (path / STATE_FILE).read_bytes() == data:
        durable.write_file(path / MANIFEST_FILE, manifest)
        return path
    with durable.folder(path, needed=len(data) + len(manifest)) as new:
        (new / STATE_FILE).write_bytes(data)
        (new / MANIFEST_FILE).write_bytes(manifest)
    return path


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint's folder, or a bare .safetensors file, which is weights at step 0.

    Raises:
        MissingInputError: one of its files is not there.
        DataError: the content is not what was saved, or the disk cannot read it.
        ResumeError: it is of another format.
    """
    if path.is_file():
        return Checkpoint(0, _decode(path, _read(path)), Manifest(0, {}, {}, {}), path)
    manifest, size, sha256 = _sealed(path)
    state_file = path / STATE_FILE
    if not state_file.is_file():
        raise MissingInputError(f"{state_file} is missing")
    data = _read(state_file)
    if len(data) != size:
        raise DataError(f"{state_file} must have {size} bytes. Received: {len(data)}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{state_file} is damaged: its sha256 is not {sha256[:16]}…")
    return Checkpoint(manifest.step, _decode(state_file, data), manifest, path)


def read_manifest(path: Path) -> Manifest:
    """Reads the manifest of the checkpoint in folder `path`; its state may be damaged.

    Raises:
        MissingInputError, DataError, ResumeError: as `load`.
    """
    return _sealed(path).manifest


def _sealed(path: Path) -> Sealed:
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise MissingInputError(f"{path} is not a checkpoint: {MANIFEST_FILE} is missing")
    return decode(file, _read(file))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise DataError(f"{file} cannot be read: {os.strerror(errno.EIO).lower()}") from error


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
        for name, tensor in sorted(tensors, key=lambda named: named[0])  # they come in any order
    }
