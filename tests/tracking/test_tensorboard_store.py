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
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG as SESSION
from tensorboard.util import tensor_util
from tracked import RUN, TREE, make_tracker

from pwc_exp import storage
from pwc_exp.errors import OutputError
from pwc_exp.tracking import journal, tensorboard_store
from pwc_exp.tracking.journal import Journal
from pwc_exp.tracking.tensorboard_store import STATE_FILE, EventFile

BOTH = ("train/loss", "val/a")


def shown(run_dir: Path) -> Any:
    folder = run_dir / tensorboard_store.FOLDER
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def steps(run_dir: Path) -> dict[str, list[int]]:
    return {key: [event.step for event in shown(run_dir).Tensors(key)] for key in BOTH}


def up_to(step: int) -> dict[str, list[int]]:
    return {key: list(range(step)) for key in BOTH}


def the_file(run_dir: Path) -> Path:
    (path,) = (run_dir / tensorboard_store.FOLDER).iterdir()
    return path


def add(run_dir: Path, numbers: range) -> None:
    kept = Journal(run_dir)
    for step in numbers:
        kept.add(step, {"train/loss": step / 2})
        kept.add_picture(step, "val/a", TREE)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of which TensorBoard has points and pictures of 6 steps."""
    add(tmp_path, range(6))
    EventFile(tmp_path)
    return tmp_path


def test_event_file_holds_all_points_and_pictures(tmp_path: Path) -> None:
    with make_tracker(tmp_path, tensorboard=True, params={"a": 1}) as tracker:
        for step in range(20):
            tracker.scalars(step, {"train/loss": step / 2, "val/nan": math.nan})
        for step in (0, 10):
            tracker.image(step, "val/alley_1/frame_0001", TREE)
    points = journal.read(tmp_path / RUN / "metrics.jsonl")
    events = shown(tmp_path / RUN)

    losses = events.Tensors("train/loss")
    assert [(event.step, round(event.wall_time * 1000)) for event in losses] == [
        (written.step, written.time) for written in points
    ]
    assert [float(tensor_util.make_ndarray(event.tensor_proto)) for event in losses] == [
        step / 2 for step in range(20)
    ]
    assert len(events.Tensors("val/nan")) == 20
    assert events.SummaryMetadata(SESSION).plugin_data.plugin_name == "hparams"
    pictures = events.Tensors("val/alley_1/frame_0001")
    assert [event.step for event in pictures] == [0, 10]
    width, height, png = tensor_util.make_ndarray(pictures[0].tensor_proto)
    assert (width, height) == (b"8", b"6")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(png))), TREE)
    for key, plugin in (("train/loss", "scalars"), ("val/alley_1/frame_0001", "images")):
        assert events.SummaryMetadata(key).plugin_data.plugin_name == plugin


def test_a_second_process_continues_the_same_file(run: Path) -> None:
    first = the_file(run)
    events = EventFile(run)
    for end in (8, 9, 9):
        add(run, range(end))
        events.sync()
    assert the_file(run) == first
    assert steps(run) == up_to(9)


@pytest.mark.parametrize("tail", [b"", b"\0" * 1000, b"\x08" + b"\0" * 7 + b"junkjunkjunk"])
def test_what_a_killed_process_wrote_without_a_note_is_written_again_once(
    run: Path, tail: bytes
) -> None:
    noted = (run / STATE_FILE).read_bytes()
    add(run, range(8))
    EventFile(run)
    (run / STATE_FILE).write_bytes(noted)
    with the_file(run).open("ab") as file:
        file.write(tail)
    EventFile(run)
    assert steps(run) == up_to(8)


def lose_points(run: Path) -> None:
    lines = (run / journal.FILE).read_bytes().splitlines(keepends=True)
    (run / journal.FILE).write_bytes(b"".join(lines[:3]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: os.truncate(the_file(run), the_file(run).stat().st_size - 1),
        lambda run: the_file(run).rename(the_file(run).with_name("events.out.tfevents.0")),
        lambda run: (run / STATE_FILE).unlink(),
        lambda run: (run / STATE_FILE).write_text('{"file": '),
        lambda run: (run / STATE_FILE).write_text('{"file": ""}'),
        lose_points,
    ],
)
def test_a_file_that_is_not_what_was_noted_is_made_again(run: Path, damage: Any) -> None:
    damage(run)
    EventFile(run)
    add(run, range(7))
    EventFile(run).sync()
    assert steps(run) == up_to(7)
    the_file(run)


class Killed(BaseException):
    """What a test raises in the place of a kill."""


@pytest.mark.parametrize(
    "place", ["append", "sync_file", "write_file", "truncate", "make_folder", "half"]
)
@pytest.mark.parametrize("known", [True, False])
def test_a_kill_at_any_moment_loses_and_doubles_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, place: str, known: bool
) -> None:
    if not known:
        (run / STATE_FILE).unlink()
    add(run, range(8))

    def die(*arguments: Any) -> None:
        raise Killed

    def die_half_way(path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data[: len(data) // 2])
        raise Killed

    reached = not (known and place == "make_folder") and (known or place != "truncate")
    with monkeypatch.context() as kill:
        name, call = ("append", die_half_way) if place == "half" else (place, die)
        kill.setattr(storage, name, call)
        try:
            EventFile(run)
        except Killed:
            assert reached
        else:
            assert not reached
    EventFile(run)
    assert steps(run) == up_to(8)
    the_file(run)


def test_a_picture_whose_file_is_gone_is_left_out(tmp_path: Path) -> None:
    add(tmp_path, range(3))
    next((tmp_path / journal.PICTURES).glob("00000001-*")).unlink()
    EventFile(tmp_path)
    assert steps(tmp_path) == {"train/loss": [0, 1, 2], "val/a": [0, 2]}


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_pictures_of_an_earlier_version_are_imported_up_to_a_tear(run: Path, cut: int) -> None:
    for name in (STATE_FILE, journal.PICTURE_FILE):
        (run / name).unlink()
    os.truncate(the_file(run), the_file(run).stat().st_size - cut)
    tensorboard_store.import_pictures(run)
    assert [picture.step for picture in journal.picture_reader(run).read()] == list(range(5))
    EventFile(run)
    assert steps(run) == {"train/loss": list(range(6)), "val/a": list(range(5))}


def test_full_disk_costs_the_run_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = storage.append

    def refuse(path: Path, data: bytes) -> None:
        if "tfevents" in path.name:
            raise OutputError("No space left on device")
        append(path, data)

    monkeypatch.setattr(storage, "append", refuse)
    with make_tracker(tmp_path, tensorboard=True) as tracker:
        tracker.scalars(0, {"train/loss": 1.0})
    assert "TensorBoard does not take what is sent; the run continues" in caplog.messages[0]
    assert "TensorBoard is incomplete at the end of the run" in caplog.messages[-1]
