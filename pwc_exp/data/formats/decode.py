"""The readers of images.py and io.py as TensorFlow operations, for tf.data maps without Python.

Each format has a condition, on its header and the length of its file, under which TensorFlow's
operations give what the Python reader gives, bit for bit. Whatever does not meet it (rare formats,
comments in headers, most malformed files) goes to the Python reader, which reads it or refuses it.
An error inside a graph does not name the file: the Python reader, called again, does.

Letters: H height, W width.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.image_headers import (
    DEFLATE_RATIO,
    JPEG_MAGIC,
    JPEG_RATIO,
    MAX_PIXELS,
    PNG_MAGIC,
)
from pwc_exp.data.formats.images import decode_jpeg, read_frame, read_mask
from pwc_exp.data.formats.io import FLO_MAGIC, KITTI_SCALE, KITTI_ZERO, UNKNOWN_FLOW, read_flow

# Bits per channel and colour type (0 grey, 2 RGB, 3 palette), and the bits that a pixel takes.
# Those with alpha are left to Python, which tells that it is dropped.
_PNG_8 = {b"\x01\x00": 1, b"\x08\x00": 8, b"\x08\x02": 24, b"\x08\x03": 8}
_PNG_16 = {b"\x10\x00": 16, b"\x10\x02": 48}
_PNG_KITTI = {b"\x10\x02": 48}

_HEAD_BYTES = 64
_PPM_HEADER = r"^(P6\s\d{1,6}\s\d{1,6}\s255\s)\C*$"
_PGM_HEADER = r"^(P5\s\d{1,6}\s\d{1,6}\s255\s)\C*$"
_PFM_LITTLE = r"^(PF\s\d{1,6} \d{1,6}\s-1(?:\.0{1,6})?\n)\C*$"
_PFM_BIG = r"^(PF\s\d{1,6} \d{1,6}\s1(?:\.0{1,6})?\n)\C*$"


# Traced once in a process, whatever reads files; one decoder takes most of a second.
_PER_FILE = tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])


class _Header(NamedTuple):
    """A size, and whether TensorFlow's operations read this file as the Python reader does."""

    usable: tf.Tensor  # bool
    shape: tf.Tensor  # [2] int64, height and width
    offset: tf.Tensor | int  # bytes before the pixels


@_PER_FILE
def decode_frame(path: tf.Tensor) -> tf.Tensor:
    """Reads the image at `path`, a string: [H, W, 3] float32 RGB in [0, 1]."""
    content = tf.io.read_file(path)

    def read() -> tf.Tensor:
        return _python(lambda name: [read_frame(name)], path, [tf.float32])[0]

    frame = tf.case(
        [
            (_starts(content, PNG_MAGIC), lambda: _png_frame(content, read)),
            (_starts(content, JPEG_MAGIC), lambda: _jpeg_frame(content, read)),
            (_starts(content, b"P6"), lambda: _pnm_frame(content, _PPM_HEADER, 3, read)),
            (_starts(content, b"P5"), lambda: _pnm_frame(content, _PGM_HEADER, 1, read)),
        ],
        default=read,
    )
    return tf.ensure_shape(frame, [None, None, 3])


