"""Reading a pair: sizes must fit, masks are applied, failures keep their words."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.file_source import FileSource
from pwc_exp.data.images import write_image
from pwc_exp.data.io import write_flo, write_kitti_png
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError, MissingInputError


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
    write_flo(sample.flow, np.full((height, width, 2), value, np.float32))
    return sample


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


def test_the_mask_clears_flow_and_valid(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a")
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[2, 5] = 255
    write_image(tmp_path / "mask.png", mask)
    source = FileSource("fake", [sample._replace(invalid=tmp_path / "mask.png")])
    example = source.example(tf.constant(0))
    assert example.valid.numpy().sum() == 23
    assert example.valid[2, 5] == 0
    assert example.flow[2, 5].numpy().tolist() == [0, 0]


@pytest.mark.parametrize("part", ["frame2", "flow", "invalid"])
def test_sizes_that_differ_are_told_with_both_files(part: str, tmp_path: Path) -> None:
    good = write_sample(tmp_path / "small", "a")
    large = write_sample(tmp_path / "large", "b", height=5)
    bad = {
        "frame2": good._replace(frame2=large.frame2),
        "flow": good._replace(flow=large.flow),
        "invalid": good._replace(invalid=large.frame1),
    }[part]
    source = FileSource("fake", [good, bad])
    with pytest.raises(DataError, match=r"a_1\.png is 4 x 6.*is 5 x 6"):
        source.example(tf.constant(1))


def test_a_crop_larger_than_the_first_frame_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.crop.*a_1\.png.*5 x 6.*Received: 4 x 6"):
        FileSource("fake", [write_sample(tmp_path, "a")], crop=(5, 6))


def test_a_crop_larger_than_a_later_frame_is_refused_when_it_is_read(tmp_path: Path) -> None:
    samples = [write_sample(tmp_path, "a"), write_sample(tmp_path, "b", width=5)]
    source = FileSource("fake", samples, crop=(4, 6))
    with pytest.raises(DataError, match=r"data\.crop.*b_1\.png"):
        source.example(tf.constant(1))
    assert isinstance(source.failure, DataError)  # kept for where TensorFlow tells only text


def test_a_source_without_samples_or_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No samples in fake"):
        FileSource("fake", [])
    sample = write_sample(tmp_path, "a")
    sample.frame2.unlink()
    with pytest.raises(MissingInputError, match=r"a_2\.png"):
        FileSource("fake", [sample])


def test_sparse_truth_keeps_its_mask(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a")
    valid = np.zeros((4, 6), np.float32)
    valid[1, 3] = 1
    write_kitti_png(sample.flow, np.full((4, 6, 2), 2.5, np.float32), valid)
    example = FileSource("fake", [sample]).example(tf.constant(0))
    np.testing.assert_array_equal(example.valid, valid)
    np.testing.assert_array_equal(example.flow, 2.5 * valid[..., None] * np.ones(2))


def test_digest_depends_on_the_files_but_not_on_where_they_lie(tmp_path: Path) -> None:
    def write_at(place: str) -> list[Sample]:
        return [write_sample(tmp_path / place / "set" / "training" / "all", name) for name in "ab"]

    here, there = write_at("here"), write_at("there")
    digest = FileSource("fake", here).digest
    assert len(digest) >= 8
    assert FileSource("fake", there).digest == digest
    assert FileSource("fake", here[:1]).digest != digest
