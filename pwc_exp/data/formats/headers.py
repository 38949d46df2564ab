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

HEAD_BYTES = 2**16  # holds the header of every format but some JPEG
MAX_PIXELS = 64 * 2**20
DEFLATE_RATIO = 1032  # deflate spends at least 2 bits on a copy of 258 bytes
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
NPY_MAGIC = b"\x93NUMPY"

_JPEG_RATIO = 512  # pixels per byte: a JPEG spends at least 1 bit on a block of 8 x 8
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD8)) | {0x01}  # no length follows
_PNM_HEADER = re.compile(rb"P([56])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")
# What NumPy raises for headers that it cannot parse.
_NPY_ERRORS = (
    *(ValueError, SyntaxError, TypeError, KeyError, tokenize.TokenError),
    *(RecursionError, MemoryError, OverflowError),
)


class Size(NamedTuple):
    """Height and width, in pixels."""

    height: int
    width: int


class ImageHeader(NamedTuple):
    """What the first bytes of an image say."""

    kind: str  # PNG, JPEG, BMP or PNM
    size: Size
    channels: int  # as stored; 1 for a palette
    max_value: int  # of the decoded numbers; above 255 they have 16 bits
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
        header = _parse(head)
        (height, width), least = header.size, header.least_length
        if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
            raise ValueError(f"Expected 1 to {MAX_PIXELS} pixels. Received: {width} x {height}")
        if length < least or (header.kind == "PNM" and length != least):
            raise ValueError(
                f"Truncated or overlong: expected {'' if header.kind == 'PNM' else 'at least '}"
                f"{least} bytes for {width} x {height}. Received: {length}"
            )
    except (ValueError, struct.error) as error:
        raise DataError(f"Not an image that can be read: {path}. {error}.") from None
    return header


def _parse(head: bytes) -> ImageHeader:
    if head.startswith(PNG_MAGIC):
        return _png_header(head)
    if head.startswith(JPEG_MAGIC):
        return _jpeg_header(head)
    if head.startswith(b"BM"):
        return _bmp_header(head)
    if match := _PNM_HEADER.match(head):
        return _pnm_header(match)
    raise ValueError(f"Expected PNG, JPEG, BMP, or binary PPM or PGM. Received: {head[:16]!r}")


def _png_header(head: bytes) -> ImageHeader:
    length, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", head, 8)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if name != b"IHDR" or length != 13 or channels is None:
        raise ValueError(f"Expected a PNG header. Received: {head[8:26]!r}")
    # TensorFlow's decoder widens 1, 2 and 4 bits, and the entries of a palette, to 8.
    max_value = 65535 if bits == 16 else 255
    least = height * (1 + (width * channels * bits + 7) // 8) // DEFLATE_RATIO
    return ImageHeader("PNG", Size(height, width), channels, max_value, 33, least)


def _jpeg_header(head: bytes) -> ImageHeader:
    # Stray bytes between markers are skipped, as libjpeg does, which decodes the file.
    offset = 2
    while match := _JPEG_MARKER.search(head, offset):
        marker, offset = match[1][0], match.end()
        if marker in _JPEG_SIZE_MARKERS:
            height, width, channels = struct.unpack_from(">HHB", head, offset + 3)
            least = height * width // _JPEG_RATIO
            return ImageHeader("JPEG", Size(height, width), channels, 255, offset, least)
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
    return ImageHeader("BMP", Size(abs(height), width), bits // 8, 255, offset, least)


def _pnm_header(match: re.Match[bytes]) -> ImageHeader:
    kind, width, height, max_value = (int(group) for group in match.groups())
    if not 1 <= max_value <= 65535:
        raise ValueError(f"Expected a largest value of 1 to 65535. Received: {max_value}")
    channels = 1 if kind == 5 else 3
    length = match.end() + height * width * channels * (1 if max_value < 256 else 2)
    return ImageHeader("PNM", Size(height, width), channels, max_value, match.end(), length)


def npy_size(path: Path, head: bytes, length: int, *, is_mask: bool = False) -> Size:
    """Size of a .npy of flow, float32 [H, W, 2], or of a mask; refuses any other.

    head: the first bytes of a file of `length` bytes. Pickles are never loaded.
    """
    layout = "uint8 or bool [H, W]" if is_mask else "float32 [H, W, 2]"
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except _NPY_ERRORS:
        version, shape, dtype = (0, 0), (), np.dtype(object)
    kinds, channels = (("u1", "?"), ()) if is_mask else (("<f4", ">f4"), (2,))
    has_sides = len(shape) >= 2 and all(type(side) is int and side > 0 for side in shape)
    if version != (1, 0) or dtype not in kinds or not has_sides or shape[2:] != channels:
        raise DataError(
            f"Not a .npy that can be read: {path}. Expected {layout}, version 1.0. "
            f"Received: {head[6:80]!r}."
        )
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if length != expected:
        raise DataError(
            f"Truncated or overlong .npy file: {path}. Expected {expected} bytes for "
            f"{list(shape)}. Received: {length}."
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

    head = tf.strings.substr(content, 0, HEAD_BYTES)
    found = tf.numpy_function(numbers, [head, tf.strings.length(content)], tf.int64)
    return tf.unstack(tf.ensure_shape(found, [count]))
