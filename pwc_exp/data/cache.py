"""Decoded samples kept on a fast disk: decoding, and a slow disk, are paid once.

A record holds one sample as it was read, to the last bit. All numbers are little-endian:

    magic, version, height, width, bits    int32
    frame1, frame2                         uint8 or uint16 (bits) [H, W, 3]
    flow                                   float32 [H, W, 2]
    valid                                  uint8 [H, W]
    checksum of all of this                int64

Record n of a data set lies in <folder>/<key>/<n div 1000>/<n>.rec; other files have another key.

Letters: H height, W width.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.conversion import Job, Outcome, convert
from pwc_exp.data.sample import Example, Sample
from pwc_exp.durable import write_file
from pwc_exp.errors import DataError, MissingInputError

# To be raised with every change of what is stored, or of how the files of a sample are read.
VERSION = 1

_HEADER = struct.Struct("<5i")
_CHECKSUM = struct.Struct("<q")
_MAGIC = int.from_bytes(b"PWCr", "little")

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # of one pair, as in `Example`


def key_of(samples: Sequence[Sample]) -> str:
    """Tells data sets apart: their ids, and the names, sizes and times of all their files.

    No file is opened. Moving a data set with its times keeps the key.
    """
    files = [_files(sample) for sample in samples]
    paths = [path for roles in files for path in roles if path]
    root = os.path.commonpath([os.path.abspath(path.parent) for path in paths]) if paths else ""
    digest = hashlib.sha256(f"{VERSION}\n".encode())
    for sample, roles in zip(samples, files, strict=True):
        states = [path and (os.path.relpath(path, root), *_state(path)) for path in roles]
        digest.update(f"{sample.id!r} {sample.flow_stride} {states}\n".encode())
    return digest.hexdigest()[:16]


def record_path(folder: Path, index: int) -> Path:
    """Where record `index` lies in the folder of its data set, <folder>/<key>."""
    return folder / f"{index // 1000:04d}" / f"{index:06d}.rec"


def fill(
    samples: Sequence[Sample],
    read: Callable[[Sample], Arrays],
    folder: Path,
    *,
    workers: int,
) -> Outcome:
    """Writes the records of `samples` that are not yet in `folder`, which is <folder>/<key>.

    Raises:
        OutputError: a record cannot be written, because the disk is full for example.
    """

    def make(sample: Sample, path: Path) -> None:
        frame1, frame2, flow, valid = read(sample)
        try:
            write_record(path, frame1, frame2, flow, valid)
        except ValueError as error:
            raise DataError(f"{sample.frame1} cannot be cached: {error}.") from None

    jobs = [Job(sample, record_path(folder, index)) for index, sample in enumerate(samples)]
    return convert(jobs, make, folder=folder, workers=workers, label="cache")


def write_record(
    path: Path, frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, valid: np.ndarray
) -> None:
    """Writes one record.

    Raises:
        ValueError: it could not be read back as it is: a frame is not of 8 or of 16 bits, say.
    """
    height, width = valid.shape
    size = (height, width)
    if (frame1.shape, frame2.shape, flow.shape) != ((*size, 3), (*size, 3), (*size, 2)):
        shapes = [array.shape for array in (frame1, frame2, flow, valid)]
        raise ValueError(f"expected frames, flow and valid of one size. Received: {shapes}")
    if not np.isin(valid, (0, 1)).all():
        raise ValueError("expected a valid mask of 0 and 1")
    bits, frames = _as_integers(np.stack([frame1, frame2]))
    body = (
        _HEADER.pack(_MAGIC, VERSION, height, width, bits)
        + frames.tobytes()
        + flow.astype("<f4").tobytes()
        + valid.astype(np.uint8).tobytes()
    )
    write_file(path, body + _CHECKSUM.pack(int(_checksum(body))))


def read_record(path: tf.Tensor) -> Example:
    """Reads the record at `path`, a scalar string, with TensorFlow's operations alone.

    What is not a whole and undamaged record raises InvalidArgumentError; `check_record` tells
    the same in words for the user.
    """
    content = tf.io.read_file(path)
    # Where the file is shorter than a header, zeros.
    header = tf.io.decode_raw([content], tf.int32, fixed_length=_HEADER.size)[0]
    height, width, bits = header[2], header[3], header[4]
    frames_end = _HEADER.size + 6 * height * width * (bits // 8)
    flow_end = frames_end + 8 * height * width
    end = flow_end + height * width
    known = tf.reduce_all(header[:2] == [_MAGIC, VERSION]) & ((bits == 8) | (bits == 16))
    whole = tf.strings.length(content) == end + _CHECKSUM.size
    content = _require(known & whole, path, content)
    body = tf.strings.substr(content, 0, end)
    checksum = tf.io.decode_raw(tf.strings.substr(content, end, _CHECKSUM.size), tf.int64)[0]
    data = tf.io.decode_raw(_require(_checksum(body) == checksum, path, body), tf.uint8)

    frames = _as_floats(data[_HEADER.size : frames_end], bits)
    frame1, frame2 = tf.unstack(tf.reshape(frames, [2, height, width, 3]))
    flow = tf.bitcast(tf.reshape(data[frames_end:flow_end], [height, width, 2, 4]), tf.float32)
    valid = tf.cast(tf.reshape(data[flow_end:], [height, width]), tf.float32)
    return Example(frame1, frame2, flow, valid)


def check_record(path: Path) -> None:
    """Reads a record.

    Raises:
        MissingInputError: there is none.
        DataError: it is damaged or of another version.
    """
    try:
        read_record(tf.constant(str(path)))
    except tf.errors.NotFoundError:
        raise MissingInputError(f"No such file: {path}.") from None
    except tf.errors.OpError:
        raise DataError(f"Damaged record: {path}. Delete it, and it is made again.") from None


def _files(sample: Sample) -> tuple[Path | None, ...]:
    return (sample.frame1, sample.frame2, sample.flow, sample.valid, sample.invalid)


def _state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change, in nanoseconds."""
    try:
        status = path.stat()
    except OSError as error:
        raise MissingInputError(f"{path}: {error.strerror}.") from None
    return status.st_size, status.st_mtime_ns


