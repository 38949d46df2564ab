"""Sources: sizes must fit, masks are applied, failures name the file; several as one."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scenes import source_of

from pwc_exp.data import cache
from pwc_exp.data.datasets import benchmarks as datasets
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_kitti_png
from pwc_exp.data.sample import Example, Part, Sample
from pwc_exp.data.source import (
    FileSource,
    MixedSource,
    origins,
    read_annotations,
    read_sample,
)
from pwc_exp.errors import DataError, DiskFullError, MissingInputError, UserError


def write_sample(root: Path, name: str, height: int = 4, width: int = 6) -> Sample:
    """One pair whose first frame and flow hold a number made from its name."""
    root.mkdir(parents=True, exist_ok=True)
    value = sum(name.encode()) % 200
    sample = Sample(
        id=name,
        scene=name,
        frame1=root / f"{name}_1.png",
        frame2=root / f"{name}_2.png",
        flow=root / f"{name}_f.flo",
    )
    write_image(sample.frame1, np.full((height, width, 3), value, np.uint8))
    write_image(sample.frame2, np.zeros((height, width, 3), np.uint8))
    write_flo(flow_of(sample), np.full((height, width, 2), value, np.float32))
    return sample


def flow_of(sample: Sample) -> Path:
    assert sample.flow is not None
    return sample.flow


def test_a_pair_is_read_inside_and_outside_of_a_map(tmp_path: Path) -> None:
    source = FileSource("fake", [write_sample(tmp_path, name) for name in "ab"])
    assert (source.size, source.ids) == (2, ["a", "b"])
    eager = source.example(tf.constant(1, tf.int64))
    mapped = list(tf.data.Dataset.range(2).map(source.example))[1]
    for one, other in zip(eager, mapped, strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(eager.frame1[0, 0, 0]) == pytest.approx(98 / 255)
    assert eager.flow[0, 0].numpy().tolist() == [98, 98]
    assert eager.valid.shape == (4, 6)


@pytest.mark.parametrize("part", ["frame2", "flow", "invalid"])
def test_sizes_that_differ_are_reported_with_both_files(part: str, tmp_path: Path) -> None:
    good = write_sample(tmp_path / "small", "a")
    large = write_sample(tmp_path / "large", "b", height=5)
    bad = {
        "frame2": good._replace(frame2=large.frame2),
        "flow": good._replace(flow=large.flow),
        "invalid": good._replace(invalid=large.frame1),
    }[part]
    source = FileSource("fake", [good, bad])
    with pytest.raises(tf.errors.InvalidArgumentError):
        source.example(tf.constant(1))
    assert re.search(r"small/a_\w\.\w+ is 4 x 6.*large/b_\w\.\w+ is 5 x 6", str(source.failure(1)))
    assert source.failure(0) is None


def test_a_crop_larger_than_the_first_frame_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.crop.*a_1\.png.*5 x 6.*Received: 4 x 6"):
        FileSource("fake", [write_sample(tmp_path, "a")], crop=(5, 6))


def test_a_crop_larger_than_a_later_frame_is_refused_when_it_is_read(tmp_path: Path) -> None:
    samples = [write_sample(tmp_path, "a"), write_sample(tmp_path, "b", width=5)]
    source = FileSource("fake", samples, crop=(4, 6))
    with pytest.raises(tf.errors.InvalidArgumentError):
        source.example(tf.constant(1))
    assert re.search(r"data\.crop.*b_1\.png", str(source.failure(1)))
    assert source.failure(0) is None


def test_a_source_without_samples_or_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No samples in fake"):
        FileSource("fake", [])
    sample = write_sample(tmp_path, "a")
    sample.frame2.unlink()
    with pytest.raises(MissingInputError, match=r"a_2\.png"):
        FileSource("fake", [sample])


def test_a_first_sample_that_is_damaged_is_for_the_reader_to_tell(tmp_path: Path) -> None:
    samples = [write_sample(tmp_path, name) for name in "abc"]
    samples[0].frame1.write_bytes(b"P6")
    source = FileSource("fake", samples, crop=(4, 6))
    assert "a_1.png" in str(source.failure(0))
    assert source.failure(1) is None
    with pytest.raises(DataError, match=r"data\.crop.*b_1\.png"):
        FileSource("fake", samples, crop=(5, 6))


def assert_read_alike(source: FileSource, samples: list[Sample]) -> None:
    """TensorFlow's operations read what Python reads, to the last bit."""
    for number, sample in enumerate(samples):
        example, decoded = source.example(tf.constant(number, tf.int64)), read_sample(sample)
        for part, other in zip(example, decoded, strict=True):
            assert part.dtype == other.dtype
            np.testing.assert_array_equal(part, other)


