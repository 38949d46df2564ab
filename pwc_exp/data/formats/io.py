"""Flow on disk: Middlebury .flo, .pfm, KITTI's 16-bit PNG, Spring's .flo5, TartanAir's .npy.

The first bytes determine the format, never the name. Flow is in pixels, (x, y) = (right, down).
Readers also return where it is known; what a format marks as unknown becomes valid 0 and flow 0.
`read_flow` is for Python, `graph_flow` for tf.data maps: see images.py. Both decode .flo, .pfm and
PNG by the same TensorFlow operations.

HDF5 (.flo5) can name other files, run plug-ins, and return zeros for what was never written or a
damaged index does not lead to; and h5py returns whatever is in memory where a chunk inflates to
fewer bytes than it should (seen with HDF5 1.14.6). So the library only says where the chunks are;
each must be there, and is inflated here.
"""

import io
import itertools
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.headers import (
    DEFLATE_RATIO,
    NPY_MAGIC,
    PNG_MAGIC,
    Size,
    graph_route,
    npy_size,
    read_bytes,
    read_head,
    read_header,
)
from pwc_exp.data.formats.images import decoding, in_python, inspect_frame, per_file
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

UNKNOWN_FLOW = 1e9  # Middlebury: a component of at least this size means "unknown"
KITTI_SCALE = 64.0  # steps per pixel
KITTI_ZERO = 32768  # the stored number of no motion
FLO_MAGIC = struct.pack("<f", 202021.25)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_PFM_HEADER = re.compile(rb"P([Ff])\s+(\d{1,9})[ \t]+(\d{1,9})\s+([-+.\deE]{1,32})\r?\n")
_FLO5_NAME = "flow"
_FLO5_TYPES = (h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F32BE)
_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
_BY_PYTHON, _FLO, _PFM_LITTLE, _PFM_BIG, _KITTI = range(5)  # who decodes a file, and how


class _Layout(NamedTuple):
    """What the first bytes of a flow file say."""

    kind: int
    size: Size
    offset: int = 0  # where the numbers begin


def read_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads flow, [H, W, 2] float32 in pixels, and valid, [H, W] float32 0/1."""
    content = read_bytes(path)
    with decoding(path):
        if content.startswith(HDF5_MAGIC):
            flow, valid = _mask_unknown(_read_flo5(path))
        else:
            layout = _layout(path, content, len(content))
            if layout.kind == _BY_PYTHON:  # .npy
                numbers = np.load(io.BytesIO(content), allow_pickle=False)
                flow, valid = _mask_unknown(numbers.astype(np.float32))
            else:
                flow, valid = _decode(*layout, content)
        return flow.numpy(), valid.numpy()


def inspect_flow(path: Path) -> Size:
    """Size of a flow whose file is complete; nothing is decoded."""
    head, length = read_head(path)
    if head.startswith(HDF5_MAGIC):
        with _open_flo5(path) as data:
            return Size(*data.shape[:2])
    if head.startswith(PNG_MAGIC):
        inspect_frame(path)  # as far as the end of the file
    return _layout(path, head, length).size


@per_file
def graph_flow(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the flow at `path`, a string: [H, W, 2] float32, pixels; and valid, [H, W] 0/1."""
    content = tf.io.read_file(path)

    def route(head: bytes, length: int) -> tuple[int, ...]:
        layout = _layout(Path(), head, length)
        return layout.kind, *layout.size, layout.offset

    def read() -> list[tf.Tensor]:
        return in_python(lambda name: list(read_flow(name)), path, [tf.float32, tf.float32])

    kind, height, width, offset = graph_route(content, route, 4)
    shape = tf.stack([height, width])
    decoders = {
        known: partial(_decode, known, shape, offset, content)
        for known in (_FLO, _PFM_LITTLE, _PFM_BIG, _KITTI)
    }
    flow, valid = tf.switch_case(tf.cast(kind, tf.int32), {_BY_PYTHON: read, **decoders})
    return tf.ensure_shape(flow, [None, None, 2]), tf.ensure_shape(valid, [None, None])


def _layout(path: Path, head: bytes, length: int) -> _Layout:
    """Parses the first bytes of any format but .flo5; refuses a file of another length."""
    if head.startswith(NPY_MAGIC):
        return _Layout(_BY_PYTHON, npy_size(path, head, length))
    if head.startswith(PNG_MAGIC):
        header = read_header(path, head, length)
        if (header.max_value, header.channels) != (65535, 3):
            raise DataError(
                f"Not a KITTI flow file: {path}. Expected 16-bit PNG of 3 channels. Received: "
                f"{header.max_value.bit_length()}-bit, {header.channels} channels."
            )
        return _Layout(_KITTI, header.size)
    try:
        layout = _parse(head)
        height, width = layout.size
        if height < 1 or width < 1:
            raise ValueError(f"Expected pixels. Received: {width} x {height}")
        expected = layout.offset + (8 if layout.kind == _FLO else 12) * height * width
        if length != expected:
            raise ValueError(f"Truncated or overlong: expected {expected} bytes, not {length}")
    except ValueError as error:
        raise DataError(f"Not a flow file: {path}. {error}.") from None
    return layout


