"""The data sets' own files: counts, names, masks, and which way the flow points."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import errors_of_readings, right_reading_is_best

from pwc_exp.data.datasets import flyingchairs, kitti, middlebury, sintel
from pwc_exp.data.file_source import FileSource
from pwc_exp.data.sample import Sample

SETS: dict[str, tuple[Callable[[Path], list[Sample]], list[str]]] = {
    "sintel clean": (
        lambda data: sintel(data / "MPI-Sintel", render_pass="clean"),
        [*(f"alley_1/frame_000{number}" for number in (1, 2, 3)), "cave_2/frame_0002"],
    ),
    "sintel final": (
        lambda data: sintel(data / "MPI-Sintel", render_pass="final"),
        [*(f"alley_1/frame_000{number}" for number in (1, 2, 3)), "cave_2/frame_0002"],
    ),
    "kitti 2012 noc": (lambda data: kitti(data / "kitti2012", truth="noc"), ["000045_10"]),
    "kitti 2012 occ": (lambda data: kitti(data / "kitti2012", truth="occ"), ["000045_10"]),
    "kitti 2015 noc": (lambda data: kitti(data / "kitti2015", truth="noc"), ["000000_10"]),
    "flyingchairs": (
        lambda data: flyingchairs(data / "FlyingChairs_release"),
        ["00001", "00002", "00003"],
    ),
    "middlebury": (
        lambda data: middlebury(data / "Middlebury"),
        ["RubberWhale", "Urban2", "Venus"],
    ),
}


@pytest.mark.parametrize(("index", "ids"), SETS.values(), ids=SETS.keys())
def test_flow_of_every_pair_explains_frame1_better_than_seven_misreadings(
    index: Callable[[Path], list[Sample]], ids: list[str], shared: Path
) -> None:
    source = FileSource("real", index(shared / "data"))
    assert source.ids == ids
    for number in range(source.size):
        example = source.example(tf.constant(number))
        frame1, frame2, flow, valid = (part.numpy() for part in example)
        assert np.isfinite(flow).all()
        assert right_reading_is_best(errors_of_readings(frame1, frame2, flow, valid > 0))


def test_invalid_pixels_of_sintel_are_masked(shared: Path) -> None:
    samples = sintel(shared / "data/MPI-Sintel", render_pass="clean")
    masked = [sample.id for sample in samples if sample.invalid]
    assert masked == ["alley_1/frame_0002", "cave_2/frame_0002"]
    source = FileSource("sintel", samples)
    share = [source.example(tf.constant(number)).valid.numpy().mean() for number in (0, 3)]
    assert share[0] == 1
    assert 0.9 < share[1] < 1


def test_sparse_and_unknown_truth_is_masked(shared: Path) -> None:
    data = shared / "data"
    sparse = FileSource("kitti", kitti(data / "kitti2015", truth="noc"))
    assert sparse.example(tf.constant(0)).valid.numpy().mean() == pytest.approx(0.16, abs=0.01)
    unknown = FileSource("middlebury", middlebury(data / "Middlebury"))
    whale = unknown.example(tf.constant(0))
    assert 0.9 < whale.valid.numpy().mean() < 1
    assert np.abs(whale.flow).max() < 100
