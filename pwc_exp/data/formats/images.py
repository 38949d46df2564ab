"""Frames and masks on disk: PNG, JPEG, BMP, and binary PPM and PGM; masks also as .npy.

The first bytes determine the format, never the name. One rule makes every frame RGB: grey is
repeated, palettes are looked up, alpha is dropped, the largest value of the format becomes 1.
EXIF rotation is not applied (the pixels are taken as they are stored). Bytes after the end mark of
a PNG or JPEG are not looked at. JPEG has no checksum: one that is cut off is refused, one damaged
inside may be read as other pixels.

`read_...` are for Python. `graph_...` are TensorFlow operations for tf.data maps: they decode
common files without Python, to the same bits, and hand all others (rare formats, malformed headers)
to `read_...`, which reads or refuses them. An error inside a graph does not name the file;
`read_...`, called again, does.
"""

import io
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import FileIO
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.headers import (
    HEAD_BYTES,
    JPEG_MAGIC,
    NPY_MAGIC,
    PNG_MAGIC,
    ImageHeader,
    Size,
    graph_route,
    npy_size,
    open_file,
    read_bytes,
    read_head,
    read_header,
)
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

# Traced once in a process, whatever reads files; one decoder takes most of a second.
per_file = tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])

_log = logging.getLogger(__name__)


def inspect_frame(path: Path) -> Size:
    """Size of an image whose file is complete; nothing is decoded."""
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
        if head.startswith(JPEG_MAGIC):  # the size may be behind metadata, the end before a film
            head += file.readall()
        header = read_header(path, head, length)
        if header.kind == "PNG" and not _png_is_complete(file, length):
            raise DataError(f"Truncated image: {path}. Expected PNG chunks up to IEND.")
        if header.kind == "JPEG" and head.find(b"\xff\xd9", header.offset) < 0:
            raise DataError(f"Truncated image: {path}. Expected a JPEG end marker.")
    return header.size


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


def inspect_mask(path: Path) -> Size:
    """Size of a mask, image or .npy, whose file is complete; nothing is decoded."""
    head, length = read_head(path)
    if head.startswith(NPY_MAGIC):
        return npy_size(path, head, length, is_mask=True)
    return inspect_frame(path)


def read_frame(path: Path) -> np.ndarray:
    """Reads an image as RGB, [H, W, 3] float32 in [0, 1]."""
    return decode_frame(path, read_bytes(path))


def decode_frame(path: Path, content: bytes) -> np.ndarray:
    """The image whose file `content` is, as `read_frame`; errors name it `path`."""
    header = read_header(path, content, len(content))
    if header.channels in (2, 4) and header.kind != "JPEG":
        _warn_of_dropped_alpha()
    pixels = _decode(path, content, header)
    return pixels.astype(np.float32) / np.float32(header.max_value)


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask, [H, W] bool: true where any channel of an image, or a .npy, is not zero."""
    content = read_bytes(path)
    if content.startswith(NPY_MAGIC):
        npy_size(path, content, len(content), is_mask=True)
        return np.load(io.BytesIO(content), allow_pickle=False).view(np.uint8) != 0
    header = read_header(path, content, len(content))
    return np.any(_decode(path, content, header), axis=-1)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of `image`, uint8: [H, W, 3] RGB, or [H, W, 1] grey."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"image must be uint8 [H, W, 3] or [H, W, 1]. Received: {image.dtype} {image.shape}"
        )
    write_file(path, tf.io.encode_png(image).numpy())


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Decodes on the CPU; TensorFlow's complaint becomes one line with the path."""
    try:
        with tf.device("CPU"):
            yield
    except tf.errors.OpError as error:
        reason = (error.message or "").splitlines()[0]
        raise DataError(f"Truncated or damaged image: {path}. {reason}") from None


