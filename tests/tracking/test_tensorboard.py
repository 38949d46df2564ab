"""The event file: what TensorBoard shows is the journal, and each picture once, after any end."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
from tracked import RUN, TREE, make_tracker, point

from pwc_exp.tracking import journal, tensorboard
from pwc_exp.tracking.events import Picture, Text
from pwc_exp.tracking.tensorboard import EventFile, read_pictures


def picture(step: int, key: str = "val/a") -> Picture:
    return Picture(step, 1000 + step, key, TREE)


def shown(folder: Path) -> Any:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def steps(folder: Path, key: str) -> list[int]:
    return [event.step for event in shown(folder).Tensors(key)]


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def killed(folder: Path) -> Path:
    """An event file that a process left when it was killed: points and pictures to step 5."""
    events = EventFile(folder, [])
    for step in range(6):
        events.send_points([point(step)])
        events.send_item(picture(step))
    return the_file(folder)


def test_event_file_holds_all_points_and_pictures(tmp_path: Path) -> None:
    with make_tracker(tmp_path, tensorboard=True, params={"a": 1}) as tracker:
        for step in range(20):
            tracker.scalars(step, {"train/loss": step / 2, "val/nan": math.nan})
        for step in (0, 10):
            tracker.image(step, "val/alley_1/frame_0001", TREE)
    points = journal.read(tmp_path / RUN / "metrics.jsonl")
    events = shown(tmp_path / RUN / "tensorboard")

    losses = events.Tensors("train/loss")
    assert [(event.step, round(event.wall_time * 1000)) for event in losses] == [
        (written.step, written.time) for written in points
    ]
    assert [float(tensor_util.make_ndarray(event.tensor_proto)) for event in losses] == [
        step / 2 for step in range(20)
    ]
    assert len(events.Tensors("val/nan")) == 20
    pictures = events.Tensors("val/alley_1/frame_0001")
    assert [event.step for event in pictures] == [0, 10]
    width, height, png = tensor_util.make_ndarray(pictures[0].tensor_proto)
    assert (width, height) == (b"8", b"6")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(png))), TREE)
    for key, plugin in (("train/loss", "scalars"), ("val/alley_1/frame_0001", "images")):
        assert events.SummaryMetadata(key).plugin_data.plugin_name == plugin


def test_a_run_that_goes_on_shows_the_journal_and_each_picture_once(tmp_path: Path) -> None:
    old = killed(tmp_path)
    new = tmp_path / old.name.replace("events.out.tfevents.", "events.out.tfevents.0")
    old.rename(new)  # as if of another time
    points = [point(step) for step in range(4)]
    events = EventFile(tmp_path, points)
    for step in range(4, 8):  # steps 4 and 5 again
        events.send_points([point(step)])
        events.send_item(picture(step))
    events.close("FINISHED")
    assert steps(tmp_path, "train/loss") == list(range(8))
    assert steps(tmp_path, "val/a") == list(range(8))
    assert the_file(tmp_path) != new


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_event_file_gives_the_pictures_before_the_tear(tmp_path: Path, cut: int) -> None:
    old = killed(tmp_path)
    os.truncate(old, old.stat().st_size - cut)
    EventFile(tmp_path, [point(step) for step in range(6)]).send_points([point(6)])
    assert steps(tmp_path, "train/loss") == list(range(7))
    assert steps(tmp_path, "val/a") == list(range(5))


@pytest.mark.parametrize("garbage", [b"\0" * 1000, b"\x08" + b"\0" * 7 + b"junkjunkjunkjunk"])
def test_what_is_no_record_ends_the_file(tmp_path: Path, garbage: bytes) -> None:
    old = killed(tmp_path)
    with old.open("ab") as file:
        file.write(garbage)
    assert [drawn.step for drawn in read_pictures(tmp_path)] == list(range(6))


class Killed(BaseException):
    """What a test raises in the place of a kill."""


@pytest.mark.parametrize("place", ["_rebuild", "replace", "rename"])
def test_a_kill_during_the_rebuild_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    killed(tmp_path)
    points = [point(step) for step in range(6)]
    with monkeypatch.context() as kill:

        def die(*arguments: Any) -> None:
            raise Killed

        kill.setattr(EventFile if place == "_rebuild" else Path, place, die)
        with pytest.raises(Killed):
            EventFile(tmp_path, points)
    assert steps(tmp_path, "train/loss") == list(range(6))
    assert steps(tmp_path, "val/a") == list(range(6))
    EventFile(tmp_path, points)
    assert steps(tmp_path, "train/loss") == list(range(6))
    assert steps(tmp_path, "val/a") == list(range(6))
    the_file(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = killed(tmp_path)
    content = old.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        EventFile(tmp_path, [point(0)])
    assert the_file(tmp_path) == old
    assert old.read_bytes() == content


def test_a_record_that_does_not_fit_leaves_no_part_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = EventFile(tmp_path, [point(0)])
    file = events._file

    class Small:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            return file.write(data[:5])

    with monkeypatch.context() as full:
        full.setattr(events, "_file", Small())
        with pytest.raises(OSError, match="5 of"):
            events.send_points([point(1)])
    events.send_points([point(1)])
    assert steps(tmp_path, "train/loss") == [0, 1]


def test_full_disk_costs_the_run_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: EventFile, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventFile, "_write", refuse)
    with make_tracker(tmp_path, tensorboard=True) as tracker:
        tracker.scalars(0, {"train/loss": 1.0})
    assert "TensorBoard does not take what is sent; the run goes on" in caplog.messages[0]
    assert "TensorBoard is incomplete: 1 entries" in caplog.messages[1]


def test_what_has_no_place_in_an_event_file_is_left_out(tmp_path: Path) -> None:
    events = EventFile(tmp_path, [])
    size = the_file(tmp_path).stat().st_size
    events.send_item(Text("a", ""))
    assert the_file(tmp_path).stat().st_size == size


def test_a_file_that_is_renamed_while_it_is_looked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = killed(tmp_path)
    searches = iter([[tmp_path / "events.out.tfevents.0"], [old]])
    monkeypatch.setattr(Path, "glob", lambda self, pattern: next(searches))
    assert [drawn.step for drawn in read_pictures(tmp_path)] == list(range(6))
