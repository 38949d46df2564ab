"""Flow on disk: Middlebury .flo, .pfm, KITTI's 16-bit PNG, Spring's .flo5, TartanAir's .npy.

The format is told by the first bytes, never by the name. Flow is in pixels, (x, y) = (right, down).
Readers also return where it is known; what a format marks as unknown becomes valid 0 and flow 0.
"""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.files import HEAD_BYTES, length_of, open_file, read_bytes
from pwc_exp.data.formats.flo5 import HDF5_MAGIC, encode_flo5, inspect_flo5, read_flo5
from pwc_exp.data.formats.image_headers import (
    PNG_MAGIC,
    ImageHeader,
    Size,
    inspect_image,
    read_header,
)
from pwc_exp.data.formats.images import decode_png
from pwc_exp.data.formats.npy import NPY_MAGIC, encode_npy, npy_flow_size, read_npy_flow
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

UNKNOWN_FLOW = 1e9  # Middlebury: a component of at least this size says "unknown"
KITTI_SCALE = 64.0  # steps per pixel
KITTI_ZERO = 32768  # the stored number of no motion

FLO_MAGIC = struct.pack("<f", 202021.25)
_PFM_MAGICS = (b"PF", b"Pf")
_PFM_HEADER = re.compile(rb"P([Ff])\s+(\d{1,9})[ \t]+(\d{1,9})\s+([-+.\deE]{1,32})\r?\n")


def read_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads flow, [H, W, 2] float32 in pixels, and valid, [H, W] float32 0/1."""
    content = read_bytes(path)
    if content.startswith(FLO_MAGIC):
        return _mask_unknown(_read_flo(path, content))
    if content.startswith(_PFM_MAGICS):
        return _mask_unknown(_read_pfm(path, content))
    if content.startswith(PNG_MAGIC):
        return _read_kitti_png(path, content)
    if content.startswith(HDF5_MAGIC):
        return _mask_unknown(read_flo5(path))
    if content.startswith(NPY_MAGIC):
        return _mask_unknown(read_npy_flow(path, content))
    raise _not_flow(path, content)


def inspect_flow(path: Path) -> Size:
    """Size of a flow whose file is complete; nothing is decoded."""
    with open_file(path) as file:
        head, length = file.read(HEAD_BYTES), length_of(file)
    if head.startswith(FLO_MAGIC):
        return _flo_size(path, head, length)
    if head.startswith(_PFM_MAGICS):
        return _pfm_layout(path, head, length).size
    if head.startswith(PNG_MAGIC):
        header = inspect_image(path)
        _check_kitti(path, header)
        return header.size
    if head.startswith(HDF5_MAGIC):
        return inspect_flo5(path)
    if head.startswith(NPY_MAGIC):
        return npy_flow_size(path, head, length)
    raise _not_flow(path, head)


def write_flo(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes Middlebury .flo; pixels that are not valid get the number that says "unknown"."""
    flow = _checked(path, flow, valid)
    if valid is not None:
        flow = np.where(valid[..., None] > 0, flow, np.float32(10 * UNKNOWN_FLOW))
    height, width, _ = flow.shape
    write_file(path, FLO_MAGIC + struct.pack("<ii", width, height) + flow.astype("<f4").tobytes())