def _decode(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
    """Decodes any image, [H, W, 3], of the numbers 0 .. header.max_value."""
    if header.kind == "PNM":
        dtype = np.dtype(np.uint8 if header.max_value < 256 else ">u2")
        pixels = np.frombuffer(content, dtype, offset=header.offset)
        if pixels.max() > header.max_value:
            raise DataError(
                f"Image value out of range: {path}. Expected at most {header.max_value}. "
                f"Received: {pixels.max()}."
            )
        return np.broadcast_to(pixels.reshape(*header.size, header.channels), (*header.size, 3))
    with decoding(path):
        if header.kind == "PNG":
            return _decode_png(content, header.max_value).numpy()
        if header.kind == "JPEG":
            return _decode_jpeg(content).numpy()
        return tf.io.decode_bmp(content).numpy()[..., :3]


def _decode_png(content: tf.Tensor | bytes, max_value: int) -> tf.Tensor:
    return tf.io.decode_png(content, channels=3, dtype=tf.uint8 if max_value < 256 else tf.uint16)


def _decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


@cache
def _warn_of_dropped_alpha() -> None:
    _log.warning("Some frames have an alpha channel: it is dropped.")


# How a graph reads a frame: what is not listed is left to Python.
_BY_PYTHON, _PNG_8, _PNG_16, _JPEG, _PNM = range(5)
_KINDS = {("PNG", 255): _PNG_8, ("PNG", 65535): _PNG_16, ("JPEG", 255): _JPEG, ("PNM", 255): _PNM}


def _route(head: bytes, length: int) -> tuple[int, ...]:
    """How a graph reads an image; height, width and channels; where the pixels begin."""
    header = read_header(Path(), head, length)
    kind = _KINDS.get((header.kind, header.max_value), _BY_PYTHON)
    if header.kind == "PNG" and header.channels in (2, 4):  # Python warns that alpha is dropped
        kind = _BY_PYTHON
    return kind, *header.size, header.channels, header.offset


@per_file
def graph_frame(path: tf.Tensor) -> tf.Tensor:
    """Reads the image at `path`, a string: [H, W, 3] float32 RGB in [0, 1]."""
    content = tf.io.read_file(path)
    kind, height, width, channels, offset = graph_route(content, _route, 5)

    def pnm() -> tf.Tensor:
        pixels = tf.io.decode_raw(content, tf.uint8)[offset:]
        frame = tf.reshape(pixels, tf.stack([height, width, channels]))
        return tf.repeat(scaled(frame, 255.0), 3 // channels, axis=-1)

    readers = {
        _BY_PYTHON: lambda: in_python(lambda name: [read_frame(name)], path, [tf.float32])[0],
        _PNG_8: lambda: scaled(_decode_png(content, 255), 255.0),
        _PNG_16: lambda: scaled(_decode_png(content, 65535), 65535.0),
        _JPEG: lambda: scaled(_decode_jpeg(content), 255.0),
        _PNM: pnm,
    }
    frame = tf.switch_case(tf.cast(kind, tf.int32), readers)
    return tf.ensure_shape(frame, [None, None, 3])


@per_file
def graph_mask(path: tf.Tensor) -> tf.Tensor:
    """Reads the mask at `path`, a string: [H, W] bool, true where it is not zero."""
    content = tf.io.read_file(path)
    mask = tf.cond(
        graph_route(content, _route, 5)[0] == _PNG_8,
        lambda: tf.reduce_max(_decode_png(content, 255), axis=-1) > 0,
        lambda: in_python(lambda name: [read_mask(name)], path, [tf.bool])[0],
    )
    return tf.ensure_shape(mask, [None, None])


def in_python(
    read: Callable[[Path], list[np.ndarray]], path: tf.Tensor, dtypes: list[tf.DType]
) -> list[tf.Tensor]:
    """Calls a Python reader from a graph."""
    return tf.numpy_function(lambda name: read(Path(os.fsdecode(name))), [path], dtypes)


def scaled(levels: tf.Tensor, largest: float | tf.Tensor) -> tf.Tensor:
    """Whole numbers from 0 to `largest`, as float32 from 0 to 1, the same bits in any graph.

    Where the divisor is a constant, TensorFlow may multiply by 1 / largest, which rounds otherwise.
    """
    divisor = tf.raw_ops.PlaceholderWithDefault(input=largest, shape=[])
    return tf.cast(levels, tf.float32) / divisor
