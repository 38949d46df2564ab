"""Videos in and out."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grey_frames import Model

from pwc_exp.config.commands import Output
from pwc_exp.errors import DataError
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.prediction import sources
from pwc_exp.prediction.outputs import Video
from pwc_exp.prediction.sources import open_source, read_video

av = pytest.importorskip("av")

RATE = Fraction(30000, 1001)
Predict = Callable[..., Path]


def write(path: Path, levels: list[int]) -> Path:
    """A video of grey frames, 34 x 62."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if path.suffix == ".mp4" else "ffv1", rate=RATE)
        stream.width, stream.height = 62, 34
        stream.pix_fmt = "yuv420p" if path.suffix == ".mp4" else "bgr0"
        for level in levels:
            pixels = np.full((34, 62, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def about(path: Path) -> tuple[int, Fraction]:
    """How many frames a video has, and how many per second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.frames, stream.average_rate


def test_a_video_has_even_sizes_and_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video = Video(Output.side_by_side, path, rate=RATE, wheel=False, made_of={})
    assert not video.finish()
    frame, still = np.full((33, 31, 3), 0.2, np.float32), np.zeros((33, 31, 2), np.float32)
    for _ in range(4):
        video.add(frame, still, max_speed=1)
    with pytest.raises(DataError, match=r"of one size.*\(33, 62\). Received: \(31, 66\)"):
        video.add(frame.swapaxes(0, 1), still.swapaxes(0, 1), max_speed=1)
    assert not path.exists()
    assert video.finish()
    assert about(path) == (4, RATE)
    frames = np.array(list(read_video(path, "clip")))
    assert frames.shape == (4, 34, 62, 3)
    np.testing.assert_allclose(frames[:, :, :28].mean((1, 2, 3)), 51, atol=2)
    video.discard()
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]


def test_pairs_of_a_video_are_named_by_number(tmp_path: Path) -> None:
    source = open_source([str(write(tmp_path / "clip.mp4", [40, 80, 120]))])
    assert (source.total, source.frame_rate) == (2, RATE)
    pairs = list(source.pairs())
    assert [pair.name for pair in pairs] == ["clip_000001", "clip_000002"]
    assert pairs[0].frame2 is pairs[1].frame1
    assert pairs[1].frame2.pixels.mean() == pytest.approx(120 / 255, abs=0.01)


def test_a_sample_of_a_video_comes_from_all_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", [2 * n for n in range(100)])
    sample = open_source([str(path)]).sample(4)
    starts = [127.5 * float(pair.frame1.pixels.mean()) for pair in sample]
    assert starts[0] < 2 and len(starts) == 4 and starts[-1] > 40
    assert sorted(starts) == starts


def test_what_is_no_video_of_two_frames_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", [40])
    with pytest.raises(DataError, match="at least two frames"):
        list(open_source([str(path)]).pairs())
    for content in (path.read_bytes()[:200], b"no video" * 100):
        path.write_bytes(content)
        with pytest.raises(DataError, match="clip.mp4: not a video"):
            open_source([str(path)])


def test_a_video_through_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BufferedReader(io.FileIO(write(tmp_path / "clip.nut", [40, 80, 120])))
    monkeypatch.setattr(sources.sys, "stdin", SimpleNamespace(buffer=stream))
    pairs = list(open_source(["-"]).pairs())
    assert [pair.name for pair in pairs] == ["frame_000001", "frame_000002"]
    assert pairs[0].files == []  # whether it is the same as before is not known


def test_from_a_video_to_the_flow_beside_the_frame(
    predict: Predict, model: Model, tmp_path: Path
) -> None:
    path = write(tmp_path / "clip.mp4", [40, 80, 120])
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
    path = write(tmp_path / "clip.mp4", [40, 80, 120])
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
    path = write(tmp_path / "clip.mp4", [40, 80, 120, 160])
    command = (path, "outputs=[flow_video]", "max_speed=80")
    model.fails = [None, DataError("bad"), None]
    with pytest.raises(DataError, match="1 failed"):
        predict(*command)
    shown = [frame.mean() for frame in read_video(tmp_path / "out/clip_flow.mp4", "out")]
    assert [mean > 20 for mean in shown] == [True, False, True]
    predict(*command)
    assert len(model.batches) == 6
