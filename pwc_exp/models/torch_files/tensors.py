"""Storages and tensors as a pickle describes them, and the arrays that they are."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

DTYPES = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype(bool),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}  # by the names of PyTorch's classes
MAX_DIMENSIONS = 8


class Storage(NamedTuple):
    """A row of numbers in the file, or the part of one that a view is."""

    key: str
    dtype: np.dtype
    size: int  # of the row, in numbers
    start: int  # of the part
    length: int  # of the part


class Tensor(NamedTuple):
    """Numbers of a storage, in a shape."""

    storage: Storage
    offset: int  # in numbers, from the start of the storage's part
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers

    @property
    def extent(self) -> tuple[int, int]:
        """The first number of the row that it reads, and the one after the last."""
        first = self.storage.start + self.offset
        if 0 in self.shape:
            return first, first
        steps = zip(self.shape, self.strides, strict=True)
        return first, first + 1 + sum((size - 1) * stride for size, stride in steps)


def make_storage(tag: str, key: object, count: object, view: object) -> Storage:
    """What a pickle says of a storage.

    Raises:
        ValueError: it makes no sense.
    """
    if not isinstance(key, str) or not _is_count(count):
        raise ValueError("a storage must have a key and a size")
    if view is None:
        return Storage(key, DTYPES[tag], count, 0, count)
    # (key of the view, start, length)
    if not isinstance(view, tuple) or len(view) != 3 or not _are_counts(view[1:]):
        raise ValueError("a view of a storage must have a start and a size")
    start, length = view[1:]
    if start + length > count:
        raise ValueError("a view reaches beyond its storage")
    return Storage(key, DTYPES[tag], count, start, length)


def make_tensor(storage: object, offset: object, shape: object, strides: object) -> Tensor:
    """What a pickle says of a tensor.

    Raises:
        ValueError: it reads beyond its storage, or a number twice, or makes no sense.
    """
    if not isinstance(storage, Storage) or not _is_count(offset):
        raise ValueError("a tensor must lie in a storage")
    if not _are_counts(shape) or not _are_counts(strides) or len(shape) != len(strides):
        raise ValueError("a tensor must have a shape and strides, none of them negative")
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if tensor.extent[1] > storage.start + storage.length:
        raise ValueError("a tensor reaches beyond its storage")
    _check_strides(tensor)
    return tensor


def to_array(tensor: Tensor, rows: Mapping[str, bytes | memoryview]) -> np.ndarray:
    """The tensor as an array, read-only, in the memory of `rows`, {key: row of numbers}.

    Raises:
        ValueError: its row is not there, or not as long as the pickle says.
    """
    storage = tensor.storage
    row = rows.get(storage.key)
    if row is None or len(row) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key[:20]!r} is missing or of another size")
    numbers = np.frombuffer(row, storage.dtype)[tensor.extent[0] :]
    strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _check_strides(tensor: Tensor) -> None:
    """Refuses a tensor that reads a number twice: it could be of any size."""
    reach = 0  # from the first to the last number, over the dimensions that were looked at
    for stride, size in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                raise ValueError("a tensor reads a number twice")
            reach += (size - 1) * stride
    if math.prod(tensor.shape) > tensor.storage.length:
        raise ValueError("a tensor is larger than its storage")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _are_counts(values: object) -> TypeGuard[Sequence[int]]:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str | bytes)
        and len(values) <= MAX_DIMENSIONS
        and all(map(_is_count, values))
    )