def _parse(head: bytes) -> _Layout:
    """The layout of .flo or .pfm."""
    if head.startswith(FLO_MAGIC):
        if len(head) < 12:
            raise ValueError("Truncated: expected at least 12 bytes")
        width, height = struct.unpack_from("<ii", head, 4)
        return _Layout(_FLO, Size(height, width), 12)
    match = _PFM_HEADER.match(head)
    if not match:
        raise ValueError(
            "Expected .flo (magic 202021.25), .pfm, 16-bit PNG, .flo5 or .npy. "
            f"Received: {head[:24]!r}"
        )
    kind, width, height, scale = match[1], int(match[2]), int(match[3]), float(match[4])
    if kind != b"F" or not (scale and math.isfinite(scale)):
        raise ValueError(f"Expected .pfm of 3 channels. Received: {match[0]!r}")
    return _Layout(_PFM_LITTLE if scale < 0 else _PFM_BIG, Size(height, width), match.end())


def _decode(
    kind: int, shape: tf.Tensor | Size, offset: tf.Tensor | int, content: tf.Tensor | bytes
) -> list[tf.Tensor]:
    """Flow and valid of a file whose layout was checked."""
    if kind == _KITTI:
        # Never Pillow: it cuts 16-bit RGB to 8 bits without a warning.
        raw = tf.io.decode_png(content, channels=3, dtype=tf.uint16)
        flow = (tf.cast(raw[..., :2], tf.float32) - KITTI_ZERO) / KITTI_SCALE
        return _zero_unless(raw[..., 2] > 0, flow)
    numbers = tf.reshape(tf.io.decode_raw(content, tf.uint8)[offset:], [-1, 4])
    if kind == _PFM_BIG:
        numbers = tf.reverse(numbers, [1])
    channels = 2 if kind == _FLO else 3
    rows = tf.reshape(tf.bitcast(numbers, tf.float32), tf.concat([shape, [channels]], 0))
    # .pfm has the bottom row first.
    return _mask_unknown(rows if kind == _FLO else tf.reverse(rows[..., :2], [0]))


def _mask_unknown(flow: tf.Tensor | np.ndarray) -> list[tf.Tensor]:
    known = tf.abs(flow) < UNKNOWN_FLOW  # false for NaN too
    return _zero_unless(known[..., 0] & known[..., 1], flow)


def _zero_unless(known: tf.Tensor, flow: tf.Tensor | np.ndarray) -> list[tf.Tensor]:
    """Flow with 0 where it is not known, and valid."""
    # Both components of a pixel as one number: a select that broadcasts takes 6 times as long.
    pairs = tf.where(known, tf.bitcast(flow, tf.int64), tf.constant(0, tf.int64))
    return [tf.bitcast(pairs, tf.float32), tf.cast(known, tf.float32)]


def _read_flo5(path: Path) -> np.ndarray:
    """Flow, [H, W, 2] float32, in pixels, NaN where it is unknown."""
    with _open_flo5(path) as data:
        flow, size = np.empty(data.shape, np.float32), 4 * math.prod(data.chunks)
        for start in itertools.product(*map(range, (0, 0, 0), data.shape, data.chunks)):
            skipped_filters, stored = data.id.read_direct_chunk(start)
            inflater = zlib.decompressobj()
            content = inflater.decompress(stored, size + 1)
            if skipped_filters or len(content) != size or not inflater.eof:
                raise ValueError(f"Expected {size} bytes in the chunk at {start}")
            if (
                data.shuffle
            ):  # all first bytes of the numbers come first, then all second bytes, ...
                content = np.frombuffer(content, np.uint8).reshape(4, -1).T.tobytes()
            chunk = np.frombuffer(content, data.dtype).reshape(data.chunks)
            part = flow[tuple(map(slice, start, np.add(start, data.chunks)))]
            part[...] = chunk[tuple(map(slice, part.shape))]
    return flow


@contextmanager
def _open_flo5(path: Path) -> Iterator[h5py.Dataset]:
    """Yields the data set of the flow; what h5py says of a damaged file becomes one line."""
    _, length = read_head(path)
    try:
        # Unlocked: a data set may be on a file system that cannot be written or locked.
        with h5py.File(path, "r", locking=False) as file:
            if not isinstance(file.get(_FLO5_NAME, getlink=True), h5py.HardLink):
                raise ValueError(f"Expected a data set {_FLO5_NAME}. Received: {list(file)[:5]}")
            data = file[_FLO5_NAME]
            _check_flo5(data, length)
            yield data
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"Not a .flo5 file that can be read: {path}. {reason}.") from None


