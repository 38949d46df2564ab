"""The command: every pair has its results, once, whatever becomes of the others."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from grey_frames import HEIGHT, RATE, WIDTH, about, grey, write_video

from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow
from pwc_exp.errors import ConfigError, DataError, DiskFullError
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.prediction import command
from pwc_exp.prediction.sources import read_video
from pwc_exp.storage import sha256_of
from pwc_exp.weights import WeightsInfo

Predict = Callable[..., Path]
RECORD = "predict.jsonl"


class Model:
    """What `BrightnessEstimator` notes, and what it raises."""

    dtype_policy = SimpleNamespace(name="float32")

    def __init__(self) -> None:
        self.batches: list[tuple[int, tuple[int, int]]] = []
        self.fails: list[BaseException | None] = []  # in the next calls


class BrightnessEstimator:
    """Stands for the network: the flow is (d, d/2), if frame 2 is brighter by d levels.

    More than 200 levels count four times.
    """

    def __init__(self, model: Model, **settings: Any) -> None:
        self.model = model
        self.settings = settings

    def __call__(
        self, frames1: Sequence[np.ndarray], frames2: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        if "batch_size" in self.settings:  # not the first pass
            self.model.batches.append((len(frames1), frames1[0].shape[:2]))
        if self.model.fails and (error := self.model.fails.pop(0)):
            raise error
        steps = [
            255 * float(two.mean() - one.mean()) for one, two in zip(frames1, frames2, strict=True)
        ]
        steps = [4 * step if abs(step) > 200 else step for step in steps]
        return [np.full((*frames1[0].shape[:2], 2), (d, d / 2), np.float32) for d in steps]

    def account(self, height: int, width: int) -> dict[str, Any]:
        return {"padded_to": [height, width]}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    """Makes the command estimate without a network; the batches that it asks for are noted."""
    model = Model()
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")

    def load(**settings: Any) -> SimpleNamespace:
        info = WeightsInfo(path=weights, sha256=sha256_of(weights), licence="")
        return SimpleNamespace(model=model, info=info)

    monkeypatch.setattr(command, "load_network", load)
    monkeypatch.setattr(command, "Estimator", BrightnessEstimator)
    return model


@pytest.fixture
def predict(model: Model, configure: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """(frames, *overrides) -> the folder of the results, out."""

    def call(frames: Path | str, *overrides: str) -> Path:
        out = tmp_path / "out"
        places = (f"weights={tmp_path}/weights", f"frames={frames}", f"out={out}")
        command.predict(configure("predict", "model=tiny", *places, *overrides))
        return out

    return call


def clip(folder: Path, *levels: int) -> Path:
    """Frames of these grey levels."""
    for number, level in enumerate(levels, start=8):
        grey(folder / f"frame_{number}.png", level)
    return folder


def names(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def record(out: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What made the results, and the line of each that is complete."""
    header, *lines = map(json.loads, (out / RECORD).read_text().splitlines())
    return header, {line["name"]: line for line in lines}


def test_each_pair_has_its_flow_in_both_directions_and_a_line_of_the_record(
    predict: Predict, tmp_path: Path
) -> None:
    folder = clip(tmp_path / "clip", 10, 13, 14)
    out = predict(folder, "outputs=[flo]", "direction=both")
    steps = {"frame_8": 3, "frame_9": 1, "frame_8_backward": -3, "frame_9_backward": -1}
    assert names(out) == sorted([*(f"{name}.flo" for name in steps), RECORD])
    for name, step in steps.items():
        np.testing.assert_allclose(read_flow(out / f"{name}.flo")[0][0, 0], (step, step / 2), 1e-4)
    header, lines = record(out)
    assert header["weights"]["path"] == f"{tmp_path}/weights"
    assert header["settings"]["precision"] == "float32"
    assert lines["frame_8"] == {
        "name": "frame_8",
        "made_of": f"{folder}/frame_8.png -> {folder}/frame_9.png",
        "files": ["frame_8.flo", "frame_8_backward.flo"],
        "size": [HEIGHT, WIDTH],
        "network": {"padded_to": [HEIGHT, WIDTH]},
        "max_speed": None,
    }