@_PER_FILE
def decode_flow(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads the flow at `path`, a string: [H, W, 2] float32, pixels; and valid, [H, W] 0/1."""
    content = tf.io.read_file(path)

    def read() -> list[tf.Tensor]:
        return _python(lambda name: list(read_flow(name)), path, [tf.float32, tf.float32])

    flow, valid = tf.case(
        [
            (_starts(content, FLO_MAGIC), lambda: _flo(content, read)),
            (_starts(content, PNG_MAGIC), lambda: _kitti_png(content, read)),
            (_starts(content, b"PF"), lambda: _pfm(content, read)),
        ],
        default=read,
    )
    return tf.ensure_shape(flow, [None, None, 2]), tf.ensure_shape(valid, [None, None])


@_PER_FILE
def decode_mask(path: tf.Tensor) -> tf.Tensor:
    """Reads the mask at `path`, a string: [H, W] bool, true where it is not zero."""
    content = tf.io.read_file(path)

    def read() -> tf.Tensor:
        return _python(lambda name: [read_mask(name)], path, [tf.bool])[0]

    def decode() -> tf.Tensor:
        return tf.reduce_max(tf.io.decode_png(content, channels=3), axis=-1) > 0

    mask = tf.cond(
        _starts(content, PNG_MAGIC),
        lambda: tf.cond(_png_header(content, _PNG_8).usable, decode, read),
        read,
    )
    return tf.ensure_shape(mask, [None, None])


def _python(
    read: Callable[[Path], list[np.ndarray]], path: tf.Tensor, dtypes: list[tf.DType]
) -> list[tf.Tensor]:
    return tf.numpy_function(lambda name: read(Path(os.fsdecode(name))), [path], dtypes)


def _starts(content: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(content, 0, len(magic)), magic)


def _length(text: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(text), tf.int64)


def _head(content: tf.Tensor) -> tf.Tensor:
    """The first 64 bytes, zeros behind a shorter file.

    A substr out of range would quote the file in its message, and TensorFlow's Python dies of that.
    """
    return tf.strings.join([tf.strings.substr(content, 0, _HEAD_BYTES), bytes(_HEAD_BYTES)])


def _png_header(content: tf.Tensor, layouts: dict[bytes, int]) -> _Header:
    """Usable: of one of the layouts, and the file can hold so many pixels."""
    head = _head(content)
    size = tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.int32, little_endian=False)
    width, height = tf.unstack(tf.cast(size, tf.int64), 2)
    layout = tf.equal(tf.strings.substr(head, 24, 2), [*layouts])
    bits = tf.reduce_sum(tf.where(layout, tf.constant([*layouts.values()], tf.int64), 0))
    inflated = height * (1 + (width * bits + 7) // 8)
    usable = (
        tf.equal(tf.strings.substr(head, 8, 8), b"\0\0\0\rIHDR")
        & tf.reduce_any(layout)
        & _in_range(height, width)
        & (inflated // DEFLATE_RATIO <= _length(content))
    )
    return _Header(usable, tf.stack([height, width]), 0)


def _text_header(content: tf.Tensor, pattern: str, pixel_bytes: int) -> _Header:
    """Usable: the header matches, and exactly so many pixels follow."""
    head = _head(content)
    matches = tf.strings.regex_full_match(head, pattern)
    header = tf.where(matches, tf.strings.regex_replace(head, pattern, r"\1"), "P 0 0 0 ")
    words = tf.strings.split(header)  # magic, width, height, largest value or scale
    width, height = tf.unstack(tf.strings.to_number(words[1:3], tf.int64), 2)
    offset = _length(header)
    fits = tf.equal(_length(content), offset + height * width * pixel_bytes)
    return _Header(_in_range(height, width) & fits, tf.stack([height, width]), offset)


def _flo_header(content: tf.Tensor) -> _Header:
    size = tf.io.decode_raw(tf.strings.substr(_head(content), 4, 8), tf.int32)
    width, height = tf.unstack(tf.cast(size, tf.int64), 2)
    numbers = _length(content) - 12
    # Divided, for 8 * height * width may be more than an int64 holds.
    fits = tf.equal(numbers // 8, height * width) & tf.equal(numbers % 8, 0)
    return _Header(_in_range(height, width) & fits, tf.stack([height, width]), 12)


def _in_range(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    # Each side first: the product of two sides within the limit does not overflow.
    sides = (height > 0) & (width > 0) & (height <= MAX_PIXELS) & (width <= MAX_PIXELS)
    return sides & (height * width <= MAX_PIXELS)


def _scaled(pixels: tf.Tensor, max_value: tf.Tensor) -> tf.Tensor:
    """Whole numbers up to max_value -> float32 up to 1.

    max_value must not be a constant: TensorFlow would multiply by 1 / max_value, which rounds
    otherwise than a division does.
    """
    return tf.cast(pixels, tf.float32) / max_value


def _png_frame(content: tf.Tensor, read: Callable[[], tf.Tensor]) -> tf.Tensor:
    header = _png_header(content, _PNG_8 | _PNG_16)
    deep = tf.equal(tf.strings.substr(_head(content), 24, 1), b"\x10")
    max_value = tf.where(deep, 65535.0, 255.0)

    def decode(dtype: tf.DType) -> tf.Tensor:
        return _scaled(tf.io.decode_png(content, channels=3, dtype=dtype), max_value)

    return tf.case(
        [(~header.usable, read), (deep, lambda: decode(tf.uint16))],
        default=lambda: decode(tf.uint8),
    )


def _jpeg_frame(content: tf.Tensor, read: Callable[[], tf.Tensor]) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(content, tf.int64)
    height, width = shape[0], shape[1]
    usable = _in_range(height, width) & (height * width // JPEG_RATIO <= _length(content))
    max_value = tf.where(usable, 255.0, 1.0)
    return tf.cond(usable, lambda: _scaled(decode_jpeg(content), max_value), read)


def _pnm_frame(
    content: tf.Tensor, pattern: str, channels: int, read: Callable[[], tf.Tensor]
) -> tf.Tensor:
    header = _text_header(content, pattern, channels)
    max_value = tf.where(header.usable, 255.0, 1.0)

    def decode() -> tf.Tensor:
        pixels = tf.io.decode_raw(content, tf.uint8)[header.offset :]
        frame = tf.reshape(pixels, tf.concat([header.shape, [channels]], 0))
        return tf.repeat(_scaled(frame, max_value), 3 // channels, axis=-1)

    return tf.cond(header.usable, decode, read)


def _flo(content: tf.Tensor, read: Callable[[], list[tf.Tensor]]) -> list[tf.Tensor]:
    header = _flo_header(content)

    def decode() -> list[tf.Tensor]:
        numbers = tf.io.decode_raw(content, tf.float32)[header.offset // 4 :]
        return _mask_unknown(tf.reshape(numbers, tf.concat([header.shape, [2]], 0)))

    return tf.cond(header.usable, decode, read)


def _pfm(content: tf.Tensor, read: Callable[[], list[tf.Tensor]]) -> list[tf.Tensor]:
    little = _text_header(content, _PFM_LITTLE, 12)
    big = _text_header(content, _PFM_BIG, 12)

    def decode(header: _Header, *, little_endian: bool) -> list[tf.Tensor]:
        numbers = tf.reshape(tf.io.decode_raw(content, tf.uint8)[header.offset :], [-1, 4])
        numbers = numbers if little_endian else tf.reverse(numbers, [1])
        rows = tf.reshape(tf.bitcast(numbers, tf.float32), tf.concat([header.shape, [3]], 0))
        return _mask_unknown(tf.reverse(rows[..., :2], [0]))  # bottom row first

    return tf.case(
        [
            (little.usable, lambda: decode(little, little_endian=True)),
            (big.usable, lambda: decode(big, little_endian=False)),
        ],
        default=read,
    )


def _kitti_png(content: tf.Tensor, read: Callable[[], list[tf.Tensor]]) -> list[tf.Tensor]:
    def decode() -> list[tf.Tensor]:
        raw = tf.io.decode_png(content, channels=3, dtype=tf.uint16)
        flow = (tf.cast(raw[..., :2], tf.float32) - KITTI_ZERO) / KITTI_SCALE
        return _zero_unless(raw[..., 2] > 0, flow)

    return tf.cond(_png_header(content, _PNG_KITTI).usable, decode, read)


def _mask_unknown(flow: tf.Tensor) -> list[tf.Tensor]:
    known = tf.abs(flow) < UNKNOWN_FLOW  # false for NaN too
    return _zero_unless(known[..., 0] & known[..., 1], flow)


def _zero_unless(known: tf.Tensor, flow: tf.Tensor) -> list[tf.Tensor]:
    """Flow with 0 where it is not known, and valid."""
    # Both components of a pixel as one number: a select that broadcasts takes 6 times as long.
    pairs = tf.where(known, tf.bitcast(flow, tf.int64), tf.constant(0, tf.int64))
    return [tf.bitcast(pairs, tf.float32), tf.cast(known, tf.float32)]
