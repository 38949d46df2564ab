"""Examples kept on a fast disk: decoding files, or generating scenes, is paid once.

A record is a file that holds one example, to the last bit. It is written when the example is first
asked for, and memory-mapped from then on. All numbers are little-endian:

    magic, version, height, width, bits    5 int32
    identity                               16 bytes of the sha256 of the record's name
    checksum                               uint32, CRC-32 of all else in the file
    frame1, frame2                         uint8 or uint16 (bits) [H, W, 3], from byte 64 on
    flow                                   float32 [H, W, 2], from the next multiple of 64 on
    known                                  uint8 [H, W], 1: valid, 2: occluded, 3: both

A record is whole or absent, so a run that was killed, or other processes that fill the same folder,
leave nothing that could be mistaken for data. What is damaged, or another example's, is made anew.
"""

import hashlib
import logging
import mmap
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import scaled
from pwc_exp.errors import DataError
from pwc_exp.storage import check_space, make_folder, remove_leftovers, write_file

# To be raised with every change of the format, or of how files are read or scenes generated: the
# records of other versions are left alone.
VERSION = 2

_HEADER = struct.Struct("<5i16s")
_CHECKSUM = struct.Struct("<I")
_MAGIC = int.from_bytes(b"PWCr", "little")
_HEADER_BYTES = 64
_ALIGNMENT = 64  # TensorFlow takes arrays that begin there as they are, without a copy
_VALID, _OCCLUDED = 1, 2  # bits of `known`
_ABANDONED = 3600  # seconds after which no process can still be writing a record