def _as_integers(frames: np.ndarray) -> tuple[int, np.ndarray]:
    """Bits, and the integers that `_as_floats` turns into `frames` again."""
    for bits, dtype in ((8, "u1"), (16, "<u2")):
        largest = np.float32(2**bits - 1)
        with np.errstate(invalid="ignore"):  # NaN is refused with the rest
            integers = np.rint(np.clip(frames, 0, 1) * largest).astype(dtype)
        if np.array_equal(integers.astype(np.float32) / largest, frames):
            return bits, integers
    raise ValueError("expected frames of 8 or 16 bits, of multiples of 1/255 or 1/65535")


def _as_floats(data: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Turns bytes, [N bits / 8] uint8, into [N] float32 in [0, 1]."""
    integers = tf.cond(
        bits == 8,
        lambda: tf.cast(data, tf.float32),
        lambda: tf.cast(tf.bitcast(tf.reshape(data, [-1, 2]), tf.uint16), tf.float32),
    )
    # A division, as in read_frame: a product with 1/255 differs in the last bit.
    return integers / tf.cast(2**bits - 1, tf.float32)


def _checksum(body: tf.Tensor) -> tf.Tensor:
    """A scalar int64 of a scalar string; TensorFlow promises that it never changes."""
    return tf.strings.to_hash_bucket_fast(body, 2**63 - 1)


def _require(condition: tf.Tensor, path: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Gives `value` once `condition` holds."""
    with tf.control_dependencies([tf.debugging.Assert(condition, ["Damaged record:", path])]):
        return tf.identity(value)
