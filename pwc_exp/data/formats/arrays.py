"""Flow and masks as arrays: NumPy's .npy, as TartanAir has it, and .flo5, the HDF5 of Spring.

Pickles are never loaded. HDF5 can name other files, run plug-ins, and return zeros for what was
never written or is not found; and h5py returns whatever is in memory where a chunk inflates to
fewer bytes than it should (seen with HDF5 1.14.6). So the library only says where the chunks are;
each must be there, and is inflated here.

Letters: H height, W width.
"""

import io
import itertools
import math
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pwc_exp.data.formats.headers import DEFLATE_RATIO, MAX_PIXELS, Size, read_head
from pwc_exp.errors import DataError

NPY_MAGIC = b"\x93NUMPY"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

# What NumPy raises for headers that it cannot parse.
_NPY_ERRORS = (
    *(ValueError, SyntaxError, TypeError, KeyError, tokenize.TokenError),
    *(RecursionError, MemoryError, OverflowError),
)
_NAME = "flow"
_FLO5_DTYPES = [(h5py.h5t.IEEE_F32LE, np.dtype("<f4")), (h5py.h5t.IEEE_F32BE, np.dtype(">f4"))]
_GZIP, _SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE


def npy_flow_size(path: Path, head: bytes, length: int) -> Size:
    """Size of a .npy flow, from the beginning of the file and its length in bytes."""
    shape, dtype = _npy_header(path, head, length)
    if shape[2:] != (2,) or dtype.newbyteorder("=") != np.float32:
        raise _refused(path, "float32 [H, W, 2]", shape, dtype)
    return Size(*shape[:2])


def npy_mask_size(path: Path, head: bytes, length: int) -> Size:
    """Size of a .npy mask, from the beginning of the file and its length in bytes."""
    shape, dtype = _npy_header(path, head, length)
    if len(shape) != 2 or dtype not in (np.uint8, np.bool_):
        raise _refused(path, "uint8 or bool [H, W]", shape, dtype)
    return Size(*shape)


def read_npy_flow(path: Path, content: bytes) -> np.ndarray:
    """Reads flow, [H, W, 2] float32, in pixels."""
    npy_flow_size(path, content, len(content))
    return np.load(io.BytesIO(content), allow_pickle=False).astype(np.float32)


def read_npy_mask(path: Path, content: bytes) -> np.ndarray:
    """Reads a mask, [H, W] bool: true where the number is not zero."""
    npy_mask_size(path, content, len(content))
    mask: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False).view(np.uint8) != 0
    return mask


def encode_npy(flow: np.ndarray) -> bytes:
    """Encodes flow, [H, W, 2] float32."""
    stream = io.BytesIO()
    np.save(stream, flow, allow_pickle=False)
    return stream.getvalue()


def _npy_header(path: Path, head: bytes, length: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array of version 1.0 that is as long as its file."""
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
    return shape, dtype


def _refused(path: Path, expected: str, shape: tuple[int, ...], dtype: np.dtype) -> DataError:
    return DataError(
        f"Not the .npy that was expected: {path}. Expected {expected}. "
        f"Received: {dtype.name} {list(shape)}."
    )


def inspect_flo5(path: Path) -> Size:
    """Size of a flow that its file has room for; nothing is decoded."""
    with _open_flo5(path) as data:
        return Size(*data.shape[:2])


def read_flo5(path: Path) -> np.ndarray:
    """Reads flow, [H, W, 2] float32, in pixels, NaN where it is unknown."""
    with _open_flo5(path) as data:
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
def _open_flo5(path: Path) -> Iterator[h5py.Dataset]:
    """Yields the data set of the flow; what h5py says of a damaged file becomes one line."""
    _, length = read_head(path)
    try:
        # Unlocked: a data set may be on a file system that cannot be written or locked.
        with h5py.File(path, "r", locking=False) as file:
            data = _flow_of(file)
            _check_storage(data, length)
            yield data
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"Not a .flo5 file that can be read: {path}. {reason}.") from None


def _flow_of(file: h5py.File) -> h5py.Dataset:
    if not isinstance(file.get(_NAME, getlink=True), h5py.HardLink):
        raise ValueError(f"Expected a data set {_NAME}. Received: {list(file)[:5]}")
    data = file[_NAME]
    if not isinstance(data, h5py.Dataset) or data.shape is None:
        raise ValueError(f"Expected {_NAME} to be a data set of numbers")
    if _stored_dtype(data) is None or len(data.shape) != 3 or data.shape[2] != 2:
        raise ValueError(f"Expected float32 [H, W, 2]. Received: {data.dtype} {list(data.shape)}")
    if not 0 < data.shape[0] * data.shape[1] <= MAX_PIXELS:
        raise ValueError(f"Expected 1 to {MAX_PIXELS} pixels. Received: {list(data.shape)}")
    return data


def _stored_dtype(data: h5py.Dataset) -> np.dtype | None:
    # The dtype that h5py states is the nearest one of NumPy, which is not good enough.
    stored = data.id.get_type()
    return next((dtype for known, dtype in _FLO5_DTYPES if stored.equal(known)), None)


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
    return np.frombuffer(content, _stored_dtype(data)).reshape(data.chunks)