def test_batches_are_of_one_size_and_the_last_pairs_are_not_lost(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    frames = [grey(tmp_path / f"a{n}.png", n) for n in range(6)]
    frames += [grey(tmp_path / f"b{n}.png", n, (20, 24)) for n in range(2)]
    lines = [f"{one}\t{other}" for one, other in pairwise(frames)]
    del lines[5]  # of two sizes
    (tmp_path / "list.txt").write_text("\n".join(lines))
    out = predict(tmp_path / "list.txt", "batch_size=2", "outputs=[npy]")
    large = (HEIGHT, WIDTH)
    assert model.batches == [(2, large), (2, large), (1, large), (1, (20, 24))]
    assert len(names(out)) == 7


def test_one_bad_pair_does_not_stop_the_rest_and_of_many_only_a_summary_is_printed(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clip(tmp_path / "clip", *range(14))
    (folder / "frame_10.png").write_text("not a frame")
    with pytest.raises(DataError, match="2 failed, as listed; all others are written"):
        predict(folder, "outputs=[flo]", "batch_size=4")
    assert len(names(tmp_path / "out")) == 12
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}/out: 11 pairs written, 2 failed\n"
    assert f"failed: {folder}/frame_9.png -> {folder}/frame_10.png: Not an image" in told.err
    assert f"failed: {folder}/frame_10.png -> {folder}/frame_11.png: Not an image" in told.err


def test_a_flow_that_a_format_cannot_hold_fails_alone_and_is_made_again(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    folder = clip(tmp_path / "clip", 0, 3, 255, 250)  # 252 levels: 1008 px
    for made in (3, 4):
        with pytest.raises(DataError, match="1 failed"):
            predict(folder, "outputs=[flo,kitti]")
        assert set(record(tmp_path / "out")[1]) == {"frame_8", "frame_10"}
        assert len(model.batches) == made


def test_a_full_disk_stops_all(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise DiskFullError("full")

    monkeypatch.setattr("pwc_exp.data.formats.io.write_file", full)
    with pytest.raises(DiskFullError):
        predict(clip(tmp_path / "clip", 1, 2, 3), "outputs=[flo]")


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ("", 0),
        ("overwrite=true", 2),
        ("scale=0.5", 2),
        ("outputs=[flo,npy]", 2),
        ("frame", 1),
        ("result", 1),
        ("cut record", 1),
        ("no record", 2),
        ("weights", 2),
    ],
)
def test_only_what_has_changed_is_made_again(
    predict: Predict, model: Model, tmp_path: Path, change: str, made: int
) -> None:
    folder = clip(tmp_path / "clip", 1, 2, 3)
    out = predict(folder, "outputs=[flo]")
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    match change:
        case "frame":
            grey(folder / "frame_8.png", 9)
        case "result":
            (out / "frame_8.flo").unlink()
        case "cut record":
            (out / RECORD).write_text((out / RECORD).read_text()[:-9])
        case "no record":
            (out / RECORD).unlink()
        case "weights":
            (tmp_path / "weights").write_bytes(b"others")
    predict(folder, "outputs=[flo]", *([change] if "=" in change else []))
    assert len(model.batches) == 2 + made
    after = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert (after == times) == (made == 0)


def test_results_of_other_settings_are_not_taken_for_those_of_a_call_that_was_interrupted(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    folder = clip(tmp_path / "clip", 1, 2, 3)
    predict(folder, "outputs=[flo]")
    model.fails = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        predict(folder, "outputs=[flo]", "scale=0.5")
    model.batches.clear()
    predict(folder, "outputs=[flo]", "scale=0.5")
    assert len(model.batches) == 2


def test_an_interrupt_leaves_whole_files_only_and_the_next_call_makes_the_rest(
    predict: Predict, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clip(tmp_path / "clip", 1, 2, 3, 4)
    written: list[Path] = []

    def interrupted(path: Path, image: np.ndarray) -> None:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_image(path, image)

    command = (folder, "outputs=[flo,picture,side_by_side]", "max_speed=2")
    with monkeypatch.context() as patched:
        patched.setattr("pwc_exp.prediction.outputs.write_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(*command)
    out = tmp_path / "out"
    assert names(out) == ["frame_8.flo", "frame_8_flow.png", "frame_9.flo", RECORD]
    model.batches.clear()
    predict(*command)
    assert [count for count, _ in model.batches] == [1, 1]
    assert "clip_side_by_side.mp4" in names(out)


def test_one_colour_is_one_motion_in_all_pictures_of_a_sequence_also_when_it_grows(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    folder = clip(tmp_path / "clip", 10, 12, 20)
    out = predict(folder, "outputs=[picture]")
    assert record(out)[1]["frame_8"]["max_speed"] == 9.0  # |(8, 4)| = 8.94, the fastest, rounded up
    for name, step in (("frame_8", 2), ("frame_9", 8)):
        expected = flow_to_colour(np.array([[[step, step / 2]]], np.float32), max_speed=9)[0, 0]
        picture = read_frame(out / f"{name}_flow.png")
        np.testing.assert_allclose(255 * picture, np.broadcast_to(expected, picture.shape), atol=1)
    grey(folder / "frame_11.png", 90)
    predict(folder, "outputs=[picture]")
    assert [line["max_speed"] for line in record(out)[1].values()] == [9, 9, 9]
    assert len(model.batches) == 3
    fixed = predict(folder, "outputs=[picture]", "max_speed=4")
    assert record(fixed)[1]["frame_8"]["max_speed"] == 4


def test_a_result_never_replaces_a_frame(predict: Predict, tmp_path: Path) -> None:
    folder = clip(tmp_path / "out", 1, 2)
    with pytest.raises(ConfigError, match="frame_8.png is one of the frames"):
        predict(folder, "outputs=[kitti]")
    for number, name in enumerate(("a.png", "a_flow.png", "b.png")):
        grey(tmp_path / "other" / name, number)
    with pytest.raises(ConfigError, match="two pairs would both have the result"):
        predict(tmp_path / "other", "outputs=[picture,kitti]")


def test_without_a_folder_each_call_makes_one_of_its_own(
    model: Model, configure: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = [grey(tmp_path / name, 10) for name in ("a.png", "b.png")]
    command.predict(configure("predict", "weights=w", f"frames=[{frames[0]},{frames[1]}]"))
    (out,) = (tmp_path / "outputs/predict").iterdir()
    assert names(out) == ["a.flo", "a_flow.png", RECORD]


def test_from_a_video_to_the_flow_beside_the_frame(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.mp4", [40, 80, 120])
    command = (path, "outputs=[flo,flow_video,side_by_side]", "max_speed=80", "batch_size=2")
    out = predict(*command)
    assert about(out / "clip_side_by_side.mp4") == (2, RATE)
    expected = flow_to_colour(np.array([[[40, 20]]], np.float32), max_speed=80)[0, 0]
    both = np.array(list(read_video(out / "clip_side_by_side.mp4", "out")))
    assert both.shape == (2, 34, 124, 3)
    np.testing.assert_allclose(both[:, 17, 80], [expected] * 2, atol=6)
    np.testing.assert_allclose(both[0, 17, 20], 40, atol=3)
    for frame in read_video(out / "clip_flow.mp4", "out"):
        np.testing.assert_allclose(frame[17, 20], expected, atol=6)
    batches = list(model.batches)
    (out / "clip_flow.mp4").unlink()
    predict(*command)  # the flows are read from their files
    assert model.batches == batches
    assert about(out / "clip_flow.mp4") == (2, RATE)


def test_a_video_is_made_by_default_and_once(
    predict: Predict, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "clip.mp4", [40, 80, 120])
    out = predict(path)
    assert sorted(item.name for item in out.iterdir()) == ["clip_flow.mp4", "predict.jsonl"]
    assert capsys.readouterr().out == f"{out}/clip_flow.mp4: 2 pairs written\n"
    predict(path)
    assert len(model.batches) == 2
    predict(path, "frame_rate=10")
    assert len(model.batches) == 4
    assert about(out / "clip_flow.mp4")[1] == 10
    capsys.readouterr()
    predict(path, "outputs=[flo,flow_video]", "overwrite=true")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # one for each of a few pairs
    assert lines[-1] == f"{out}: 2 pairs written; {out}/clip_flow.mp4"


def test_a_pair_that_fails_is_black_in_the_video_which_is_made_again(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "clip.mp4", [40, 80, 120, 160])
    command = (path, "outputs=[flow_video]", "max_speed=80")
    model.fails = [None, DataError("bad"), None]
    with pytest.raises(DataError, match="1 failed"):
        predict(*command)
    shown = [frame.mean() for frame in read_video(tmp_path / "out/clip_flow.mp4", "out")]
    assert [mean > 20 for mean in shown] == [True, False, True]
    predict(*command)
    assert len(model.batches) == 6
