"""Flow on disk: Middlebury .flo, .pfm, KITTI's 16-bit PNG, Spring's .flo5, TartanAir's .npy.

The first bytes determine the format, never the name. Flow is in pixels, (x, y) = (right, down).
Readers also return where it is known; what a format marks as unknown becomes valid 0 and flow 0.
`read_flow` is for Python, `graph_flow` for tf.data maps: see images.py. Both decode .pfm and PNG,
and mask unknown flow, by the same TensorFlow operations.

Letters: H height, W width.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.arrays import (
    HDF5_MAGIC,
    NPY_MAGIC,
    encode_flo5,
    encode_npy,
    inspect_flo5,
    npy_flow_size,
    read_flo5,
    read_npy_flow,
)
from pwc_exp.data.formats.headers import (
    PNG_MAGIC,
    GraphHeader,
    ImageHeader,
    Size,
    graph_head,
    graph_length,
    graph_png_header,
    graph_text_header,
    in_range,
    inspect_image,
    read_bytes,
    read_head,
    read_header,
    starts_with,
)
from pwc_exp.data.formats.images import in_python, per_file, run_decoder
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

UNKNOWN_FLOW = 1e9  # Middlebury: a component of at least this size means "unknown"
KITTI_SCALE = 64.0  # steps per pixel
KITTI_ZERO = 32768  # the stored number of no motion

FLO_MAGIC = struct.pack("<f", 202021.25)
_PFM_MAGICS = (b"PF", b"Pf")
_PFM_HEADER = re.compile(rb"P([Ff])\s+(\d{1,9})[ \t]+(\d{1,9})\s+([-+.\deE]{1,32})\r?\n")
_PFM_LITTLE = r"^(PF\s\d{1,6} \d{1,6}\s-1(?:\.0{1,6})?\n)\C*$"
_PFM_BIG = r"^(PF\s\d{1,6} \d{1,6}\s1(?:\.0{1,6})?\n)\C*$"
_PNG_KITTI = {b"\x10\x02": 48}  # 16-bit RGB, and the bits that a pixel takes


def read_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads flow, [H, W, 2] float32 in pixels, and valid, [H, W] float32 0/1."""
    content = read_bytes(path)
    with tf.device("CPU"):
        flow, valid = _read(path, content)
        return flow.numpy(), valid.numpy()


def _read(path: Path, content: bytes) -> list[tf.Tensor]:
    if content.startswith(FLO_MAGIC):
        size = _flo_size(path, content, len(content))
        return _mask_unknown(np.frombuffer(content, "<f4", offset=12).reshape(*size, 2))
    if content.startswith(_PFM_MAGICS):
        layout = _pfm_layout(path, content, len(content))
        return _decode_pfm(content, layout.size, layout.offset, layout.little_endian)
    if content.startswith(PNG_MAGIC):
        _check_kitti(path, read_header(path, content, len(content)))
        return _kitti_flow(run_decoder(path, _decode_kitti, content))
    if content.startswith(HDF5_MAGIC):
        return _mask_unknown(read_flo5(path))
    if content.startswith(NPY_MAGIC):
        return _mask_unknown(read_npy_flow(path, content))
    raise _not_flow(path, content)


def inspect_flow(path: Path) -> Size:
    """Size of a flow whose file is complete; nothing is decoded."""
    head, length = read_head(path)
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
    write_file(path, encode_flo5(_marked(path, flow, valid, np.nan)))


