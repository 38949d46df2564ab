"""Frames and masks on disk: PNG, JPEG, BMP, and binary PPM and PGM; masks also as .npy.

The format is told by the first bytes, never by the name. One rule makes every frame RGB: grey is
repeated, palettes are looked up, alpha is dropped, the largest value of the format becomes 1.
EXIF rotation is not applied (the pixels are taken as they are stored). Bytes after the end mark of
a PNG or JPEG are not looked at. JPEG has no checksum: one that is cut off is refused, one damaged
inside may be read as other pixels.
"""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.files import HEAD_BYTES, length_of, open_file, read_bytes
from pwc_exp.data.formats.image_headers import ImageHeader, Size, inspect_image, read_header
from pwc_exp.data.formats.npy import NPY_MAGIC, npy_mask_size, read_npy_mask
from pwc_exp.errors import DataError
from pwc_exp.storage import write_file

_log = logging.getLogger(__name__)


def inspect_frame(path: Path) -> Size:
    """Size of an image whose file is complete; nothing is decoded."""
    return inspect_image(path).size


def inspect_mask(path: Path) -> Size:
    """Size of a mask, image or .npy, whose file is complete; nothing is decoded."""
    with open_file(path) as file:
        head, length = file.read(HEAD_BYTES), length_of(file)
    if head.startswith(NPY_MAGIC):
        return npy_mask_size(path, head, length)
    return inspect_frame(path)


def read_frame(path: Path) -> np.ndarray:
    """Reads an image as RGB, [H, W, 3] float32 in [0, 1]."""
    return decode_frame(path, read_bytes(path))


def decode_frame(path: Path, content: bytes) -> np.ndarray:
    """The image whose file `content` is, as `read_frame`; errors name it `path`."""
    header = read_header(path, content, len(content))
    if header.channels in (2, 4) and header.kind != "JPEG":
        _note_dropped_alpha()
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


def decode_png(path: Path, content: bytes, *, channels: int, bits: int) -> np.ndarray:
    """Decodes a PNG, [H, W, channels] uint8 or (16 bits) uint16."""
    return _run(path, tf.io.decode_png, content, channels, tf.uint16 if bits == 16 else tf.uint8)


def decode_jpeg(content: tf.Tensor | bytes) -> tf.Tensor:
    """Decodes a JPEG, [H, W, 3] uint8; a tensor of text gives an operation of a graph."""
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def _decode(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
    """Decodes any image, [H, W, 3], of the numbers 0 .. header.max_value."""
    match header.kind:
        case "PNG":
            return decode_png(path, content, channels=3, bits=header.bits)
        case "JPEG":
            return _run(path, decode_jpeg, content)
        case "BMP":
            return _run(path, tf.io.decode_bmp, content)[..., :3]
        case "PNM":
            return _decode_pnm(path, content, header)
        case _:
            raise ValueError(f"Unknown kind of image: {header.kind}")


def _decode_pnm(path: Path, content: bytes, header: ImageHeader) -> np.ndarray:
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
