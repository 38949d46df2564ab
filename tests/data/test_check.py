"""The check of a data set: every bad file is named, and a good one never is."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pwc_exp.data.check import Kind, Report, bad_samples, check_samples, text, to_json
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import Decoded, read_sample

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


def test_swapped_files_are_named(samples: list[Sample]) -> None:
    sample = samples[1]
    assert sample.flow is not None
    samples[1] = sample._replace(frame2=sample.flow, flow=sample.frame2)
    assert found(headers(samples)) == [(Kind.DAMAGED, "a_2")] * 2


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


def test_pairs_without_ground_truth_pass(samples: list[Sample]) -> None:
    report = decoded([sample._replace(flow=None, invalid=None) for sample in samples])
    assert (report.errors, report.notes) == ([], [])


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


def test_nothing_to_check_is_a_report(samples: list[Sample]) -> None:
    report = decoded(samples[:0])
    assert (report.pairs, report.errors, report.sizes) == (0, [], {})
    assert "sizes      none" in text(report, most=3)
