"""The tensors of a model by name, wherever a file keeps them."""

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models.torch_files.containers import MAX_BYTES, Content, read
from pwc_exp.models.torch_files.tensors import Tensor, to_array

KEYS = ("state_dict", "model_state_dict", "model")  # of what training programs save
WRAPPER = "module."  # what DataParallel puts before each name
MAX_DEPTH = 3  # of a state_dict in dictionaries


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a model by name, as arrays that cannot be written.

    Raises:
        MissingInputError: no such file.
        DataError: damaged, no weights, or a program; nothing of it has been run.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return _arrays(read(path.read_bytes()))
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is refused, and nothing in it was run: {reason}") from None


def _arrays(content: Content) -> dict[str, np.ndarray]:
    tensors = _find(content.value, MAX_DEPTH)
    if tensors is None:
        raise ValueError(f"it holds no tensors by name, at the top or under {', '.join(KEYS)}")
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix(WRAPPER)
        if plain in named:
            raise ValueError(f"it holds {plain[:60]!r} twice")
        named[plain] = tensor
    _check_apart(named)
    return {name: to_array(tensor, content.rows) for name, tensor in named.items()}


def _find(value: Any, depth: int) -> dict[str, Tensor] | None:
    if not isinstance(value, dict) or depth == 0:
        return None
    tensors = {name: item for name, item in value.items() if isinstance(item, Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        return tensors
    inner = (_find(value[key], depth - 1) for key in KEYS if key in value)
    return next((found for found in inner if found is not None), None)


def _check_apart(tensors: dict[str, Tensor]) -> None:
    """Refuses tensors that share numbers: the weights of a network do not."""
    extents = defaultdict(list)
    for tensor in tensors.values():
        extents[tensor.storage.key].append(tensor.extent)
    for key, found in extents.items():
        end = 0
        for first, after in sorted(found):
            if first < end:
                raise ValueError(f"tensors share numbers of storage {key[:20]!r}")
            end = after