def write_npy(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes NumPy's .npy, float32 [H, W, 2]; pixels that are not valid get NaN."""
    write_file(path, encode_npy(_marked(path, flow, valid, np.nan)))


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


class _PfmLayout(NamedTuple):
    size: Size
    offset: int  # where the numbers begin
    little_endian: bool


def _flo_size(path: Path, head: bytes, length: int) -> Size:
    if len(head) < 12:
        raise DataError(f"Truncated .flo file: {path}. Expected at least 12 bytes.")
    width, height = struct.unpack_from("<ii", head, 4)
    if width < 1 or height < 1:
        raise DataError(f"Empty .flo file: {path}. Received width {width}, height {height}.")
    _check_length(path, length, expected=12 + 8 * height * width)
    return Size(height, width)


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
    return _PfmLayout(size, match.end(), scale < 0)


def _check_kitti(path: Path, header: ImageHeader) -> None:
    if header.bits != 16 or header.channels != 3:
        raise DataError(
            f"Not a KITTI flow file: {path}. Expected 16-bit PNG of 3 channels. "
            f"Received: {header.bits}-bit, {header.channels} channels."
        )


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


@per_file
def graph_flow(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the flow at `path`, a string: [H, W, 2] float32, pixels; and valid, [H, W] 0/1."""
    content = tf.io.read_file(path)

    def read() -> list[tf.Tensor]:
        return in_python(lambda name: list(read_flow(name)), path, [tf.float32, tf.float32])

    flow, valid = tf.case(
        [
            (starts_with(content, FLO_MAGIC), lambda: _flo_in_graph(content, read)),
            (starts_with(content, PNG_MAGIC), lambda: _kitti_in_graph(content, read)),
            (starts_with(content, b"PF"), lambda: _pfm_in_graph(content, read)),
        ],
        default=read,
    )
    return tf.ensure_shape(flow, [None, None, 2]), tf.ensure_shape(valid, [None, None])


_Read = Callable[[], list[tf.Tensor]]


def _flo_in_graph(content: tf.Tensor, read: _Read) -> list[tf.Tensor]:
    size = tf.io.decode_raw(tf.strings.substr(graph_head(content), 4, 8), tf.int32)
    width, height = tf.unstack(tf.cast(size, tf.int64), 2)
    numbers = graph_length(content) - 12
    # Divided, for 8 * height * width may be more than an int64 holds.
    fits = tf.equal(numbers // 8, height * width) & tf.equal(numbers % 8, 0)

    def decode() -> list[tf.Tensor]:
        numbers = tf.io.decode_raw(content, tf.float32)[3:]
        return _mask_unknown(tf.reshape(numbers, tf.stack([height, width, 2])))

    return tf.cond(in_range(height, width) & fits, decode, read)


def _pfm_in_graph(content: tf.Tensor, read: _Read) -> list[tf.Tensor]:
    def decode(header: GraphHeader, little_endian: bool) -> list[tf.Tensor]:
        return _decode_pfm(content, header.shape, header.offset, little_endian)

    little = graph_text_header(content, _PFM_LITTLE, 12)
    big = graph_text_header(content, _PFM_BIG, 12)
    return tf.case(
        [(little.usable, lambda: decode(little, True)), (big.usable, lambda: decode(big, False))],
        default=read,
    )


def _kitti_in_graph(content: tf.Tensor, read: _Read) -> list[tf.Tensor]:
    usable = graph_png_header(content, _PNG_KITTI).usable
    return tf.cond(usable, lambda: _kitti_flow(_decode_kitti(content)), read)


def _decode_pfm(
    content: tf.Tensor | bytes,
    shape: tf.Tensor | Size,
    offset: tf.Tensor | int,
    little_endian: bool,
) -> list[tf.Tensor]:
    numbers = tf.reshape(tf.io.decode_raw(content, tf.uint8)[offset:], [-1, 4])
    numbers = numbers if little_endian else tf.reverse(numbers, [1])
    rows = tf.reshape(tf.bitcast(numbers, tf.float32), tf.concat([shape, [3]], 0))
    return _mask_unknown(tf.reverse(rows[..., :2], [0]))  # bottom row first


def _decode_kitti(content: tf.Tensor | bytes) -> tf.Tensor:
    # Never Pillow: it cuts 16-bit RGB to 8 bits without a warning.
    return tf.io.decode_png(content, channels=3, dtype=tf.uint16)


def _kitti_flow(raw: tf.Tensor | np.ndarray) -> list[tf.Tensor]:
    flow = (tf.cast(raw[..., :2], tf.float32) - KITTI_ZERO) / KITTI_SCALE
    return _zero_unless(raw[..., 2] > 0, flow)


def _mask_unknown(flow: tf.Tensor | np.ndarray) -> list[tf.Tensor]:
    known = tf.abs(flow) < UNKNOWN_FLOW  # false for NaN too
    return _zero_unless(known[..., 0] & known[..., 1], flow)


def _zero_unless(known: tf.Tensor | np.ndarray, flow: tf.Tensor | np.ndarray) -> list[tf.Tensor]:
    """Flow with 0 where it is not known, and valid."""
    # Both components of a pixel as one number: a select that broadcasts takes 6 times as long.
    pairs = tf.where(known, tf.bitcast(flow, tf.int64), tf.constant(0, tf.int64))
    return [tf.bitcast(pairs, tf.float32), tf.cast(known, tf.float32)]
