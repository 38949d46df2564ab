"""The check of a data set: every bad file is named, a good one never; every pixel counts once."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pwc_exp.data.check import (
    EDGES,
    Kind,
    Report,
    Statistics,
    Tally,
    bad_samples,
    check_samples,
    flow_statistics,
    statistics_json,
    statistics_text,
    summarize,
    tally,
    text,
    to_json,
)
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import Decoded, read_sample
from pwc_exp.errors import DataError

HEIGHT, WIDTH = 40, 50
SHIFT = np.array([6, -3], np.float32)  # (x, y)


def write_pair(
    root: Path, name: str, height: int = HEIGHT, width: int = WIDTH, shift: np.ndarray = SHIFT
) -> Sample:
    """A pair of noise that moves by `shift`; with a mask of invalid pixels."""
    folder = root / name
    folder.mkdir(parents=True)
    x, y = shift.astype(int)
    draw = np.random.default_rng(sum(name.encode()))
    canvas = draw.integers(0, 255, (height + 20, width + 20, 3), np.uint8)
    for axis in (0, 1):
        canvas = canvas // 2 + np.roll(canvas, 1, axis) // 2
    write_image(folder / "1.png", canvas[10 : 10 + height, 10 : 10 + width])
    write_image(folder / "2.png", canvas[10 - y :, 10 - x :][:height, :width])
    write_flo(folder / "flow.flo", np.broadcast_to(shift, (height, width, 2)))
    write_image(folder / "invalid.png", np.zeros((height, width, 3), np.uint8))
    return Sample(
        id=name,
        scene=name.rpartition("_")[0],
        frame1=folder / "1.png",
        frame2=folder / "2.png",
        flow=folder / "flow.flo",
        invalid=folder / "invalid.png",
    )


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return [write_pair(tmp_path, name) for name in ("a_1", "a_2", "b_1", "b_2")]


def headers(samples: list[Sample]) -> Report:
    return check_samples(samples, read=None, workers=3, expected=None)


def decoded(samples: list[Sample]) -> Report:
    return check_samples(samples, read=read_sample, workers=3, expected=None)


def found(report: Report) -> list[tuple[Kind, str]]:
    return [(error.kind, error.id) for error in report.errors]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_whole_pairs_pass_and_are_counted(samples: list[Sample], tmp_path: Path) -> None:
    samples.append(write_pair(tmp_path, "b_3", height=24)._replace(split="val"))
    samples[0] = samples[0]._replace(split="train")
    for check in (headers, decoded):
        report = check(samples)
        assert (report.errors, report.notes) == ([], [])
        assert (report.pairs, report.scenes) == (5, 2)
        assert report.splits == {"train": 1, "unsplit": 3, "val": 1}
        assert report.sizes == {(HEIGHT, WIDTH): 4, (24, WIDTH): 1}
        assert bad_samples(report) == {}


def test_headers_alone_decode_nothing(samples: list[Sample]) -> None:
    path = samples[0].frame1
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert headers(samples).errors == []
    assert found(decoded(samples)) == [(Kind.DAMAGED, "a_1")]


@pytest.mark.parametrize("part", ["frame1", "frame2", "flow", "invalid"])
@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (Path.unlink, Kind.MISSING),
        (lambda path: path.write_bytes(b""), Kind.DAMAGED),
        (lambda path: path.write_bytes(b"<html>404</html>"), Kind.DAMAGED),
        (cut, Kind.DAMAGED),
    ],
    ids=["missing", "empty", "html", "truncated"],
)
def test_a_bad_file_is_named_without_decoding(
    part: str, harm: Callable[[Path], object], kind: Kind, samples: list[Sample]
) -> None:
    path = getattr(samples[2], part)
    harm(path)
    report = headers(samples)
    assert found(report) == [(kind, "b_1")]
    assert str(path) in report.errors[0].message
    assert str(path) in text(report, most=10)


def test_every_bad_file_is_named(samples: list[Sample]) -> None:
    paths = [getattr(sample, part) for sample in samples for part in ("frame1", "frame2", "flow")]
    for path in paths:
        path.write_bytes(b"x")
    report = headers(samples)
    assert decoded(samples) == report._replace(decoded=True)
    for path in paths:
        assert sum(f"{path}." in error.message for error in report.errors) == 1
    assert report.sizes == {(HEIGHT, WIDTH): 4}  # of the masks
    assert list(bad_samples(report)) == ["a_1", "a_2", "b_1", "b_2"]


@pytest.mark.parametrize("part", ["frame1", "frame2", "flow", "invalid"])
def test_the_file_of_another_size_is_named(
    part: str, samples: list[Sample], tmp_path: Path
) -> None:
    other = write_pair(tmp_path, "c_1", height=WIDTH, width=HEIGHT)
    samples[0] = samples[0]._replace(**{part: getattr(other, part)})
    report = headers(samples)
    assert found(report) == [(Kind.SIZE, "a_1")]
    assert str(getattr(other, part)) in report.errors[0].message
    assert f"is {WIDTH} x {HEIGHT}, most are {HEIGHT} x {WIDTH}" in report.errors[0].message


@pytest.mark.parametrize("height", [2 * HEIGHT, 2 * HEIGHT - 1])
def test_flow_of_twice_the_size_fits_a_stride_of_two(
    height: int, samples: list[Sample], tmp_path: Path
) -> None:
    flow = tmp_path / "double.flo"
    write_flo(flow, np.broadcast_to(SHIFT, (height, 2 * WIDTH, 2)))
    double = samples[0]._replace(flow=flow, flow_stride=2)
    assert decoded([double]).errors == []
    assert found(headers([double._replace(flow_stride=1)])) == [(Kind.SIZE, "a_1")]


def test_flow_that_is_nowhere_known_is_an_error(samples: list[Sample]) -> None:
    assert samples[3].invalid is not None
    write_image(samples[3].invalid, np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    assert headers(samples).errors == []
    assert found(decoded(samples)) == [(Kind.UNKNOWN, "b_2")]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_numbers_that_are_not_finite_are_an_error(part: int, samples: list[Sample]) -> None:
    def read(sample: Sample) -> Decoded:
        arrays = list(read_sample(sample))
        arrays[part] = arrays[part].copy()
        arrays[part][3, 4] = np.nan
        return Decoded(*arrays)

    report = check_samples(samples[:1], read=read, workers=1, expected=None)
    assert found(report) == [(Kind.NOT_FINITE, "a_1")]
    assert str(samples[0][2 + part]) in report.errors[0].message


def test_a_suspicious_magnitude_is_noted_and_no_error(samples: list[Sample]) -> None:
    assert samples[0].flow is not None
    flow = np.tile(SHIFT, (HEIGHT, WIDTH, 1))
    flow[5, 7] = (-1300, 0)
    write_flo(samples[0].flow, flow)
    report = decoded(samples)
    assert report.errors == []
    assert [(note.kind, note.id) for note in report.notes] == [(Kind.FAST, "a_1")]
    assert "1300 px" in report.notes[0].message


def test_mixed_swapped_and_repeated_frames_are_noted(samples: list[Sample]) -> None:
    first, second, third, good = samples
    mixed = first._replace(frame2=good.frame2)
    swapped = second._replace(frame1=second.frame2, frame2=second.frame1)
    repeated = third._replace(frame2=third.frame1)
    report = decoded([mixed, swapped, repeated, good])
    assert report.errors == []
    assert [(note.kind, note.id) for note in report.notes] == [
        (Kind.UNRELATED, name) for name in ("a_1", "a_2", "b_1")
    ]
    assert "may point from frame 2 to frame 1" in report.notes[1].message


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 4), (5, 5), (-5, 5)])
def test_motion_that_leaves_readings_open_is_not_noted(
    shift: tuple[int, int], tmp_path: Path
) -> None:
    sample = write_pair(tmp_path, "a_1", shift=np.array(shift, np.float32))
    report = decoded([sample])
    assert (report.errors, report.notes) == ([], [])


def test_text_says_what_is_wrong_how_often_and_what_to_do(samples: list[Sample]) -> None:
    for sample in samples[:3]:
        cut(sample.frame2)
    samples[3].frame1.unlink()
    report = check_samples(samples, read=None, workers=2, expected=1041)
    shown = text(report, most=2)
    assert "4 of 1,041" in shown
    assert "4 in 4 pairs" in shown
    assert "damaged file: 3   copy or unpack these files again" in shown
    assert "and 1 more" in shown
    assert "b_1" not in shown
    assert "missing file: 1" in shown
    assert "errors     none" in text(
        headers([samples[3]._replace(frame1=samples[3].frame2)]), most=1
    )


def test_json_holds_every_finding(samples: list[Sample]) -> None:
    for sample in samples:
        cut(sample.frame2)
    content = json.loads(json.dumps(to_json(headers(samples)), allow_nan=False))
    assert [error["id"] for error in content["errors"]] == ["a_1", "a_2", "b_1", "b_2"]
    assert content["kinds"] == {"damaged file": 4}
    assert content["sizes"] == [{"height": HEIGHT, "width": WIDTH, "pairs": 4}]


Read = Callable[[Sample], tuple[np.ndarray, np.ndarray]]


def known(x: list[list[float]], y: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    flow = np.stack([np.array(x, np.float32), np.array(y, np.float32)], axis=-1)
    return flow, np.ones(flow.shape[:2], np.float32)


def random_flow(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow of 0 to some hundreds of pixels, about half of it known."""
    draw = np.random.default_rng(seed)
    flow = draw.normal(0, draw.choice([0.5, 8, 200], (height, width, 1)), (height, width, 2))
    return flow.astype(np.float32), (draw.random((height, width)) < 0.5).astype(np.float32)


