""".flo5, the flow of Spring: HDF5 with one data set `flow`, [H, W, 2] float32, in gzip chunks.

HDF5 can name other files, run plug-ins, and give zeros for what was never written or is not found.
So the library only tells where the chunks are; each must be there, and is inflated here.
"""

import io
import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pwc_exp.data.formats.files import length_of, open_file
from pwc_exp.data.formats.image_headers import DEFLATE_RATIO, MAX_PIXELS, Size
from pwc_exp.errors import DataError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_NAME = "flow"
_DTYPES = [(h5py.h5t.IEEE_F32LE, np.dtype("<f4")), (h5py.h5t.IEEE_F32BE, np.dtype(">f4"))]
_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def inspect_flo5(path: Path) -> Size:
    """Size of a flow that its file has room for; nothing is decoded."""
    with _open(path) as data:
        return Size(*data.shape[:2])


def read_flo5(path: Path) -> np.ndarray:
    """Reads flow, [H, W, 2] float32, in pixels, NaN where it is unknown."""
    with _open(path) as data:
        flow = np.empty(data.shape, np.float32)
        for start in itertools.product(*map(range, (0, 0, 0), data.shape, data.chunks)):
            part = flow[tuple(slice(a, a + c) for a, c in zip(start, data.chunks, strict=True))]
            part[...] = _read_chunk(data, start)[tuple(map(slice, part.shape))]
    return flow


def encode_flo5(flow: np.ndarray) -> bytes:
    """Encodes flow, [H, W, 2] float32, as Spring does."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset(_NAME, data=flow, compression="gzip", compression_opts=5)
    return stream.getvalue()


@contextmanager
def _open(path: Path) -> Iterator[h5py.Dataset]:
    """Gives the data set of the flow; what h5py says of a damaged file becomes one line."""
    with open_file(path) as file:
        length = length_of(file)
    try:
        # Unlocked: a data set may lie on a file system that cannot be written or locked.
        with h5py.File(path, "r", locking=False) as file:
            data = _data_set(file)
            _check_storage(data, length)
            yield data
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"Not a .flo5 file that can be read: {path}. {reason}.") from None


def _data_set(file: h5py.File) -> h5py.Dataset:
    if not isinstance(file.get(_NAME, getlink=True), h5py.HardLink):
        raise ValueError(f"Expected a data set {_NAME}. Received: {list(file)[:5]}")
    data = file[_NAME]
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise ValueError(f"Expected {_NAME} to be a data set of numbers")
    if _dtype(data) is None or len(data.shape) != 3 or data.shape[2] != 2:
        raise ValueError(f"Expected float32 [H, W, 2]. Received: {data.dtype} {list(data.shape)}")
    if not 0 < data.shape[0] * data.shape[1] <= MAX_PIXELS:
        raise ValueError(f"Expected 1 to {MAX_PIXELS} pixels. Received: {list(data.shape)}")
    return data


def _dtype(data: h5py.Dataset) -> np.dtype | None:
    # The dtype that h5py states is the nearest one of NumPy, which is not good enough.
    stored = data.id.get_type()
    return next((dtype for known, dtype in _DTYPES if stored.equal(known)), None)


def _check_storage(data: h5py.Dataset, length: int) -> None:
    """Refuses other than gzip chunks inside this file, and more numbers than they can hold."""
    filters = _filters(data)
    if data.chunks is None or filters not in ([_GZIP], [_SHUFFLE, _GZIP]):
        raise ValueError(f"Expected chunks of gzip, shuffled or not. Received: filters {filters}")
    if any(c > s for c, s in zip(data.chunks, data.shape, strict=True)):
        raise ValueError(f"Expected chunks within {data.shape}. Received: {data.chunks}")
    count = math.prod(-(-s // c) for s, c in zip(data.shape, data.chunks, strict=True))
    if data.id.get_num_chunks() != count:
        raise ValueError(f"Expected {count} chunks. Received: {data.id.get_num_chunks()}")
    least, stored = count * _chunk_bytes(data) // DEFLATE_RATIO, data.id.get_storage_size()
    if not least <= stored <= length:
        raise ValueError(f"Expected {least} to {length} bytes of flow. Received: {stored}")


def _filters(data: h5py.Dataset) -> list[int]:
    properties = data.id.get_create_plist()
    return [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]


def _chunk_bytes(data: h5py.Dataset) -> int:
    return math.prod(data.chunks) * data.dtype.itemsize


def _read_chunk(data: h5py.Dataset, start: tuple[int, ...]) -> np.ndarray:
    """Reads the chunk that begins at `start`, of the shape data.chunks."""
    skipped_filters, stored = data.id.read_direct_chunk(start)
    size = _chunk_bytes(data)
    inflater = zlib.decompressobj()
    content = inflater.decompress(stored, size + 1)
    if skipped_filters or len(content) != size or not inflater.eof:
        raise ValueError(f"Expected {size} bytes in the chunk at {start}")
    if _SHUFFLE in _filters(data):
        # All first bytes of the numbers come first, then all second bytes, ...
        content = np.frombuffer(content, np.uint8).reshape(4, -1).T.tobytes()
    return np.frombuffer(content, _dtype(data)).reshape(data.chunks)