_log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What is kept of an example, arrays or tensors."""

    frame1: tf.Tensor  # [H, W, 3] float32 RGB in [0, 1], multiples of 1/255 or of 1/65535
    frame2: tf.Tensor  # [H, W, 3]
    flow: tf.Tensor  # [H, W, 2] float32, pixels
    valid: tf.Tensor  # [H, W] float32, 0 or 1
    occlusion: tf.Tensor  # [H, W] float32, 1 where known to be hidden in, or outside of, frame2


class Content(NamedTuple):
    """The arrays of a record as they are stored."""

    frame1: np.ndarray  # [H, W, 3 or 6] uint8; 6: two bytes for each number of 16 bits
    frame2: np.ndarray
    flow: np.ndarray  # [H, W, 2] float32
    known: np.ndarray  # [H, W] uint8


class Cache:
    """Records of examples, which are filled in as they are asked for.

    names: of each example, a relative path without suffix; whatever its content depends on must
    change its name. Examples of one name share a record, whichever process asks for them.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._names = list(names)
        self._verified = np.zeros(len(names), bool)  # whose checksums this process has compared

    def path(self, index: int) -> Path:
        """The file of record `index`."""
        return self.folder / f"v{VERSION}" / f"{self._names[index]}.rec"

    def prepare(self, size: Size) -> None:
        """Prints how many records are there, and makes sure that the others can be added.

        size: (height, width) of an example, of which the space that is needed is estimated.
        """
        total = len(self._names)
        parents = {self.path(index).parent for index in range(total)}
        there = {entry for parent in parents if parent.is_dir() for entry in parent.iterdir()}
        missing = sum(self.path(index) not in there for index in range(total))
        if not missing:  # also where nothing may be written
            return
        needed = missing * (_flow_offset(size, 8) + 9 * size.height * size.width)
        check_space(self.folder, needed)
        for parent in parents:
            make_folder(parent)
            remove_leftovers(parent, older_than=_ABANDONED)
        tqdm.write(
            f"{self.folder}: {total - missing} of {total} examples are cached; the others are "
            f"added as they are read, about {needed / 1e9:.1f} GB",
            file=sys.stderr,
        )

    def get(self, index: tf.Tensor, make: Callable[[], Record]) -> Record:
        """Record `index`, a scalar; where there is none, or a damaged one, what `make` returns.

        For a `tf.data` map. A record that cannot be written raises an OpError; `write` says why.
        """

        def read(number: np.ndarray) -> tuple[Any, ...]:
            content = self.read(int(number))
            return (*(content or _parts(_HEADER_BYTES * b"\0", Size(0, 0), 8)), content is not None)

        def write(number: np.ndarray, *parts: np.ndarray) -> bool:
            self.write(int(number), Record(*parts))
            return True

        def make_and_write() -> Record:
            record = make()
            with tf.control_dependencies([tf.numpy_function(write, [index, *record], tf.bool)]):
                return Record(*(tf.identity(part) for part in record))

        types = (tf.uint8, tf.uint8, tf.float32, tf.uint8, tf.bool)
        *parts, found = tf.numpy_function(read, [index], types)
        for part, rank in zip((*parts, found), (3, 3, 3, 2, 0), strict=True):
            part.set_shape([None] * rank)
        record = tf.cond(found, lambda: _as_record(Content(*parts)), make_and_write)
        for part, channels in zip(record, ((3,), (3,), (2,), (), ()), strict=True):
            part.set_shape((None, None, *channels))
        return record

    def read(self, index: int) -> Content | None:
        """Maps record `index`; None where there is none, or one that has to be made anew.

        Why it has to is logged. Its checksum is compared when this process reads it first.
        """
        path = self.path(index)
        try:
            with path.open("rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            content = _parse(data, self._names[index], verify=not self._verified[index])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            _log.warning("%s is made anew: %s", path, error)
            return None
        self._verified[index] = True
        return content

    def write(self, index: int, record: Record) -> None:
        """Writes record `index`, of arrays."""
        try:
            frames = _as_integers(np.stack([record.frame1, record.frame2]))
        except ValueError as error:
            raise DataError(f"{self._names[index]} cannot be cached: {error}.") from None
        known = (_VALID * record.valid + _OCCLUDED * record.occlusion).astype(np.uint8)
        size, bits = Size(*known.shape), 8 * frames.itemsize
        body = frames.tobytes().ljust(_flow_offset(size, bits) - _HEADER_BYTES, b"\0")
        body += record.flow.astype("<f4").tobytes() + known.tobytes()
        header = _HEADER.pack(_MAGIC, VERSION, *size, bits, _identity(self._names[index]))
        header += _CHECKSUM.pack(crc32(body, crc32(header)))
        path = self.path(index)
        make_folder(path.parent)
        write_file(path, header.ljust(_HEADER_BYTES, b"\0") + body)


def _flow_offset(size: Size, bits: int) -> int:
    frames = 6 * size.height * size.width * bits // 8
    return -(-(_HEADER_BYTES + frames) // _ALIGNMENT) * _ALIGNMENT


def _parse(data: memoryview, name: str, *, verify: bool) -> Content:
    """The parts of a file; verify: compares its checksum, too."""
    if len(data) < _HEADER_BYTES:
        raise ValueError("it is truncated")
    header = data[: _HEADER.size]
    magic, version, height, width, bits, identity = _HEADER.unpack(header)
    if (magic, version) != (_MAGIC, VERSION) or bits not in (8, 16) or min(height, width) <= 0:
        raise ValueError(f"it is not a record of version {VERSION}")
    if identity != _identity(name):
        raise ValueError("it is the record of another example")
    size = Size(height, width)
    expected = _flow_offset(size, bits) + 9 * height * width
    if len(data) != expected:
        raise ValueError(f"it has {len(data)} bytes instead of {expected}")
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if verify and crc32(data[_HEADER_BYTES:], crc32(header)) != checksum:
        raise ValueError("it is damaged")
    return _parts(data, size, bits)


def _parts(data: memoryview | bytes, size: Size, bits: int) -> Content:
    parts, pixels = np.frombuffer(data, np.uint8), size.height * size.width
    frames = parts[_HEADER_BYTES : _HEADER_BYTES + 6 * pixels * bits // 8]
    frame1, frame2 = frames.reshape(2, *size, 3 * bits // 8)
    start = _flow_offset(size, bits)
    return Content(
        frame1,
        frame2,
        parts[start : start + 8 * pixels].view("<f4").reshape(*size, 2),
        parts[start + 8 * pixels :].reshape(size),
    )


def _identity(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def _as_integers(frames: np.ndarray) -> np.ndarray:
    """The integers, of 8 or 16 bits, that `_as_floats` turns into `frames` again."""
    for largest, dtype in ((255, "u1"), (65535, "<u2")):
        with np.errstate(invalid="ignore"):  # NaN is refused with the rest
            integers = np.rint(np.clip(frames, 0, 1) * np.float32(largest)).astype(dtype)
        if np.array_equal(integers.astype(np.float32) / np.float32(largest), frames):
            return integers
    raise ValueError("expected frames of 8 or 16 bits, of multiples of 1/255 or 1/65535")


def _as_record(content: Content) -> Record:
    """Tensors of a record."""
    valid, occlusion = (
        tf.cast(tf.bitwise.bitwise_and(content.known, bit) > 0, tf.float32)
        for bit in (_VALID, _OCCLUDED)
    )
    # Each on its own: to scale both and part them takes twice as long.
    frame1, frame2 = _as_floats(content.frame1), _as_floats(content.frame2)
    return Record(frame1, frame2, content.flow, valid, occlusion)


def _as_floats(frame: tf.Tensor) -> tf.Tensor:
    """[H, W, 3] float32 in [0, 1] of the stored bytes, [H, W, 3 or 6] uint8."""

    def of_16_bits() -> tf.Tensor:
        pairs = tf.reshape(frame, tf.concat([tf.shape(frame)[:2], [3, 2]], axis=0))
        return scaled(tf.bitcast(pairs, tf.uint16), 65535.0)

    return tf.cond(tf.shape(frame)[2] == 3, lambda: scaled(frame, 255.0), of_16_bits)
