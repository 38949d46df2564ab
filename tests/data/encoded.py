"""Tiny files as bytes, so that a test can damage them: frames and flow of 3 rows, 5 columns."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

HEIGHT, WIDTH = 3, 5
FLO_MAGIC = struct.pack("<f", 202021.25)


def some_flow() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 20, (HEIGHT, WIDTH, 2)).astype(np.float32)


def some_image(channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(1).integers(0, high, (HEIGHT, WIDTH, channels)).astype(dtype)


def png(image: np.ndarray) -> bytes:
    return bytes(tf.io.encode_png(image).numpy())


def raw_png(
    inflated: bytes, width: int = WIDTH, height: int = HEIGHT, bits: int = 8, colour: int = 2
) -> bytes:
    """A PNG whose checksums are right, whatever its size and its data say."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(inflated)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(image: np.ndarray) -> bytes:
    return bytes(tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy())


def bmp(image: np.ndarray, bits: int = 24, compression: int = 0) -> bytes:
    rows = image[::-1, :, ::-1].reshape(image.shape[0], -1)  # bottom-up, blue first
    pixels = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    header = struct.pack("<IIiiHHIIiiII", 54, 40, WIDTH, HEIGHT, 1, bits, compression, *[0] * 5)
    return b"BM" + struct.pack("<IHH", 54 + len(pixels), 0, 0) + header + pixels


def ppm(image: np.ndarray, header: bytes = b"P6\n5 3\n255\n") -> bytes:
    return header + image.astype(">u2" if image.dtype == np.uint16 else np.uint8).tobytes()


def flo(flow: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return FLO_MAGIC + struct.pack("<ii", width, height) + flow.astype("<f4").tobytes()


def pfm(flow: np.ndarray, header: bytes = b"PF\n5 3\n-1.0\n", order: str = "<") -> bytes:
    rows = np.dstack([flow, np.full(flow.shape[:2], 7)])[::-1]
    return header + rows.astype(f"{order}f4").tobytes()


def kitti(flow: np.ndarray) -> bytes:
    """KITTI's PNG; pixel (1, 2), row and column, is unknown."""
    raw = np.dstack([flow * 64 + 32768, np.ones(flow.shape[:2])]).astype(np.uint16)
    raw[1, 2, 2] = 0
    return png(raw)


def flo5(flow: np.ndarray, name: str = "flow", **options: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset(name, data=flow, **{"compression": "gzip", **options})
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def assert_same(received: Any, expected: Any, name: object = None) -> None:
    """Equal in dtype, shape and every bit; tells -0 from 0."""
    assert same(received, expected), name


def same(received: Any, expected: Any) -> bool:
    both = [x if isinstance(x, (list, tuple)) else [x] for x in (received, expected)]
    arrays = [[np.asarray(array) for array in arrays] for arrays in both]
    return all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(*arrays, strict=True)
    )


def assert_graph_agrees(
    graph: Any, read: Callable[[Path], Any], contents: dict[str, bytes], folder: Path
) -> None:
    """Called alone and in a pipeline, a graph reader returns the bits of a Python reader."""
    paths = [folder / name for name in contents]
    for path in paths:
        path.write_bytes(contents[path.name])
    # A division by a constant was seen to differ in a compiled function only.
    mapped = tf.data.Dataset.from_tensor_slices(list(map(str, paths))).map(graph)
    for path, in_pipeline in zip(paths, mapped, strict=True):
        assert_same(graph(str(path)), read(path), path.name)
        assert_same(in_pipeline, read(path), path.name)