def _check_flo5(data: h5py.Dataset, length: int) -> None:
    """Refuses other than gzip chunks inside this file, and more numbers than they can hold."""
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise ValueError(f"Expected {_FLO5_NAME} to be a data set of numbers")
    shape, chunks, stored = data.shape, data.chunks, data.id.get_storage_size()
    # The dtype that h5py states is the nearest one of NumPy, which is not good enough.
    if data.id.get_type() not in _FLO5_TYPES or shape[2:] != (2,) or not data.size:
        raise ValueError(f"Expected float32 [H, W, 2]. Received: {data.dtype} {list(shape)}")
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if chunks is None or filters not in ([_GZIP], [_SHUFFLE, _GZIP]):
        raise ValueError(f"Expected chunks of gzip, shuffled or not. Received: filters {filters}")
    count = math.prod(-(-s // c) for s, c in zip(shape, chunks, strict=True))
    least = 4 * count * math.prod(chunks) // DEFLATE_RATIO
    if not least <= stored <= length:
        raise ValueError(f"Expected {least} to {length} bytes of flow. Received: {stored}")
    if data.id.get_num_chunks() != count:
        raise ValueError(f"Expected {count} chunks. Received: {data.id.get_num_chunks()}")


def write_flo(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes Middlebury .flo; pixels that are not valid get the number that means "unknown"."""
    flow = _marked(path, flow, valid, 10 * UNKNOWN_FLOW)
    height, width, _ = flow.shape
    write_file(path, FLO_MAGIC + struct.pack("<ii", width, height) + flow.astype("<f4").tobytes())


def write_pfm(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes .pfm of three channels, the third 0; pixels that are not valid get NaN."""
    flow = _marked(path, flow, valid, np.nan)
    height, width, _ = flow.shape
    rows = np.zeros((height, width, 3), "<f4")
    rows[..., :2] = flow[::-1]  # the format stores the bottom row first
    write_file(path, f"PF\n{width} {height}\n-1.0\n".encode() + rows.tobytes())


def write_flo5(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes .flo5 as Spring does; pixels that are not valid get NaN."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        flow = _marked(path, flow, valid, np.nan)
        file.create_dataset(_FLO5_NAME, data=flow, compression="gzip", compression_opts=5)
    write_file(path, stream.getvalue())


def write_npy(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes NumPy's .npy, float32 [H, W, 2]; pixels that are not valid get NaN."""
    stream = io.BytesIO()
    np.save(stream, _marked(path, flow, valid, np.nan), allow_pickle=False)
    write_file(path, stream.getvalue())


def write_kitti_png(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes 16-bit PNG as KITTI does, rounded to 1/64 pixel; refuses what does not fit in it."""
    flow = _marked(path, flow, valid, 0.0)
    known = np.ones(flow.shape[:2], bool) if valid is None else valid > 0
    # The data set itself stores zero motion, not zero, where it knows nothing.
    steps = np.round(flow * KITTI_SCALE) + KITTI_ZERO
    if steps.min() < 0 or steps.max() > 65535:
        raise DataError(
            f"Flow does not fit in a KITTI PNG: {path}. Expected -512 to 511.98 pixels. "
            f"Received: {flow[known].min()} to {flow[known].max()}."
        )
    raw = np.concatenate([steps, known[..., None]], axis=-1).astype(np.uint16)
    write_file(path, tf.io.encode_png(raw).numpy())


WRITERS = {  # {suffix: (path, flow, valid=None) -> None}
    ".flo": write_flo,
    ".npy": write_npy,
    ".png": write_kitti_png,
    ".flo5": write_flo5,
    ".pfm": write_pfm,
}


def _marked(path: Path, flow: np.ndarray, valid: np.ndarray | None, unknown: float) -> np.ndarray:
    """Flow as float32 with `unknown` where it is not valid, after refusing what is not flow."""
    if flow.ndim != 3 or flow.shape[2] != 2 or not flow.size:
        raise ValueError(f"flow must be [H, W, 2]. Received: {flow.shape}")
    if valid is not None and valid.shape != flow.shape[:2]:
        raise ValueError(f"valid must be {flow.shape[:2]}, as flow is. Received: {valid.shape}")
    known = np.ones(flow.shape[:2], bool) if valid is None else valid > 0
    wrong = ~np.isfinite(flow).all(axis=-1) & known
    if wrong.any():
        raise DataError(f"Cannot write {path}: flow is not finite at {wrong.sum()} pixels.")
    return np.where(known[..., None], flow.astype(np.float32), np.float32(unknown))
