"""Videos in and out."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grey_frames import RATE, about, write_video

from pwc_exp.config.commands import Output
from pwc_exp.errors import DataError
from pwc_exp.prediction import sources
from pwc_exp.prediction.outputs import Video
from pwc_exp.prediction.sources import open_source, read_video


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
    source = open_source([str(write_video(tmp_path / "clip.mp4", [40, 80, 120]))])
    assert (source.total, source.frame_rate) == (2, RATE)
    pairs = list(source.pairs())
    assert [pair.name for pair in pairs] == ["clip_000001", "clip_000002"]
    assert pairs[0].frame2 is pairs[1].frame1
    assert pairs[1].frame2.pixels.mean() == pytest.approx(120 / 255, abs=0.01)


def test_a_sample_of_a_video_comes_from_all_of_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [2 * n for n in range(100)])
    sample = open_source([str(path)]).sample(4)
    starts = [127.5 * float(pair.frame1.pixels.mean()) for pair in sample]
    assert starts[0] < 2 and len(starts) == 4 and starts[-1] > 40
    assert sorted(starts) == starts


def test_what_is_no_video_of_two_frames_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [40])
    with pytest.raises(DataError, match="at least two frames"):
        list(open_source([str(path)]).pairs())
    for content in (path.read_bytes()[:200], b"no video" * 100):
        path.write_bytes(content)
        with pytest.raises(DataError, match="clip.mp4: not a video"):
            open_source([str(path)])


def test_a_video_through_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BufferedReader(io.FileIO(write_video(tmp_path / "clip.nut", [40, 80, 120])))
    monkeypatch.setattr(sources.sys, "stdin", SimpleNamespace(buffer=stream))
    pairs = list(open_source(["-"]).pairs())
    assert [pair.name for pair in pairs] == ["frame_000001", "frame_000002"]
    assert pairs[0].files == []  # whether it is the same as before is not known