def some_samples(root: Path) -> list[Sample]:
    """Pairs with both masks, one, none, without truth, and with a flow of twice the size."""
    plain = [write_sample(root, name) for name in "abcde"]
    large = write_sample(root / "large", "l", height=8, width=12)
    steps = np.arange(8 * 12 * 2, dtype=np.float32).reshape(8, 12, 2)
    write_flo(flow_of(large), steps)
    masks = []
    for number, value in enumerate((0, 255)):
        mask = np.full((4, 6, 3), value, np.uint8)
        mask[1, 2 + number] = 255 - value
        write_image(root / f"mask{number}.png", mask)
        masks.append(root / f"mask{number}.png")
    return [
        plain[0],
        plain[1]._replace(invalid=masks[0]),
        plain[2]._replace(valid=masks[1]),
        plain[3]._replace(valid=masks[1], invalid=masks[0]),
        plain[4]._replace(flow=None),
        plain[0]._replace(id="strided", flow=large.flow, flow_stride=2),
    ]


def test_the_graph_reads_what_python_reads(tmp_path: Path) -> None:
    samples = some_samples(tmp_path)
    source = FileSource("fake", samples)
    assert_read_alike(source, samples)
    assert [float(source.example(tf.constant(n)).valid.numpy().sum()) for n in range(6)] == [
        24,
        23,
        23,
        22,
        0,
        24,
    ]
    masked = source.example(tf.constant(1))
    assert masked.valid[1, 2] == 0
    assert masked.flow[1, 2].numpy().tolist() == [0, 0]
    strided = source.example(tf.constant(5)).flow.numpy()
    assert strided[1, 2].tolist() == [(2 * 12 + 4) * 2, (2 * 12 + 4) * 2 + 1]
    for one, other in zip(
        tf.data.Dataset.range(6).map(source.example), map(read_sample, samples), strict=True
    ):
        np.testing.assert_array_equal(one.flow, other.flow)