def numbered(count: int) -> list[Sample]:
    return [Sample(f"{i:02d}", "s", Path("1"), Path("2"), Path("f")) for i in range(count)]


def by_number(make: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Read:
    return lambda sample: make(int(sample.id))


def test_numbers_of_a_flow_that_can_be_counted_by_hand() -> None:
    flow, valid = known([[3, 0, 0, 0], [0, 60, 1e9, 9]], [[-4, 0, 1, 10], [0.5, 80, 7, 0]])
    valid[1, 2] = 0
    found = summarize([tally("a", flow, valid)])
    assert (found.examples, found.pixels, found.known) == (1, 8, 7)
    assert found.sizes == {(2, 4): 1}
    assert found.mean == pytest.approx((5 + 0 + 1 + 10 + 0.5 + 100 + 9) / 7)
    assert found.median == pytest.approx(5, abs=0.25)
    assert (found.largest, found.largest_id) == (100, "a")
    assert found.speeds == {"s0_10": 5 / 7, "s10_40": 1 / 7, "s40_plus": 1 / 7}
    counts = {low: pixels for low, _, pixels in found.histogram if pixels}
    assert counts == {0: 2, 1: 1, 5: 2, 10: 1, 80: 1}


def test_statistics_equal_those_of_all_pixels_together() -> None:
    pairs = [random_flow(seed, 5 + seed, 9) for seed in range(6)]
    found = summarize([tally(str(seed), *pair) for seed, pair in enumerate(pairs)])
    speed = np.concatenate([np.linalg.norm(flow, axis=-1)[valid > 0] for flow, valid in pairs])
    assert found.known == len(speed)
    assert found.mean == pytest.approx(speed.mean(dtype=np.float64), rel=1e-6)
    assert found.median == pytest.approx(np.median(speed), rel=0.08)
    assert found.largest == pytest.approx(speed.max())
    expected, _ = np.histogram(speed, EDGES)
    assert [each.pixels for each in found.histogram] == expected.tolist()
    assert sum(found.speeds[name] or 0 for name in found.speeds) == pytest.approx(1)


def test_the_first_of_two_largest_is_named_and_the_unknown_never() -> None:
    empty, zero = known([[5]], [[0]]), known([[0]], [[0]])
    empty[1][:] = 0
    tallies = [tally("none", *empty), tally("first", *zero), tally("second", *zero)]
    assert summarize(tallies).largest_id == "first"


@pytest.mark.parametrize("tallies", [[], [tally("a", np.ones((2, 3, 2)), np.zeros((2, 3)))]])
def test_without_a_known_pixel_there_is_no_mean(tallies: list[Tally]) -> None:
    found = summarize(tallies)
    assert found.known == 0
    assert {found.mean, found.median, found.largest, *found.speeds.values()} == {None}
    assert "known" in statistics_text(found)
    json.dumps(statistics_json(found), allow_nan=False)


def test_samples_are_spread_evenly_and_workers_change_nothing() -> None:
    read: list[str] = []

    def noting(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        read.append(sample.id)
        return random_flow(int(sample.id), 4, 6)

    def found(workers: int) -> Statistics:
        return flow_statistics(numbered(40), read=noting, workers=workers, limit=4)

    one = found(1)
    assert read == ["00", "10", "20", "30"]
    assert one == found(3)
    assert one.examples == 4


def test_a_sample_that_cannot_be_read_stops_with_its_own_error() -> None:
    def fails(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        raise DataError(f"damaged: {sample.id}")

    with pytest.raises(DataError, match="damaged: 00"):
        flow_statistics(numbered(200), read=fails, workers=2, limit=None)


def test_json_holds_the_histogram_with_both_edges() -> None:
    content = statistics_json(summarize([tally("a", *known([[700, 1]], [[0, 0]]))]))
    content = json.loads(json.dumps(content, allow_nan=False))
    assert content["sizes"] == [{"height": 1, "width": 2, "pairs": 1}]
    assert content["histogram"][1] == {"low": 1, "high": 2, "pixels": 1}
    assert content["histogram"][-1] == {"low": 640, "high": None, "pixels": 1}
