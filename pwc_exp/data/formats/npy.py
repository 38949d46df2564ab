"""NumPy's .npy, version 1.0: flow as TartanAir stores it, and masks. Pickles are never loaded."""

import io
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwc_exp.data.formats.image_headers import Size
from pwc_exp.errors import DataError

NPY_MAGIC = b"\x93NUMPY"

_VERSION = b"\1\0"
_DTYPES = {b"<f4": "<f4", b">f4": ">f4", b"|u1": "u1", b"|b1": "?"}
# NumPy's own parser evaluates the header as Python, and raises whatever that raises.
_HEADER = re.compile(
    rb"\{'descr': '([<>|]\w+)', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,9}(?:, \d{1,9})*),?\), ?\} *\n"
)


class _Layout(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool  # the first index changes fastest
    offset: int  # where the numbers begin


def npy_flow_size(path: Path, head: bytes, length: int) -> Size:
    """Size of a flow of which `head` is the beginning and `length` the number of bytes."""
    return Size(*_flow_layout(path, head, length).shape[:2])


def npy_mask_size(path: Path, head: bytes, length: int) -> Size:
    """Size of a mask of which `head` is the beginning and `length` the number of bytes."""
    return Size(*_mask_layout(path, head, length).shape)


def read_npy_flow(path: Path, content: bytes) -> np.ndarray:
    """Reads flow, [H, W, 2] float32, in pixels."""
    return _numbers(content, _flow_layout(path, content, len(content))).astype(np.float32)


def read_npy_mask(path: Path, content: bytes) -> np.ndarray:
    """Reads a mask, [H, W] bool: true where the number is not zero."""
    layout = _mask_layout(path, content, len(content))
    return _numbers(content, layout._replace(dtype=np.dtype(np.uint8))) != 0


def encode_npy(flow: np.ndarray) -> bytes:
    """Encodes flow, [H, W, 2] float32, as NumPy does."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, flow, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _flow_layout(path: Path, head: bytes, length: int) -> _Layout:
    layout = _layout(path, head, length)
    if layout.shape[2:] != (2,) or layout.dtype.newbyteorder("=") != np.float32:
        raise _refused(path, "float32 [H, W, 2]", layout)
    return layout


def _mask_layout(path: Path, head: bytes, length: int) -> _Layout:
    layout = _layout(path, head, length)
    if len(layout.shape) != 2 or layout.dtype not in (np.uint8, np.bool_):
        raise _refused(path, "uint8 or bool [H, W]", layout)
    return layout


def _layout(path: Path, head: bytes, length: int) -> _Layout:
    begin = len(NPY_MAGIC) + len(_VERSION) + 2
    offset = begin + int.from_bytes(head[begin - 2 : begin], "little")
    match = _HEADER.fullmatch(head, begin, offset)
    if match is None or not head.startswith(NPY_MAGIC + _VERSION) or match[1] not in _DTYPES:
        raise DataError(
            f"Not a .npy that can be read: {path}. Expected version 1.0 of float32, uint8 or bool. "
            f"Received: {head[6:80]!r}."
        )
    shape = tuple(map(int, match[3].split(b",")))
    layout = _Layout(shape, np.dtype(_DTYPES[match[1]]), match[2] == b"True", offset)
    expected = offset + math.prod(shape) * layout.dtype.itemsize
    if length != expected or 0 in shape:
        raise DataError(
            f"Empty, truncated or overlong .npy file: {path}. "
            f"Expected {expected} bytes for {list(shape)}. Received: {length}."
        )
    return layout


def _numbers(content: bytes, layout: _Layout) -> np.ndarray:
    flat = np.frombuffer(content, layout.dtype, offset=layout.offset)
    return flat.reshape(layout.shape, order="F" if layout.by_columns else "C")


def _refused(path: Path, expected: str, layout: _Layout) -> DataError:
    return DataError(
        f"Not the .npy that was expected: {path}. Expected {expected}. "
        f"Received: {layout.dtype.name} {list(layout.shape)}."
    )
