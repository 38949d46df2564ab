"""Files as bytes, and what the first bytes of an image say, checked against the file's length.

A size that the file cannot hold is refused here, before anything is decoded: memory is bounded by
the length of the file, and by MAX_PIXELS. Why not Pillow: docs/decisions/0007-decoding-twice.md.
"""

import io
import math
import os
import re
import stat
import struct
import tokenize
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.errors import DataError, MissingInputError, UserError

HEAD_BYTES = 4096  # holds the header of every format but some JPEG
MAX_PIXELS = 64 * 2**20
DEFLATE_RATIO = 1032  # deflate spends at least 2 bits on a copy of 258 bytes
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
NPY_MAGIC = b"\x93NUMPY"

_JPEG_MAGIC = b"\xff\xd8\xff"
_LONG_HEAD_BYTES = 2**20  # JPEG may put metadata, and PNM comments, before the size
_BLOCK_BYTES = 2**16
_JPEG_RATIO = 512  # pixels per byte: a JPEG spends at least 1 bit on a block of 8 x 8
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD8)) | {0x01}  # no length follows
_PNM_HEADER = re.compile(rb"P(?P<kind>[56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")
# What NumPy raises for headers that it cannot parse.
_NPY_ERRORS = (
    *(ValueError, SyntaxError, TypeError, KeyError, tokenize.TokenError),
    *(RecursionError, MemoryError, OverflowError),
)
_GRAPH_HEAD_BYTES = 2**16


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
    offset: int  # where the pixels begin; for JPEG, where the size is
    least_length: int  # of a file that holds so many pixels; for PNM the only length


