"""Frames and masks on disk: PNG, JPEG, BMP, and binary PPM and PGM; masks also as .npy.

The first bytes determine the format, never the name. One rule makes every frame RGB: grey is
repeated, palettes are looked up, alpha is dropped, the largest value of the format becomes 1.
EXIF rotation is not applied (the pixels are taken as they are stored). Bytes after the end mark of
a PNG or JPEG are not looked at. JPEG has no checksum: one that is cut off is refused, one damaged
inside may be read as other pixels.

`read_...` are for Python. `graph_...` are TensorFlow operations for tf.data maps: they read common
files without Python, to the same bits, and hand all others (rare formats, comments in headers, most
malformed files) to `read_...`, which reads or refuses them. An error inside a graph does not name
the file; `read_...`, called again, does.

Letters: H height, W width.
"""

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.arrays import NPY_MAGIC, npy_mask_size, read_npy_mask
from pwc_exp.data.formats.headers import (
    JPEG_MAGIC,
    JPEG_RATIO,
    PNG_MAGIC,
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
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

# Bits per channel and colour type (0 grey, 2 RGB, 3 palette), and the bits that a pixel takes.
# Those with alpha are left to Python, which warns that it is dropped.
_PNG_8 = {b"\x01\x00": 1, b"\x08\x00": 8, b"\x08\x02": 24, b"\x08\x03": 8}
_PNG_16 = {b"\x10\x00": 16, b"\x10\x02": 48}
_PPM_HEADER = r"^(P6\s\d{1,6}\s\d{1,6}\s255\s)\C*$"
_PGM_HEADER = r"^(P5\s\d{1,6}\s\d{1,6}\s255\s)\C*$"

# Traced once in a process, whatever reads files; one decoder takes most of a second.
per_file = tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])

_log = logging.getLogger(__name__)


def inspect_frame(path: Path) -> Size:
    """Size of an image whose file is complete; nothing is decoded."""
    return inspect_image(path).size


def inspect_mask(path: Path) -> Size:
    """Size of a mask, image or .npy, whose file is complete; nothing is decoded."""
    head, length = read_head(path)
    return npy_mask_size(path, head, length) if head.startswith(NPY_MAGIC) else inspect_frame(path)


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
        return read_npy_mask(path, content)
    header = read_header(path, content, len(content))
    return np.any(_decode(path, content, header), axis=-1)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of `image`, uint8: [H, W, 3] RGB, or [H, W, 1] grey."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"image must be uint8 [H, W, 3] or [H, W, 1]. Received: {image.dtype} {image.shape}"
        )
    write_file(path, tf.io.encode_png(image).numpy())


def run_decoder(path: Path, decode: Callable[..., tf.Tensor], *args: object) -> np.ndarray:
    """Calls one of TensorFlow's decoders; its complaint becomes one line with the path."""
    try:
        with tf.device("CPU"):
            return decode(*args).numpy()
    except tf.errors.OpError as error:
        reason = (error.message or "").splitlines()[0]
        raise DataError(f"Truncated or damaged image: {path}. {reason}") from None


def _decode(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
    """Decodes any image, [H, W, 3], of the numbers 0 .. header.max_value."""
    if header.kind == "PNG":
        return run_decoder(path, _decode_png, content, header.bits)
    if header.kind == "JPEG":
        return run_decoder(path, _decode_jpeg, content)
    if header.kind == "BMP":
        return run_decoder(path, tf.io.decode_bmp, content)[..., :3]
    height, width = header.size
    dtype = np.dtype(np.uint8 if header.bits == 8 else ">u2")
    pixels = np.frombuffer(content, dtype, offset=header.offset)
    pixels = pixels.reshape(height, width, header.channels)
    if pixels.max() > header.max_value:
        raise DataError(
            f"Image value out of range: {path}. Expected at most {header.max_value}. "
            f"Received: {pixels.max()}."
        )
    return np.broadcast_to(pixels, (height, width, 3))


def _decode_png(content: tf.Tensor | bytes, bits: int) -> tf.Tensor:
    return tf.io.decode_png(content, channels=3, dtype=tf.uint16 if bits == 16 else tf.uint8)


def _decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


@cache
def _warn_of_dropped_alpha() -> None:
    _log.warning("Some frames have an alpha channel: it is dropped.")


@per_file
def graph_frame(path: tf.Tensor) -> tf.Tensor:
    """Reads the image at `path`, a string: [H, W, 3] float32 RGB in [0, 1]."""
    content = tf.io.read_file(path)

    def read() -> tf.Tensor:
        return in_python(lambda name: [read_frame(name)], path, [tf.float32])[0]

    frame = tf.case(
        [
            (starts_with(content, PNG_MAGIC), lambda: _png_frame(content, read)),
            (starts_with(content, JPEG_MAGIC), lambda: _jpeg_frame(content, read)),
            (starts_with(content, b"P6"), lambda: _pnm_frame(content, _PPM_HEADER, 3, read)),
            (starts_with(content, b"P5"), lambda: _pnm_frame(content, _PGM_HEADER, 1, read)),
        ],
        default=read,
    )
    return tf.ensure_shape(frame, [None, None, 3])


@per_file
def graph_mask(path: tf.Tensor) -> tf.Tensor:
    """Reads the mask at `path`, a string: [H, W] bool, true where it is not zero."""
    content = tf.io.read_file(path)

    def read() -> tf.Tensor:
        return in_python(lambda name: [read_mask(name)], path, [tf.bool])[0]

    def decode() -> tf.Tensor:
        return tf.reduce_max(_decode_png(content, 8), axis=-1) > 0

    mask = tf.cond(
        starts_with(content, PNG_MAGIC),
        lambda: tf.cond(graph_png_header(content, _PNG_8).usable, decode, read),
        read,
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


def _png_frame(content: tf.Tensor, read: Callable[[], tf.Tensor]) -> tf.Tensor:
    header = graph_png_header(content, _PNG_8 | _PNG_16)
    deep = tf.equal(tf.strings.substr(graph_head(content), 24, 1), b"\x10")
    return tf.case(
        [(~header.usable, read), (deep, lambda: scaled(_decode_png(content, 16), 65535.0))],
        default=lambda: scaled(_decode_png(content, 8), 255.0),
    )


def _jpeg_frame(content: tf.Tensor, read: Callable[[], tf.Tensor]) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(content, tf.int64)
    height, width = shape[0], shape[1]
    usable = in_range(height, width) & (height * width // JPEG_RATIO <= graph_length(content))
    return tf.cond(usable, lambda: scaled(_decode_jpeg(content), 255.0), read)


def _pnm_frame(
    content: tf.Tensor, pattern: str, channels: int, read: Callable[[], tf.Tensor]
) -> tf.Tensor:
    header = graph_text_header(content, pattern, channels)

    def decode() -> tf.Tensor:
        pixels = tf.io.decode_raw(content, tf.uint8)[header.offset :]
        frame = tf.reshape(pixels, tf.concat([header.shape, [channels]], 0))
        return tf.repeat(scaled(frame, 255.0), 3 // channels, axis=-1)

    return tf.cond(header.usable, decode, read)