def test_a_cache_is_filled_with_what_is_read_and_serves_without_the_pixels(tmp_path: Path) -> None:
    samples = some_samples(tmp_path)
    decoded = [read_sample(sample) for sample in samples]
    source = FileSource("fake", samples, cache=str(tmp_path / "cache"))
    for _ in range(2):
        found = tf.data.Dataset.range(len(samples)).map(source.example)
        for example, expected in zip(found, decoded, strict=True):
            for one, other in zip(example, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        blank(*samples)
    assert [source.failure(index) for index in range(len(samples))] == [None] * len(samples)


def blank(*samples: Sample) -> None:
    """Makes files unreadable, but leaves their sizes and times."""
    for sample in samples:
        for path in {sample.frame1, sample.frame2}:
            status = path.stat()
            path.write_bytes(bytes(status.st_size))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def records_of(source: FileSource) -> set[Path]:
    assert source._cache is not None
    return {source._cache.path(index) for index in range(source.size)}


def test_parts_of_a_data_set_share_a_cache_wherever_it_is(tmp_path: Path) -> None:
    def write_at(place: str) -> list[Sample]:
        return [write_sample(tmp_path / place / "set" / "training" / "all", name) for name in "ab"]

    here = write_at("here")
    folder = str(tmp_path / "cache")
    records = records_of(FileSource("fake", here, cache=folder))
    assert len(records) == 2
    assert records_of(FileSource("fake", here[1:], cache=folder)) < records
    (tmp_path / "here").rename(tmp_path / "there")
    there = tmp_path / "there" / "set" / "training" / "all"
    moved = [
        sample._replace(
            frame1=there / sample.frame1.name,
            frame2=there / sample.frame2.name,
            flow=there / flow_of(sample).name,
        )
        for sample in here
    ]
    assert records_of(FileSource("fake", moved, cache=folder)) == records


def test_whatever_a_sample_is_read_from_changes_its_record(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a")
    other = write_sample(tmp_path, "b")

    def record(changed: Sample) -> Path:
        (path,) = records_of(FileSource("fake", [changed], cache=str(tmp_path / "cache")))
        return path

    variants = [
        sample,
        sample._replace(id="other"),
        sample._replace(flow_stride=2),
        sample._replace(flow=None),
        sample._replace(valid=sample.frame1),
        sample._replace(invalid=sample.frame1),
        sample._replace(frame1=sample.frame2, frame2=sample.frame1),
        sample._replace(flow=other.flow),
    ]
    records = [record(variant) for variant in variants]
    flow = flow_of(sample)
    status = flow.stat()
    os.utime(flow, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    records.append(record(sample))
    flow.write_bytes(flow.read_bytes() + b"x")
    os.utime(flow, ns=(status.st_atime_ns, status.st_mtime_ns))
    records.append(record(sample))
    assert len(set(records)) == len(variants) + 2


def test_a_missing_file_is_named_before_anything_is_cached(tmp_path: Path) -> None:
    samples = [write_sample(tmp_path, name) for name in "ab"]
    flow_of(samples[1]).unlink()
    with pytest.raises(MissingInputError, match=flow_of(samples[1]).name):
        FileSource("fake", samples, cache=str(tmp_path / "cache"))


def test_a_full_disk_is_no_fault_of_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _: bytes) -> None:
        raise DiskFullError(f"{path} cannot be written: no space left")

    source = FileSource("fake", [write_sample(tmp_path, "a")], cache=str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "write_file", refuse)
    with pytest.raises(tf.errors.OpError):
        next(iter(tf.data.Dataset.range(1).map(source.example)))
    with pytest.raises(DiskFullError, match="no space left"):
        source.failure(0)


def test_real_pairs_are_read_alike_by_graph_and_python(shared: Path) -> None:
    data = shared / "data"
    sets = {
        "chairs": datasets.flyingchairs(data / "FlyingChairs_release"),
        "sintel": datasets.sintel(data / "MPI-Sintel", render_pass="both"),
        "kitti2012": datasets.kitti(data / "kitti2012", truth="occ"),
        "kitti2015": datasets.kitti(data / "kitti2015", truth="noc"),
        "middlebury": datasets.middlebury(data / "Middlebury"),
    }
    assert [len(samples) for samples in sets.values()] == [3, 8, 1, 1, 3]
    for name, samples in sets.items():
        assert_read_alike(FileSource(name, samples), samples)


def test_digest_depends_on_the_files_but_not_on_where_they_lie(tmp_path: Path) -> None:
    def write_at(place: str) -> list[Sample]:
        return [write_sample(tmp_path / place / "set" / "training" / "all", name) for name in "ab"]

    here, there = write_at("here"), write_at("there")
    digest = FileSource("fake", here).digest
    assert len(digest) >= 8
    assert FileSource("fake", there).digest == digest
    assert FileSource("fake", here[:1]).digest != digest


class ConstantSource:
    """Examples of one size whose frames hold `value` plus their number."""

    def __init__(self, name: str, size: int, value: float, height: int = 4) -> None:
        self.name = name
        self.size = size
        self.ids: Sequence[str] = [f"{number}" for number in range(size)]
        self.digest = f"{name}{size}"
        self.parts: Sequence[Part] = (Part(size, 1.0),)
        self._value = value
        self._height = height

    def example(self, index: tf.Tensor) -> Example:
        frame = tf.fill([self._height, 6, 3], self._value + tf.cast(index, tf.float32))
        return Example(frame, frame, frame[..., :2], frame[..., 0])

    def failure(self, index: int) -> UserError | None:
        return DataError(f"{self.name} {index}") if index == 1 else None


def sources() -> list[ConstantSource]:
    return [ConstantSource("a", 2, 10.0), ConstantSource("b", 3, 20.0, height=5)]


def test_examples_of_all_sources_follow_each_other_inside_and_outside_of_a_map() -> None:
    mixed = MixedSource(sources(), weights=None)
    assert (mixed.name, mixed.size) == ("a+b", 5)
    mapped = list(tf.data.Dataset.range(5).map(mixed.example))
    for number, expected in enumerate([10, 11, 20, 21, 22]):
        eager = mixed.example(tf.constant(number, tf.int64))
        assert float(eager.frame1[0, 0, 0]) == expected
        assert eager.valid.shape[0] == (4 if number < 2 else 5)
        np.testing.assert_array_equal(mapped[number].flow, eager.flow)


def test_ids_begin_with_the_name_of_their_source_and_are_unique() -> None:
    assert MixedSource(sources(), weights=None).ids == ["a/0", "a/1", "b/0", "b/1", "b/2"]
    twins = MixedSource([ConstantSource("a", 1, 0), ConstantSource("a", 1, 0)], weights=None)
    assert twins.ids == ["a-1/0", "a-2/0"]


def test_sources_of_one_label_are_one_data_set_whose_ids_stay_unique() -> None:
    pair = [ConstantSource("a", 1, 0), ConstantSource("a", 1, 0), ConstantSource("b", 1, 0)]
    labelled = MixedSource(pair, weights=None, labels=["x", "x", None])
    assert labelled.ids == ["x-1/0", "x-2/0", "b/0"]
    assert labelled.labels == ["x", "x", "b"]
    assert MixedSource(pair, weights=None).labels == ["a-1", "a-2", "b"]


def test_weights_make_parts_and_without_them_all_are_shuffled_together() -> None:
    assert list(MixedSource(sources(), weights=None).parts) == [Part(5, 1.0)]
    assert list(MixedSource(sources(), weights=[3, 1]).parts) == [Part(2, 3), Part(3, 1)]


@pytest.mark.parametrize(("index", "line"), [(0, None), (1, "a 1"), (2, None), (3, "b 1")])
def test_a_failure_is_that_of_the_source_that_has_the_example(index: int, line: str | None) -> None:
    failure = MixedSource(sources(), weights=None).failure(index)
    assert (None if failure is None else str(failure)) == line


def test_digest_depends_on_sources_and_weights() -> None:
    digests = {
        MixedSource(sources(), weights=weights).digest for weights in (None, [1, 1], [2, 1])
    } | {MixedSource(sources()[:1], weights=None).digest}
    assert len(digests) == 4


SIZE = (4, 6)  # of all frames here


def image(path: Path, left: int) -> None:
    """Writes a picture that is white in its first columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :left] = 255
    write_image(path, pixels)


def write_sintel(root: Path) -> FileSource:
    training = root / "training"
    for number in (1, 2, 3):
        image(training / f"clean/alley_1/frame_{number:04d}.png", 0)
    (training / "flow/alley_1").mkdir(parents=True)
    for number in (1, 2):
        flow = np.full((*SIZE, 2), number, np.float32)
        write_flo(training / f"flow/alley_1/frame_{number:04d}.flo", flow)
    image(training / "occlusions/alley_1/frame_0002.png", 2)
    image(training / "invalid/alley_1/frame_0002.png", 3)
    return FileSource("sintel", datasets.sintel(root, render_pass="clean"))


def write_kitti(root: Path, truth: str) -> FileSource:
    training = root / "training"
    for number in (10, 11):
        image(training / f"image_2/000000_{number}.png", 0)
    image(training / "obj_map/000000_10.png", 1)
    for name, known in (("flow_occ", 6), ("flow_noc", 4)):
        (training / name).mkdir(exist_ok=True)
        valid = np.zeros(SIZE)
        valid[:, :known] = 1
        write_kitti_png(training / name / "000000_10.png", np.zeros((*SIZE, 2)), valid)
    return FileSource("kitti", datasets.kitti(root, truth=truth))


def test_sintel_s_occlusions_and_what_its_invalid_mask_hides_are_read(tmp_path: Path) -> None:
    source = write_sintel(tmp_path)
    first, second = origins(source)
    assert (first.dataset, first.scene) == ("sintel", "alley_1")
    assert read_annotations(source, 0, first) == (None, None, None)
    found = read_annotations(source, 1, second)
    assert found.occlusion is not None and found.stored is not None
    assert found.occlusion.sum() == 8
    flow, known = found.stored
    assert (flow == 2).all() and known.all()
    assert source.example(tf.constant(1)).valid.numpy().sum() == 12


def test_kitti_s_hidden_pixels_are_those_that_noc_lacks(tmp_path: Path) -> None:
    source = write_kitti(tmp_path, "occ")
    found = read_annotations(source, 0, origins(source)[0])
    assert found.occlusion is not None and found.foreground is not None
    assert (found.occlusion.sum(), found.foreground.sum()) == (8, 4)
    assert found.stored is None
    noc = write_kitti(tmp_path, "noc")
    assert read_annotations(noc, 0, origins(noc)[0]).occlusion is None


def test_examples_of_a_mix_keep_their_data_set_and_scene(tmp_path: Path) -> None:
    roads = [write_kitti(tmp_path / name, "noc") for name in ("one", "two")]
    mix = MixedSource([roads[0], write_sintel(tmp_path / "film"), roads[1]], weights=None)
    found = origins(mix)
    assert [origin.dataset for origin in found] == ["kitti-1", "sintel", "sintel", "kitti-2"]
    assert [origin.scene for origin in found] == ["000000_10", "alley_1", "alley_1", "000000_10"]
    assert read_annotations(mix, 2, found[2]).occlusion is not None


def test_a_generator_knows_what_is_hidden() -> None:
    source = source_of(seed=1, size=(64, 96))
    found = read_annotations(source, 1, origins(source)[1]).occlusion
    np.testing.assert_array_equal(found, source.scene(tf.constant(1)).occlusion.numpy() > 0)
    assert found is not None and found.any()
