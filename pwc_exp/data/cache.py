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

Letters: H height, W width.
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
    frame2: np.ndarray  # the same
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

        Raises:
            DiskFullError: fewer bytes are free.
            OutputError: the folder cannot be written.
        """
        total = len(self._names)
        parents = {self.path(index).parent for index in range(total)}
        there = {entry for parent in parents if parent.is_dir() for entry in parent.iterdir()}
        missing = sum(self.path(index) not in there for index in range(total))
        if not missing:  # also where nothing may be written
            return
        needed = missing * _layout(size, 8).end
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
            return (*(content or _NOTHING), content is not None)

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
        record = tf.cond(found, lambda: _unpack(Content(*parts)), make_and_write)
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
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            _log.warning("%s cannot be read and is made anew: %s", path, error)
            return None
        content = _parse(data, self._names[index], verify=not self._verified[index])
        if isinstance(content, str):
            _log.warning("%s %s and is made anew", path, content)
            return None
        self._verified[index] = True
        return content

    def write(self, index: int, record: Record) -> None:
        """Writes record `index`, of arrays.

        Raises:
            DataError: it could not be read back as it is: a frame is not of 8 or of 16 bits, say.
            OutputError: the disk is full, for example.
        """
        path = self.path(index)
        try:
            bits, frames = _as_integers(np.stack([record.frame1, record.frame2]))
        except ValueError as error:
            raise DataError(f"{self._names[index]} cannot be cached: {error}.") from None
        known = (_VALID * record.valid + _OCCLUDED * record.occlusion).astype(np.uint8)
        make_folder(path.parent)
        write_file(path, _pack(self._names[index], bits, frames, record.flow, known))


class _Layout(NamedTuple):
    """Where the parts of a record begin, in bytes."""

    flow: int
    known: int
    end: int


_NOTHING = Content(
    np.zeros((0, 0, 3), np.uint8),
    np.zeros((0, 0, 3), np.uint8),
    np.zeros((0, 0, 2), np.float32),
    np.zeros((0, 0), np.uint8),
)


def _layout(size: Size, bits: int) -> _Layout:
    pixels = size.height * size.width
    flow = -(-(_ALIGNMENT + 6 * pixels * bits // 8) // _ALIGNMENT) * _ALIGNMENT
    return _Layout(flow, flow + 8 * pixels, flow + 9 * pixels)


def _pack(name: str, bits: int, frames: np.ndarray, flow: np.ndarray, known: np.ndarray) -> bytes:
    """The content of a file; frames: [2, H, W, 3] integers of so many bits."""
    size = Size(*known.shape)
    layout = _layout(size, bits)
    header = _HEADER.pack(_MAGIC, VERSION, *size, bits, _identity(name))
    body = frames.tobytes().ljust(layout.flow - _ALIGNMENT, b"\0")
    body += flow.astype("<f4").tobytes() + known.astype(np.uint8).tobytes()
    checksum = _CHECKSUM.pack(crc32(body, crc32(header)))
    return (header + checksum).ljust(_ALIGNMENT, b"\0") + body


def _parse(data: memoryview, name: str, *, verify: bool) -> Content | str:
    """The parts of a file, or what is wrong with it; verify: also its checksum."""
    if len(data) < _ALIGNMENT:
        return "is truncated"
    header = data[: _HEADER.size]
    magic, version, height, width, bits, identity = _HEADER.unpack(header)
    known = bits in (8, 16) and min(height, width) > 0
    if magic != _MAGIC or version != VERSION or not known:
        return f"is not a record of version {VERSION}"
    if identity != _identity(name):
        return "is the record of another example"
    layout = _layout(Size(height, width), bits)
    if len(data) != layout.end:
        return f"has {len(data)} bytes instead of {layout.end}"
    if verify:
        (stored,) = _CHECKSUM.unpack_from(data, _HEADER.size)
        if crc32(data[_ALIGNMENT:], crc32(header)) != stored:
            return "is damaged"
    parts = np.frombuffer(data, np.uint8)
    frames = parts[_ALIGNMENT : _ALIGNMENT + 6 * height * width * bits // 8]
    frame1, frame2 = frames.reshape(2, height, width, 3 * bits // 8)
    return Content(
        frame1,
        frame2,
        parts[layout.flow : layout.known].view("<f4").reshape(height, width, 2),
        parts[layout.known :].reshape(height, width),
    )


def _identity(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def _as_integers(frames: np.ndarray) -> tuple[int, np.ndarray]:
    """Bits, and the integers that `_as_floats` turns into `frames` again."""
    for bits, dtype in ((8, "u1"), (16, "<u2")):
        largest = np.float32(2**bits - 1)
        with np.errstate(invalid="ignore"):  # NaN is refused with the rest
            integers = np.rint(np.clip(frames, 0, 1) * largest).astype(dtype)
        if np.array_equal(integers.astype(np.float32) / largest, frames):
            return bits, integers
    raise ValueError("expected frames of 8 or 16 bits, of multiples of 1/255 or 1/65535")


def _unpack(content: Content) -> Record:
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
