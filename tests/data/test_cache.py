"""The cache: what is read back equals what was made, to the last bit, or is made anew."""

import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import storage
from pwc_exp.data import cache as module
from pwc_exp.data.cache import Cache, Record
from pwc_exp.data.formats.headers import Size
from pwc_exp.errors import DataError, DiskFullError, OutputError

HEIGHT, WIDTH = 3, 5
DATA = 64  # byte where the frames begin


def some_record(largest: int = 255, seed: int = 0) -> Record:
    """A pair whose frames have `largest` + 1 levels; known nowhere in one corner."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, largest + 1, (2, HEIGHT, WIDTH, 3))
    frames[0, 0, 0] = (0, 1, largest)
    frame1, frame2 = frames.astype(np.float32) / np.float32(largest)
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[2, 3:] = 0
    flow = rng.normal(0, 20, (HEIGHT, WIDTH, 2)).astype(np.float32) * valid[..., None]
    occlusion = rng.integers(0, 2, (HEIGHT, WIDTH)).astype(np.float32)
    return Record(frame1, frame2, flow, valid, occlusion)


class Maker:
    """Makes records, and counts them."""

    def __init__(self, *records: Record) -> None:
        self.records = records
        self.made: list[int] = []

    def __call__(self, index: tf.Tensor) -> Record:
        def make(number: np.ndarray) -> list[np.ndarray]:
            self.made.append(int(number))
            return list(self.records[number])

        return Record(*tf.numpy_function(make, [index], [tf.float32] * len(Record._fields)))


def in_a_map(cache: Cache, maker: Maker, *indices: int) -> list[Record]:
    """Reads records as a pipeline does: the index is not known when the graph is made."""
    chosen = tf.data.Dataset.from_tensor_slices(tf.constant(indices, tf.int64))
    return list(chosen.map(lambda index: cache.get(index, lambda: maker(index))))


def assert_bits_equal(found: Record, expected: Record) -> None:
    for tensor, array in zip(found, expected, strict=True):
        assert tensor.dtype == tf.float32
        np.testing.assert_array_equal(tensor.numpy().view(np.int32), array.view(np.int32))


@pytest.mark.parametrize(("largest", "bytes_per_pixel"), [(255, 15), (65535, 21)])
def test_a_record_is_made_once_and_read_back_to_the_last_bit(
    largest: int, bytes_per_pixel: int, tmp_path: Path
) -> None:
    cache, maker = (
        Cache(tmp_path, ["set/a", "set/b"]),
        Maker(*map(partial(some_record, largest), (0, 1))),
    )
    for _ in range(2):
        for index, found in zip((1, 0), in_a_map(cache, maker, 1, 0), strict=True):
            assert_bits_equal(found, maker.records[index])
    assert_bits_equal(
        cache.get(tf.constant(1), lambda: pytest.fail("made again")), maker.records[1]
    )
    assert sorted(maker.made) == [0, 1]
    size = cache.path(0).stat().st_size
    assert 0 <= size - DATA - bytes_per_pixel * HEIGHT * WIDTH < DATA


@pytest.mark.parametrize("largest", [255, 65535])
def test_every_level_is_read_back_to_the_last_bit(largest: int, tmp_path: Path) -> None:
    levels = np.arange(largest + 1, dtype=np.float32) / np.float32(largest)
    frame = np.repeat(levels.reshape(16, -1, 1), 3, axis=2)
    zeros = np.zeros(frame.shape[:2], np.float32)
    record = Record(
        frame, frame[::-1].copy(), np.zeros((*zeros.shape, 2), np.float32), zeros, zeros
    )
    cache, maker = Cache(tmp_path, ["a"]), Maker(record)
    cache.write(0, record)
    assert_bits_equal(in_a_map(cache, maker, 0)[0], record)
    assert not maker.made


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, np.nan])
@pytest.mark.parametrize("frame", [0, 1])
def test_a_frame_that_would_change_is_refused(frame: int, value: float, tmp_path: Path) -> None:
    record = some_record()
    record[frame][2, 1, 0] = value
    cache = Cache(tmp_path, ["set/a"])
    with pytest.raises(DataError, match=r"^set/a cannot be cached.* multiples of 1/255 or 1/65535"):
        cache.write(0, record)
    with pytest.raises(tf.errors.OpError):
        in_a_map(cache, Maker(record), 0)
    assert not list(tmp_path.iterdir())


def flipped(content: bytes, *, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:DATA],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"x" * len(content),
        *(partial(flipped, position=at) for at in (0, 4, 8, 12, 16, 20, 36, DATA, 150, -9, -1)),
    ],
)
def test_a_damaged_record_is_named_and_made_anew(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = Maker(some_record())
    in_a_map(Cache(tmp_path, ["a"]), maker, 0)
    path = Cache(tmp_path, ["a"]).path(0)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):  # processes
        assert_bits_equal(in_a_map(Cache(tmp_path, ["a"]), maker, 0)[0], maker.records[0])
    assert maker.made == [0, 0]
    (message,) = caplog.messages
    assert str(path) in message and "made anew" in message and "\n" not in message


def test_the_record_of_another_example_is_named_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, maker = Cache(tmp_path, ["set/a", "set/b"]), Maker(*map(some_record, (255, 255), (0, 1)))
    in_a_map(cache, maker, 0, 1)
    cache.path(1).write_bytes(cache.path(0).read_bytes())
    assert_bits_equal(in_a_map(cache, maker, 1)[0], maker.records[1])
    assert maker.made == [0, 1, 1]
    assert caplog.messages == [f"{cache.path(1)} is made anew: it is the record of another example"]


def test_records_of_another_version_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, maker = Cache(tmp_path, ["a"]), Maker(some_record())
    with monkeypatch.context() as patch:
        patch.setattr(module, "VERSION", module.VERSION + 1)
        in_a_map(cache, maker, 0)
        other = cache.path(0)
    in_a_map(cache, maker, 0)
    assert maker.made == [0, 0]
    assert other.exists() and not caplog.messages
    cache.path(0).write_bytes(other.read_bytes())
    in_a_map(cache, maker, 0)
    assert maker.made == [0, 0, 0]
    assert "not a record of version" in caplog.text


def test_processes_that_fill_one_folder_read_what_the_others_made(tmp_path: Path) -> None:
    names = [f"{n}" for n in range(6)]
    makers = [Maker(*(some_record(seed=n) for n in range(6))) for _ in range(2)]
    streams = [
        iter(
            tf.data.Dataset.range(18).map(
                lambda n, cache=cache, maker=maker: cache.get(n % 6, lambda: maker(n % 6)),
                num_parallel_calls=4,
            )
        )
        for cache, maker in zip(
            (Cache(tmp_path, names), Cache(tmp_path, names)), makers, strict=True
        )
    ]
    for number, pair in enumerate(zip(*streams, strict=True)):
        for found in pair:
            assert_bits_equal(found, makers[0].records[number % 6])
    assert 6 <= sum(len(maker.made) for maker in makers) < 36


def test_what_a_killed_process_left_is_not_read_and_removed_in_time(tmp_path: Path) -> None:
    cache, maker = Cache(tmp_path, ["a", "b"]), Maker(some_record(), some_record())
    in_a_map(cache, maker, 0)
    old, new = (cache.path(1).with_name(f".tmp-b.rec.{end}") for end in ("0a", "0b"))
    for leftover in (old, new):
        leftover.write_bytes(cache.path(0).read_bytes()[:100])
    os.utime(old, (0, 0))
    cache.prepare(Size(HEIGHT, WIDTH))
    assert new.exists() and not old.exists()  # another process may be about to rename a new one
    in_a_map(cache, maker, 1)
    assert maker.made == [0, 1]


def test_what_is_cached_is_reported_and_nothing_is_asked_of_a_full_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, maker = Cache(tmp_path, ["a", "b", "c"]), Maker(*[some_record()] * 3)
    in_a_map(cache, maker, 1)
    cache.prepare(Size(1000, 1000))
    told = "1 of 3 examples are cached; the others are added as they are read, about 0.0 GB"
    assert told in capsys.readouterr().err
    in_a_map(cache, maker, 0, 2)
    monkeypatch.setattr(storage, "_free", lambda _: 0)
    cache.prepare(Size(1000, 1000))
    assert not capsys.readouterr().err


def test_too_little_space_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_free", lambda _: 100 * 2**20)
    cache = Cache(tmp_path / "new", [f"{n}" for n in range(8)])
    cache.prepare(Size(900, 900))  # 97 MB
    with pytest.raises(DiskFullError, match=r"new needs 115 MB, 100 MB are free"):
        Cache(tmp_path / "other" / "new", [f"{n}" for n in range(8)]).prepare(Size(1000, 1000))
    assert not (tmp_path / "other").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"{tmp_path}/file"):
        Cache(tmp_path / "file", ["a"]).prepare(Size(1, 1))


def test_a_checksum_is_computed_once_by_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, maker, computed = Cache(tmp_path, ["a"]), Maker(some_record()), []
    cache.write(0, some_record())

    def crc32(data: bytes, start: int = 0) -> int:
        computed.append(len(data))
        return zlib.crc32(data, start)

    monkeypatch.setattr(module, "crc32", crc32)
    in_a_map(cache, maker, 0, 0, 0)
    assert len(computed) == 2  # of the header, and with that of the rest
    assert not maker.made