def write_pfm(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes .pfm of three channels, the third 0; pixels that are not valid get NaN."""
    flow = _checked(path, flow, valid)
    if valid is not None:
        flow = np.where(valid[..., None] > 0, flow, np.float32(np.nan))
    height, width, _ = flow.shape
    rows = np.zeros((height, width, 3), "<f4")
    rows[..., :2] = flow[::-1]  # the format stores the bottom row first
    write_file(path, f"PF\n{width} {height}\n-1.0\n".encode() + rows.tobytes())


def write_flo5(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes .flo5 as Spring does; pixels that are not valid get NaN."""
    flow = _checked(path, flow, valid)
    if valid is not None:
        flow = np.where(valid[..., None] > 0, flow, np.float32(np.nan))
    write_file(path, encode_flo5(flow))


def write_npy(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes NumPy's .npy, float32 [H, W, 2]; pixels that are not valid get NaN."""
    flow = _checked(path, flow, valid)
    if valid is not None:
        flow = np.where(valid[..., None] > 0, flow, np.float32(np.nan))
    write_file(path, encode_npy(flow))


def write_kitti_png(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes 16-bit PNG as KITTI does, rounded to 1/64 pixel; refuses what does not fit in it."""
    flow = _checked(path, flow, valid)
    known = np.ones(flow.shape[:2], bool) if valid is None else valid > 0
    # The data set itself stores zero motion, not zero, where it knows nothing.
    steps = np.where(known[..., None], np.round(flow * KITTI_SCALE), 0.0) + KITTI_ZERO
    if steps.min() < 0 or steps.max() > 65535:
        raise DataError(
            f"Flow does not fit in a KITTI PNG: {path}. Expected -512 to 511.98 pixels. "
            f"Received: {flow[known].min()} to {flow[known].max()}."
        )
    raw = np.concatenate([steps, known[..., None]], axis=-1).astype(np.uint16)
    write_file(path, tf.io.encode_png(raw).numpy())


def _checked(path: Path, flow: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Returns flow as float32 after refusing wrong shapes and, where valid, non-finite numbers."""
    if flow.ndim != 3 or flow.shape[2] != 2 or not flow.size:
        raise ValueError(f"flow must be [H, W, 2]. Received: {flow.shape}")
    if valid is not None and valid.shape != flow.shape[:2]:
        raise ValueError(f"valid must be {flow.shape[:2]}, as flow is. Received: {valid.shape}")
    wrong = ~np.isfinite(flow).all(axis=-1) & (True if valid is None else valid > 0)
    if wrong.any():
        raise DataError(f"Cannot write {path}: flow is not finite at {wrong.sum()} pixels.")
    return flow.astype(np.float32)


def _mask_unknown(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # NaN fails the comparison too.
    known = (np.abs(flow) < UNKNOWN_FLOW).all(axis=-1)
    return np.where(known[..., None], flow, np.float32(0)), known.astype(np.float32)


class _PfmLayout(NamedTuple):
    size: Size
    dtype: np.dtype
    offset: int  # where the numbers begin


def _flo_size(path: Path, head: bytes, length: int) -> Size:
    if len(head) < 12:
        raise DataError(f"Truncated .flo file: {path}. Expected at least 12 bytes.")
    width, height = struct.unpack_from("<ii", head, 4)
    if width < 1 or height < 1:
        raise DataError(f"Empty .flo file: {path}. Received width {width}, height {height}.")
    _check_length(path, length, expected=12 + 8 * height * width)
    return Size(height, width)


def _read_flo(path: Path, content: bytes) -> np.ndarray:
    height, width = _flo_size(path, content, len(content))
    return np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)


def _pfm_layout(path: Path, head: bytes, length: int) -> _PfmLayout:
    """Reads the header of a .pfm; a negative scale means little-endian."""
    match = _PFM_HEADER.match(head)
    kind, width, height, scale_text = match.groups() if match else (b"", b"0", b"0", b"")
    size = Size(int(height), int(width))
    try:
        scale = float(scale_text)
    except ValueError:
        scale = 0.0
    if match is None or not size.height * size.width or not (scale and np.isfinite(scale)):
        raise DataError(f"Damaged .pfm header: {path}. Received: {head[:24]!r}.")
    if kind != b"F":
        raise DataError(f"Not a flow file: {path}. Expected .pfm of 3 channels. Received: 1.")
    _check_length(path, length, expected=match.end() + 12 * size.height * size.width)
    return _PfmLayout(size, np.dtype("<f4" if scale < 0 else ">f4"), match.end())


def _read_pfm(path: Path, content: bytes) -> np.ndarray:
    (height, width), dtype, offset = _pfm_layout(path, content, len(content))
    rows = np.frombuffer(content, dtype, offset=offset).reshape(height, width, 3)
    return rows[::-1, :, :2].astype(np.float32)  # bottom row first


def _check_kitti(path: Path, header: ImageHeader) -> None:
    if header.bits != 16 or header.channels != 3:
        raise DataError(
            f"Not a KITTI flow file: {path}. Expected 16-bit PNG of 3 channels. "
            f"Received: {header.bits}-bit, {header.channels} channels."
        )


def _read_kitti_png(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    _check_kitti(path, read_header(path, content, len(content)))
    # Never Pillow: it cuts 16-bit RGB to 8 bits without a word.
    raw = decode_png(path, content, channels=3, bits=16)
    valid = (raw[..., 2] > 0).astype(np.float32)
    flow = (raw[..., :2].astype(np.float32) - KITTI_ZERO) / np.float32(KITTI_SCALE)
    return np.where(valid[..., None] > 0, flow, np.float32(0)), valid


def _check_length(path: Path, length: int, *, expected: int) -> None:
    if length != expected:
        raise DataError(
            f"Truncated or overlong flow file: {path}. Expected {expected} bytes. "
            f"Received: {length}."
        )


def _not_flow(path: Path, head: bytes) -> DataError:
    return DataError(
        f"Not a flow file: {path}. Expected .flo (magic 202021.25), .pfm, 16-bit PNG, .flo5 or "
        f".npy. Received: {head[:8]!r}."
    )
