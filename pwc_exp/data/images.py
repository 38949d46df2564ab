"""Frames and masks on disk: PNG, JPEG, BMP, and binary PPM and PGM.

The format is told by the first bytes, never by the name. One rule makes every frame RGB: grey is
repeated, palettes are looked up, alpha is dropped, the largest value of the format becomes 1.
EXIF rotation is not applied (the pixels are taken as they are stored).
"""

import logging
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.files import read_bytes
from pwc_exp.durable import write_file
from pwc_exp.errors import DataError

MAX_PIXELS = 64 * 2**20  # refused from the header, before anything is decoded

_HEAD_BYTES = 2**20  # JPEG may put metadata before the size
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNM_HEADER = re.compile(rb"P(?P<kind>[56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")

_log = logging.getLogger(__name__)


class Size(NamedTuple):
    """Height and width, in pixels."""

    height: int
    width: int


class ImageHeader(NamedTuple):
    """What the first bytes of an image say."""

    kind: str  # PNG, JPEG, BMP or PNM
    size: Size
    channels: int  # as stored; 1 for a palette
    bits: int  # per channel
    max_value: int  # of the stored numbers
    offset: int = 0  # where the pixels begin, for PNM and BMP


def frame_size(path: Path) -> Size:
    """Size of an image, from its header alone."""
    return read_header(path, read_bytes(path, _HEAD_BYTES)).size


def read_frame(path: Path) -> np.ndarray:
    """Reads an image as RGB, [H, W, 3] float32 in [0, 1]."""
    content = read_bytes(path)
    header = read_header(path, content)
    if header.channels in (2, 4) and header.kind != "JPEG":
        _note_dropped_alpha()
    pixels = _decode(path, content, header)
    return pixels.astype(np.float32) / np.float32(header.max_value)


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask image, [H, W] bool: true where any channel is not zero."""
    return np.any(read_frame(path) > 0, axis=-1)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of `image`, [H, W, 3] uint8 RGB."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3]. Received: {image.dtype} {image.shape}")
    write_file(path, tf.io.encode_png(image).numpy())


def read_header(path: Path, content: bytes) -> ImageHeader:
    """Reads what the first bytes of an image say and refuses what cannot be decoded."""
    try:
        if content.startswith(_PNG_MAGIC):
            header = _png_header(content)
        elif content.startswith(b"\xff\xd8\xff"):
            header = _jpeg_header(content)
        elif content.startswith(b"BM"):
            header = _bmp_header(content)
        elif re.match(rb"P[1-6][\s#]", content):
            header = _pnm_header(content)
        else:
            raise ValueError(f"Expected PNG, JPEG, BMP, PPM or PGM. Received: {content[:8]!r}")
    except (ValueError, struct.error, IndexError) as error:
        raise DataError(f"Not an image that can be read: {path}. {error}.") from None
    height, width = header.size
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise DataError(
            f"Image size out of range: {path}. Expected 1 to {MAX_PIXELS} pixels. "
            f"Received: {width} x {height}."
        )
    return header


def decode_png(path: Path, content: bytes, *, channels: int, bits: int) -> np.ndarray:
    """Decodes a PNG, [H, W, channels] uint8 or (16 bits) uint16."""
    return _run(path, tf.io.decode_png, content, channels, tf.uint16 if bits == 16 else tf.uint8)


def _png_header(content: bytes) -> ImageHeader:
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", content, 8)
    if name != b"IHDR" or length != 13:
        raise ValueError(f"Expected a PNG header of 13 bytes. Received: {name!r} of {length}")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if channels is None:
        raise ValueError(f"Expected PNG colour type 0, 2, 3, 4 or 6. Received: {colour}")
    # TensorFlow's decoder widens 1, 2 and 4 bits, and the entries of a palette, to 8.
    return ImageHeader("PNG", Size(height, width), channels, bits, 65535 if bits == 16 else 255)


def _jpeg_header(content: bytes) -> ImageHeader:
    offset = 2
    while content[offset] == 0xFF:
        marker = content[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker in _JPEG_SIZE_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", content, offset + 4)
            return ImageHeader("JPEG", Size(height, width), channels, bits, 255)
        offset += 2 + struct.unpack_from(">H", content, offset + 2)[0]
    raise ValueError("Expected a JPEG size marker")


def _bmp_header(content: bytes) -> ImageHeader:
    offset, _, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", content, 10)
    # TensorFlow reads indexed pixels as grey and knows no compression: both would be wrong.
    if bits not in (24, 32) or compression != 0:
        raise ValueError(
            "Expected an uncompressed BMP of 24 or 32 bits per pixel. "
            f"Received: {bits} bits, compression {compression}"
        )
    return ImageHeader("BMP", Size(abs(height), width), bits // 8, 8, 255, offset)


def _pnm_header(content: bytes) -> ImageHeader:
    match = _PNM_HEADER.match(content)
    if match is None:
        raise ValueError(
            f"Expected a header of binary PGM or PPM (P5, P6). Received: {content[:16]!r}"
        )
    kind, width, height, max_value = (int(group) for group in match.groups())
    if not 1 <= max_value <= 65535:
        raise ValueError(f"Expected a largest value of 1 to 65535. Received: {max_value}")
    bits = 8 if max_value < 256 else 16
    channels = 1 if kind == 5 else 3
    return ImageHeader("PNM", Size(height, width), channels, bits, max_value, match.end())


def _decode(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
    """Decodes any image, [H, W, 3], of the numbers 0 .. header.max_value."""
    match header.kind:
        case "PNG":
            return decode_png(path, content, channels=3, bits=header.bits)
        case "JPEG":
            return _run(path, _decode_jpeg, content)
        case "BMP":
            _check_length(path, content, header, row_bytes=_bmp_row_bytes(header))
            return _run(path, tf.io.decode_bmp, content)[..., :3]
        case "PNM":
            return _decode_pnm(path, content, header)
        case _:
            raise ValueError(f"Unknown kind of image: {header.kind}")


def _decode_jpeg(content: bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _bmp_row_bytes(header: ImageHeader) -> int:
    return (header.size.width * header.channels + 3) // 4 * 4


def _decode_pnm(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
    height, width = header.size
    row_bytes = width * header.channels * header.bits // 8
    _check_length(path, content, header, row_bytes=row_bytes, exact=True)
    dtype = np.dtype(np.uint8 if header.bits == 8 else ">u2")
    pixels = np.frombuffer(content, dtype, offset=header.offset)
    pixels = pixels.reshape(height, width, header.channels)
    if pixels.max() > header.max_value:
        raise DataError(
            f"Image value out of range: {path}. Expected at most {header.max_value}. "
            f"Received: {pixels.max()}."
        )
    return np.broadcast_to(pixels, (height, width, 3))


def _check_length(
    path: Path, content: bytes, header: ImageHeader, *, row_bytes: int, exact: bool = False
) -> None:
    expected = header.offset + header.size.height * row_bytes
    if len(content) < expected or (exact and len(content) != expected):
        raise DataError(
            f"Truncated or overlong image: {path}. Expected {expected} bytes. "
            f"Received: {len(content)}."
        )


def _run(path: Path, decode: Callable[..., tf.Tensor], *args: object) -> np.ndarray:
    """Calls one of TensorFlow's decoders; its complaint becomes one line with the path."""
    try:
        with tf.device("CPU"):
            return decode(*args).numpy()
    except tf.errors.OpError as error:
        reason = (error.message or "").splitlines()[0]
        raise DataError(f"Truncated or damaged image: {path}. {reason}") from None


@cache
def _note_dropped_alpha() -> None:
    _log.warning("Some frames have an alpha channel: it is dropped.")
