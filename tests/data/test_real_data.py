"""The data sets' own files: counts, names, masks, checks, and which way the flow points."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy_warp import errors_of_readings, right_reading_is_best

from pwc_exp.data.check import check_samples, flow_statistics
from pwc_exp.data.convention import READINGS, Convention, Reading, find_convention, judge, weigh
from pwc_exp.data.datasets.benchmarks import flyingchairs, kitti, middlebury, sintel
from pwc_exp.data.datasets.custom import folder
from pwc_exp.data.formats.io import write_pfm
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import Decoded, read_sample

Index = Callable[[Path], list[Sample]]


def lmb_examples(root: Path) -> list[Sample]:
    """The examples of FlyingChairs' authors, which have names of their own."""
    return folder(root, frame1="*-img0.ppm", frame2="*-img1.ppm", flow="*-gt.flo", valid=None)


SETS: dict[str, tuple[Index, list[str]]] = {
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
    "flyingchairs examples": (
        lambda data: lmb_examples(data / "FlyingChairs_examples_lmb"),
        ["0000000", "0000001"],
    ),
    "middlebury": (
        lambda data: middlebury(data / "Middlebury"),
        ["RubberWhale", "Urban2", "Venus"],
    ),
}
every_set = pytest.mark.parametrize(("index", "ids"), SETS.values(), ids=SETS.keys())


@pytest.fixture
def stereo(shared: Path, tmp_path: Path) -> Sample:
    """The stereo pair of FlyingThings3D; a point at disparity d moves by (-d, 0)."""
    root, name = shared / "data/FlyingThings3D_stereo", "A-0032-0006"
    disparity = read_pfm(root / "disparity/left" / f"{name}.pfm")
    write_pfm(tmp_path / "flow.pfm", np.stack([-disparity, 0 * disparity], axis=-1))
    return Sample(
        id=name,
        scene=name,
        frame1=root / "RGB_cleanpass/left" / f"{name}.png",
        frame2=root / "RGB_cleanpass/right" / f"{name}.png",
        flow=tmp_path / "flow.pfm",
    )


def read_pfm(path: Path) -> np.ndarray:
    """Reads a .pfm of one channel, [H, W]."""
    _, size, scale, pixels = path.read_bytes().split(b"\n", 3)
    width, height = (int(side) for side in size.split())
    dtype = "<f4" if float(scale) < 0 else ">f4"
    return np.frombuffer(pixels, dtype).reshape(height, width)[::-1]


def told(found: Convention, reading: Reading) -> bool:
    """Whether `reading` was found, up to the signs of what does not move."""
    if found.reading is None:
        return False
    alike = found.reading._replace(
        x_sign=reading.x_sign if "x" in found.untold else found.reading.x_sign,
        y_sign=reading.y_sign if "y" in found.untold else found.reading.y_sign,
    )
    return alike == reading


def each_reading_of(pair: Decoded) -> list[tuple[Reading, Convention]]:
    """What is found of the pair when its flow is stored in each of the eight ways."""
    results = []
    for reading in READINGS:
        flow = pair.flow * np.array([reading.x_sign, reading.y_sign], np.float32)
        stored = pair._replace(flow=flow[..., ::-1] if reading.y_first else flow)
        results.append((reading, judge([weigh(*stored)])))
    return results


@every_set
def test_every_pair_passes_the_check_of_headers_and_of_content(
    index: Index, ids: list[str], shared: Path
) -> None:
    samples = index(shared / "data")
    assert [sample.id for sample in samples] == ids
    for read in (None, read_sample):
        report = check_samples(samples, read=read, workers=2, expected=None)
        assert (report.errors, report.notes) == ([], [])
        assert (report.pairs, sum(report.sizes.values())) == (len(ids), len(ids))


@every_set
def test_flow_of_every_pair_explains_frame1_better_than_seven_misreadings(
    index: Index, ids: list[str], shared: Path
) -> None:
    samples = index(shared / "data")
    assert len(samples) == len(ids)
    for sample in samples:
        frame1, frame2, flow, valid = read_sample(sample)
        assert np.isfinite(flow).all()
        assert right_reading_is_best(errors_of_readings(frame1, frame2, flow, valid > 0))


@every_set
def test_every_set_is_found_to_be_standard(index: Index, ids: list[str], shared: Path) -> None:
    samples = index(shared / "data")
    found = find_convention(samples, read=read_sample, workers=2, limit=None)
    assert (found.verdict, found.remarks) == ("standard", [])
    assert found.pairs == found.agreeing == len(ids)


@every_set
def test_each_misreading_of_a_pair_is_named(index: Index, ids: list[str], shared: Path) -> None:
    results = each_reading_of(read_sample(index(shared / "data")[-1]))
    assert len(results) == 8
    for reading, found in results:
        assert told(found, reading), (reading.name, found)
        assert found.untold == (["y"] if ids[-1] == "Venus" else [])  # moves along x alone


def test_disparity_as_flow_passes_and_tells_all_but_the_sign_of_y(stereo: Sample) -> None:
    report = check_samples([stereo], read=read_sample, workers=1, expected=None)
    assert (report.errors, report.notes) == ([], [])
    for reading, found in each_reading_of(read_sample(stereo)):
        assert found.untold == ["y"]
        assert told(found, reading), (reading.name, found)


@pytest.mark.parametrize(("name", "mean"), [("sintel clean", 6.007), ("kitti 2015 noc", 51.010)])
def test_mean_magnitude_is_the_error_of_zero_flow(name: str, mean: float, shared: Path) -> None:
    """The known errors were measured by another program."""
    samples = SETS[name][0](shared / "data")
    found = flow_statistics(
        samples, read=lambda sample: read_sample(sample)[2:], workers=2, limit=None
    )
    assert found.examples == len(samples) > 0
    assert found.mean == pytest.approx(mean, abs=5e-4)


def test_invalid_pixels_of_sintel_are_masked(shared: Path) -> None:
    samples = sintel(shared / "data/MPI-Sintel", render_pass="clean")
    masked = [sample.id for sample in samples if sample.invalid]
    assert masked == ["alley_1/frame_0002", "cave_2/frame_0002"]
    share = [read_sample(samples[number]).valid.mean() for number in (0, 3)]
    assert share[0] == 1
    assert 0.9 < share[1] < 1


def test_sparse_and_unknown_ground_truth_is_masked(shared: Path) -> None:
    data = shared / "data"
    sparse = read_sample(kitti(data / "kitti2015", truth="noc")[0])
    assert sparse.valid.mean() == pytest.approx(0.16, abs=0.01)
    whale = read_sample(middlebury(data / "Middlebury")[0])
    assert 0.9 < whale.valid.mean() < 1
    assert np.abs(whale.flow).max() < 100
