"""The cache: what is read back equals what was read, to the last bit, or is refused."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data import cache
from pwc_exp.data.cache import check_record, fill, key_of, read_record, record_path, write_record
from pwc_exp.data.conversion import Outcome
from pwc_exp.data.file_source import read_sample
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.sample import Example, Sample
from pwc_exp.errors import DataError, MissingInputError

HEIGHT, WIDTH = 3, 5
HEADER_BYTES = 20
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def some_arrays(largest: int = 255) -> Arrays:
    """A pair whose frames have `largest` + 1 levels; known nowhere in one corner."""
    rng = np.random.default_rng(largest)
    frames = rng.integers(0, largest + 1, (2, HEIGHT, WIDTH, 3))
    frames[0, 0, 0] = (0, 1, largest)
    frame1, frame2 = frames.astype(np.float32) / np.float32(largest)
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[2, 3:] = 0
    flow = rng.normal(0, 20, (HEIGHT, WIDTH, 2)).astype(np.float32) * valid[..., None]
    return frame1, frame2, flow, valid


def write_samples(root: Path, count: int) -> list[Sample]:
    root.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        names = (f"{number}_1.png", f"{number}_2.png", f"{number}.flo")
        frame1, frame2, flow = (root / name for name in names)
        rng = np.random.default_rng(number)
        for path in (frame1, frame2):
            write_image(path, rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        write_flo(flow, rng.normal(size=(HEIGHT, WIDTH, 2)))
        samples.append(Sample(f"id{number}", "scene", frame1, frame2, flow))
    return samples


def in_a_map(path: Path) -> Example:
    """Reads a record as a pipeline does: the path is not known when the graph is made."""
    return next(iter(tf.data.Dataset.from_tensors(str(path)).map(read_record)))


def assert_bits_equal(example: Example, arrays: Arrays) -> None:
    for tensor, array in zip(example, arrays, strict=True):
        assert tensor.dtype == tf.float32
        np.testing.assert_array_equal(tensor.numpy().view(np.int32), array.view(np.int32))


@pytest.mark.parametrize(("largest", "bytes_per_pixel"), [(255, 15), (65535, 21)])
def test_a_pair_is_read_back_to_the_last_bit(
    largest: int, bytes_per_pixel: int, tmp_path: Path
) -> None:
    path = tmp_path / "0.rec"
    arrays = some_arrays(largest)
    write_record(path, *arrays)
    assert_bits_equal(in_a_map(path), arrays)
    assert_bits_equal(read_record(tf.constant(str(path))), arrays)
    assert path.stat().st_size == HEADER_BYTES + bytes_per_pixel * HEIGHT * WIDTH + 8


@pytest.mark.parametrize("largest", [255, 65535])
def test_every_level_is_read_back_to_the_last_bit(largest: int, tmp_path: Path) -> None:
    levels = np.arange(largest + 1, dtype=np.float32) / np.float32(largest)
    frame = np.repeat(levels.reshape(16, -1, 1), 3, axis=2)
    flow, valid = np.zeros((*frame.shape[:2], 2), np.float32), np.zeros(frame.shape[:2], np.float32)
    write_record(tmp_path / "0.rec", frame, frame[::-1], flow, valid)
    assert_bits_equal(in_a_map(tmp_path / "0.rec"), (frame, frame[::-1].copy(), flow, valid))


def test_a_pair_of_which_one_frame_has_16_bits_is_kept(tmp_path: Path) -> None:
    frame1, _, flow, valid = some_arrays(255)
    arrays = (frame1, some_arrays(65535)[1], flow, valid)
    write_record(tmp_path / "0.rec", *arrays)
    assert_bits_equal(in_a_map(tmp_path / "0.rec"), arrays)


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, np.nan])
@pytest.mark.parametrize("frame", [0, 1])
def test_a_frame_that_would_change_is_refused(frame: int, value: float, tmp_path: Path) -> None:
    arrays = some_arrays()
    arrays[frame][2, 1, 0] = value
    with pytest.raises(ValueError, match="multiples of 1/255 or 1/65535"):
        write_record(tmp_path / "0.rec", *arrays)
    assert not list(tmp_path.iterdir())


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    frame1, frame2, flow, valid = some_arrays()
    with pytest.raises(ValueError, match="of one size"):
        write_record(tmp_path / "0.rec", frame1, frame2[:, 1:], flow, valid)
    with pytest.raises(ValueError, match="0 and 1"):
        write_record(tmp_path / "0.rec", frame1, frame2, flow, valid / 2)


def flipped(content: bytes, *, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:HEADER_BYTES],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        *(partial(flipped, position=at) for at in (0, 4, 8, 12, 16, 20, 150, -9, -1)),
    ],
)
def test_a_damaged_record_is_refused_by_name(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "000007.rec"
    write_record(path, *some_arrays())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Damaged record.*000007\.rec"):
        in_a_map(path)
    with pytest.raises(DataError, match=r"Damaged record: .*000007\.rec\. Delete it"):
        check_record(path)


def test_a_record_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.rec"
    with monkeypatch.context() as patch:
        patch.setattr(cache, "VERSION", cache.VERSION + 1)
        write_record(path, *some_arrays())
        check_record(path)
    with pytest.raises(DataError, match="Damaged record"):
        check_record(path)


def test_a_missing_record_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"0\.rec"):
        check_record(tmp_path / "0.rec")
    write_record(tmp_path / "0.rec", *some_arrays())
    check_record(tmp_path / "0.rec")


def test_filling_makes_a_record_of_every_sample_in_folders_of_a_thousand(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "data", 3)
    folder = tmp_path / "cache" / key_of(samples)
    assert fill(samples, read_sample, folder, workers=2) == Outcome(made=3, kept=0, failures=[])
    for index, sample in enumerate(samples):
        assert_bits_equal(in_a_map(record_path(folder, index)), read_sample(sample))
    assert record_path(folder, 2) == folder / "0000" / "000002.rec"
    assert record_path(folder, 22_871) == folder / "0022" / "022871.rec"


def test_an_interrupted_filling_is_completed(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "data", 4)
    folder = tmp_path / "cache"

    def read_two(sample: Sample) -> Arrays:
        if sample.id == "id2":
            raise KeyboardInterrupt
        return read_sample(sample)

    with pytest.raises(KeyboardInterrupt):
        fill(samples[:3], read_two, folder, workers=1)
    assert [record_path(folder, index).exists() for index in range(4)] == [True, True, False, False]
    half_written = record_path(folder, 2).with_name(".tmp-000002.rec")  # by a process now killed
    half_written.write_bytes(record_path(folder, 0).read_bytes()[:100])
    assert fill(samples, read_sample, folder, workers=1) == Outcome(made=2, kept=2, failures=[])
    for index, sample in enumerate(samples):
        assert_bits_equal(in_a_map(record_path(folder, index)), read_sample(sample))
    assert not half_written.exists()


def test_samples_that_cannot_be_cached_are_named_and_the_rest_is_cached(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "data", 4)
    samples[0].frame2.write_bytes(b"not an image")
    header = f"P6 {WIDTH} {HEIGHT} 100\n".encode()  # a hundredth is no multiple of 1/255
    samples[2].frame1.write_bytes(header + bytes(range(3 * HEIGHT * WIDTH)))
    outcome = fill(samples, read_sample, tmp_path / "cache", workers=2)
    assert outcome[:2] == (2, 0)
    damaged, coarse = (str(failure) for failure in outcome.failures)
    assert "0_2.png" in damaged
    assert "2_1.png cannot be cached: expected frames of 8 or 16 bits" in coarse


def test_moving_a_data_set_keeps_its_key(tmp_path: Path) -> None:
    key = key_of(write_samples(tmp_path / "here" / "set", 2))
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "set").rename(tmp_path / "there" / "set")
    moved = tmp_path / "there" / "set"
    samples = [
        Sample(f"id{n}", "scene", moved / f"{n}_1.png", moved / f"{n}_2.png", moved / f"{n}.flo")
        for n in range(2)
    ]
    assert key_of(samples) == key
    relative = [samples[0]._replace(flow=Path(os.path.relpath(moved / "0.flo"))), samples[1]]
    assert key_of(relative) == key


def test_every_change_of_a_data_set_changes_its_key(tmp_path: Path) -> None:
    samples = write_samples(tmp_path, 3)
    first, last = samples[0], samples[-1]
    variants = [
        samples,
        samples[:2],
        samples[::-1],
        [first._replace(id="other"), *samples[1:]],
        [first._replace(flow_stride=2), *samples[1:]],
        [first._replace(flow=None), *samples[1:]],
        [first._replace(valid=first.frame1), *samples[1:]],
        [first._replace(invalid=first.frame1), *samples[1:]],
        [first._replace(frame1=first.frame2, frame2=first.frame1), *samples[1:]],
    ]
    keys = [key_of(variant) for variant in variants]
    status = last.frame2.stat()
    os.utime(last.frame2, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    keys.append(key_of(samples))
    last.frame2.write_bytes(last.frame2.read_bytes() + b"x")
    os.utime(last.frame2, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(key_of(samples))
    assert len(set(keys)) == len(variants) + 2


def test_a_missing_file_is_named_before_anything_is_made(tmp_path: Path) -> None:
    samples = write_samples(tmp_path, 2)
    samples[1].frame2.unlink()
    with pytest.raises(MissingInputError, match=r"1_2\.png"):
        key_of(samples)


REAL = {  # folder: frame1, frame2, flow and mask of invalid pixels in it
    "FlyingChairs_release/data": "00002_img1.ppm 00002_img2.ppm 00002_flow.flo",
    "MPI-Sintel/training": "clean/cave_2/frame_0002.png clean/cave_2/frame_0003.png "
    "flow/cave_2/frame_0002.flo invalid/cave_2/frame_0002.png",
    "MPI-Sintel/training/final/cave_2": "frame_0002.png frame_0003.png "
    "../../flow/cave_2/frame_0002.flo",
    "kitti2015/training": "image_2/000000_10.png image_2/000000_11.png flow_noc/000000_10.png",
    "kitti2012/training": "image_0/000045_10.png image_0/000045_11.png flow_occ/000045_10.png",
    "Middlebury": "other-data/Venus/frame10.png other-data/Venus/frame11.png "
    "other-gt-flow/Venus/flow10.flo",
    "FlyingThings3D_stereo/RGB_cleanpass": "left/A-0032-0006.png right/A-0032-0006.png",
}


def test_real_pairs_are_read_back_to_the_last_bit(shared: Path, tmp_path: Path) -> None:
    samples = []
    for folder, names in REAL.items():
        paths = [shared / "data" / folder / name for name in names.split()]
        frame1, frame2, flow, invalid = [*paths, None, None][:4]
        assert frame1 and frame2
        samples.append(Sample(folder, "", frame1, frame2, flow, invalid=invalid))
    assert fill(samples, read_sample, tmp_path, workers=2).made == len(REAL)
    for index, sample in enumerate(samples):
        assert_bits_equal(in_a_map(record_path(tmp_path, index)), read_sample(sample))