@contextmanager
def open_file(path: Path) -> Iterator[FileIO]:
    """Opens a file that is not empty; refuses pipes and devices, which could block."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"Not a regular file: {path}.")
        if status.st_size == 0:
            raise DataError(f"Empty file: {path}.")
        # Unbuffered: a walk by seeking must read what it asks for, not 8 KiB around it.
        with FileIO(path) as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingInputError(f"No such file: {path}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None


def read_bytes(path: Path) -> bytes:
    """Reads a whole file."""
    with open_file(path) as file:
        return file.readall()


def read_head(path: Path) -> tuple[bytes, int]:
    """The first HEAD_BYTES of a file, and its length in bytes."""
    with open_file(path) as file:
        return file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size


def read_header(path: Path, head: bytes, length: int) -> ImageHeader:
    """Parses `head`, the first bytes of a file of `length` bytes; refuses what is not decodable."""
    try:
        if head.startswith(PNG_MAGIC):
            header = _png_header(head)
        elif head.startswith(_JPEG_MAGIC):
            header = _jpeg_header(head)
        elif head.startswith(b"BM"):
            header = _bmp_header(head)
        elif re.match(rb"P[1-6][\s#]", head):
            header = _pnm_header(head)
        else:
            raise ValueError(f"Expected PNG, JPEG, BMP, PPM or PGM. Received: {head[:8]!r}")
    except (ValueError, struct.error) as error:
        raise DataError(f"Not an image that can be read: {path}. {error}.") from None
    height, width = header.size
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise DataError(
            f"Image size out of range: {path}. Expected 1 to {MAX_PIXELS} pixels. "
            f"Received: {width} x {height}."
        )
    exact = header.kind == "PNM"
    if length < header.least_length or (exact and length != header.least_length):
        raise DataError(
            f"{'Truncated or overlong' if exact else 'Truncated'} image: {path}. "
            f"Expected {'' if exact else 'at least '}{header.least_length} bytes for "
            f"{width} x {height}. Received: {length}."
        )
    return header


def inspect_image(path: Path) -> ImageHeader:
    """Reads the header of an image and verifies, without decoding, that its file is complete."""
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
        try:
            header = read_header(path, head, length)
        except DataError:
            if length <= HEAD_BYTES:
                raise
            header = read_header(path, head + file.read(_LONG_HEAD_BYTES), length)
        if header.kind == "PNG" and not _png_is_complete(file, length):
            raise DataError(f"Truncated image: {path}. Expected PNG chunks up to IEND.")
        if header.kind == "JPEG" and not _jpeg_is_complete(file, header.offset, length):
            raise DataError(f"Truncated image: {path}. Expected a JPEG end marker.")
    return header


def _png_header(head: bytes) -> ImageHeader:
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", head, 8)
    if name != b"IHDR" or length != 13:
        raise ValueError(f"Expected a PNG header of 13 bytes. Received: {name!r} of {length}")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if channels is None:
        raise ValueError(f"Expected PNG colour type 0, 2, 3, 4 or 6. Received: {colour}")
    # TensorFlow's decoder widens 1, 2 and 4 bits, and the entries of a palette, to 8.
    max_value = 65535 if bits == 16 else 255
    least = height * (1 + (width * channels * bits + 7) // 8) // DEFLATE_RATIO
    return ImageHeader("PNG", Size(height, width), channels, bits, max_value, 33, least)


def _jpeg_header(head: bytes) -> ImageHeader:
    # Stray bytes between markers are skipped, as libjpeg does, which decodes the file.
    offset = 2
    while match := _JPEG_MARKER.search(head, offset):
        marker, offset = match[1][0], match.end()
        if marker in _JPEG_SIZE_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", head, offset + 2)
            least = height * width // _JPEG_RATIO
            return ImageHeader("JPEG", Size(height, width), channels, bits, 255, offset, least)
        if marker not in _JPEG_BARE_MARKERS:
            offset += max(2, struct.unpack_from(">H", head, offset)[0])
    raise ValueError("Expected a JPEG size marker")


def _bmp_header(head: bytes) -> ImageHeader:
    offset, _, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", head, 10)
    # TensorFlow reads indexed pixels as grey and knows no compression: both would be wrong.
    if bits not in (24, 32) or compression != 0:
        raise ValueError(
            "Expected an uncompressed BMP of 24 or 32 bits per pixel. "
            f"Received: {bits} bits, compression {compression}"
        )
    least = offset + abs(height) * ((width * bits // 8 + 3) // 4 * 4)
    return ImageHeader("BMP", Size(abs(height), width), bits // 8, 8, 255, offset, least)


def _pnm_header(head: bytes) -> ImageHeader:
    match = _PNM_HEADER.match(head)
    if match is None:
        raise ValueError(
            f"Expected a header of binary PGM or PPM (P5, P6). Received: {head[:16]!r}"
        )
    kind, width, height, max_value = (int(group) for group in match.groups())
    if not 1 <= max_value <= 65535:
        raise ValueError(f"Expected a largest value of 1 to 65535. Received: {max_value}")
    bits = 8 if max_value < 256 else 16
    channels = 1 if kind == 5 else 3
    offset = match.end()
    length = offset + height * width * channels * bits // 8
    return ImageHeader("PNM", Size(height, width), channels, bits, max_value, offset, length)


def _png_is_complete(file: FileIO, length: int) -> bool:
    """Walks the chunks of a PNG, by seeking from length to length."""
    offset, has_data = len(PNG_MAGIC), False
    while offset + 12 <= length:
        file.seek(offset)
        size, name = struct.unpack(">I4s", file.read(8))
        offset += 12 + size
        has_data |= name == b"IDAT" and size > 0
        if name == b"IEND":
            return has_data
    return False


def _jpeg_is_complete(file: FileIO, start: int, length: int) -> bool:
    """Looks for the end marker behind `start`, from the end: some cameras append a film."""
    for end in range(length, start, -_BLOCK_BYTES):
        begin = max(start, end - _BLOCK_BYTES)
        file.seek(begin)
        if _JPEG_END in file.read(end - begin + 1):
            return True
    return False


def npy_size(path: Path, head: bytes, length: int, *, is_mask: bool = False) -> Size:
    """Size of a .npy of flow, float32 [H, W, 2], or of a mask; refuses any other.

    head: the first bytes of a file of `length` bytes. Pickles are never loaded.
    """
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except _NPY_ERRORS:
        version, shape, dtype = (0, 0), (), np.dtype(object)
    known = (np.dtype(np.uint8), np.dtype(np.bool_), np.dtype("<f4"), np.dtype(">f4"))
    if version != (1, 0) or dtype not in known or not all(type(side) is int for side in shape):
        raise DataError(
            f"Not a .npy that can be read: {path}. Expected version 1.0 of float32, uint8 or bool. "
            f"Received: {head[6:80]!r}."
        )
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if length != expected or min(shape, default=0) < 1:
        raise DataError(
            f"Empty, truncated or overlong .npy file: {path}. "
            f"Expected {expected} bytes for {list(shape)}. Received: {length}."
        )
    layout = "uint8 or bool [H, W]" if is_mask else "float32 [H, W, 2]"
    if (shape[2:], dtype.itemsize) != (((), 1) if is_mask else ((2,), 4)) or len(shape) < 2:
        raise DataError(
            f"Not the .npy that was expected: {path}. Expected {layout}. "
            f"Received: {dtype.name} {list(shape)}."
        )
    return Size(*shape[:2])


def graph_route(
    content: tf.Tensor, route: Callable[[bytes, int], tuple[int, ...]], count: int
) -> list[tf.Tensor]:
    """What a Python function says of a file, `count` numbers, int64, for the graph that decodes it.

    route: is given the first bytes of the file, and its length. All 0 if it refuses them.
    """

    def numbers(head: bytes, length: np.ndarray) -> np.ndarray:
        try:
            return np.array(route(head, int(length)), np.int64)
        except DataError:
            return np.zeros(count, np.int64)

    head = tf.strings.substr(content, 0, _GRAPH_HEAD_BYTES)
    found = tf.numpy_function(numbers, [head, tf.strings.length(content)], tf.int64)
    return tf.unstack(tf.ensure_shape(found, [count]))
