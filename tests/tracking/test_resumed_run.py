"""A run that goes on is, in its folder and in every store, as if it had not been interrupted."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tracked import RUN, TREE, FakeStore, images, in_mlflow, make_tracker, metrics, shown

from pwc_exp.errors import DataError
from pwc_exp.tracking import Tracker, journal, record, tracker
from pwc_exp.tracking.record import Record


def test_a_run_that_goes_on_is_everywhere_as_if_it_had_not_been_interrupted(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores: dict[str, Any] = {"mlflow": True, "tensorboard": True}

    def steps(tracking: Tracker, numbers: range) -> None:
        for step in numbers:
            tracking.scalars(step, {"train/loss": 1 / (step + 1), "time/data_wait": time.time()})
            if step % 5 == 0:
                tracking.image(step, "val/a", TREE)

    with pytest.raises(SystemExit), make_tracker(root, params={"steps": 10}, **stores) as tracking:
        steps(tracking, range(8))
        raise SystemExit(143)
    first = journal.read(root / RUN / "metrics.jsonl")
    assert in_mlflow(root)[1].info.status == "KILLED"
    with (root / RUN / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "tim')
    changes = {"resumed_at": 4, "changes": {"steps": (10, 12)}, "params": {"steps": 12}}
    with make_tracker(root, tags={"kind": "other"}, **changes, **stores) as tracking:
        assert tracking.history("train/loss") == {step: 1 / (step + 1) for step in range(8)}
        steps(tracking, range(5, 12))
        assert tracking.replay_mismatches == 0

    points = journal.read(root / RUN / "metrics.jsonl")
    assert points[:8] == first
    assert [point.step for point in points] == list(range(12))
    assert metrics(root, "train/loss") == [
        (point.step, point.time, point.values["train/loss"]) for point in points
    ]
    assert images(root) == [f"images/val~a+step+{step}" for step in (0, 10, 5)]
    steps_of_all = list(range(12))
    assert shown(root) == {
        "train/loss": steps_of_all,
        "time/data_wait": steps_of_all,
        "val/a": [0, 5, 10],
    }
    run = in_mlflow(root)[1]
    assert run.info.status == "FINISHED"
    assert run.data.params["steps"] == "10"
    assert run.data.tags["changed.steps"] == "10 -> 12 at step 4"
    assert run.data.tags["resumed_at"] == "4"
    (resumed,) = Record.load(root / RUN).resumed
    assert resumed["step"] == 4
    assert "python" in resumed["command"]
    assert resumed["changes"] == {"steps": ["10", "12"]}
    assert caplog.messages == []


def test_mismatches_of_a_replay_reach_caller_and_record(tmp_path: Path) -> None:
    with make_tracker(tmp_path) as tracking:
        tracking.scalars(1, {"a": 1.0, "b": 1.0, "time/c": 1.0})
    for resume in (1, 2):
        with make_tracker(tmp_path, resumed_at=0) as tracking:
            tracking.scalars(1, {"a": 1.0, "b": 2.0, "time/c": 2.0})
            assert tracking.replay_mismatches == resume
            assert Record.load(tmp_path / RUN).tags["replay_mismatches"] == str(resume)


def test_identity_is_on_the_disk_before_a_store_hears_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []

    def open_store(self: Tracker) -> FakeStore:
        known.append(Record.load(tmp_path / RUN).uid)
        return FakeStore()

    monkeypatch.setattr(Tracker, "_open_mlflow", open_store)
    for resumed_at in (None, 3):
        with make_tracker(tmp_path, mlflow=True, resumed_at=resumed_at):
            pass
    assert len(known) == 2
    assert known[0] == known[1] != ""


def test_a_run_killed_before_it_had_a_record_gets_one(tmp_path: Path) -> None:
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / ".tmp-run.json.1").touch()
    with make_tracker(tmp_path, resumed_at=0):
        pass
    assert Record.load(tmp_path / RUN).status == "FINISHED"
    assert not (tmp_path / RUN / ".tmp-run.json.1").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "a"}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / record.FILE).write_text(content)
    with (
        pytest.raises(DataError, match=r"run\.json: not the record of a run"),
        make_tracker(tmp_path, resumed_at=1),
    ):
        pass


def test_points_of_a_time_without_server_arrive_when_the_run_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "_CLOSE_SECONDS", 0.0)
    with make_tracker(root, mlflow=True, uri="http://127.0.0.1:9") as tracking:
        for step in range(5):
            tracking.scalars(step, {"train/loss": step})
    monkeypatch.undo()
    with make_tracker(
        root, mlflow=True, resumed_at=5, uri=f"sqlite:///{root}/outputs/mlflow/mlflow.db"
    ) as tracking:
        tracking.scalars(5, {"train/loss": 5})
    points = journal.read(root / RUN / "metrics.jsonl")
    assert metrics(root, "train/loss") == [
        (point.step, point.time, point.values["train/loss"]) for point in points
    ]
    assert len(points) == 6


def test_pictures_of_a_run_of_an_earlier_version_are_in_every_store_once(root: Path) -> None:
    with make_tracker(root, tensorboard=True) as tracking:
        for step in (1, 2):
            tracking.image(step, "val/a", TREE)
            tracking.scalars(step, {"train/loss": step})
    for name in ("images.jsonl", "tensorboard.json"):  # which that did not write
        (root / RUN / name).unlink()
    shutil.rmtree(root / RUN / "images")
    with make_tracker(root, mlflow=True, tensorboard=True, resumed_at=1) as tracking:
        for step in (2, 3):
            tracking.image(step, "val/a", TREE)
            tracking.scalars(step, {"train/loss": step})
    assert images(root) == [f"images/val~a+step+{step}" for step in (1, 2, 3)]
    assert shown(root) == {"val/a": [1, 2, 3], "train/loss": [1, 2, 3]}
    pictures = journal.picture_reader(root / RUN).read()
    pixels = np.asarray(PIL.Image.open(root / RUN / pictures[0].file))
    np.testing.assert_array_equal(pixels, TREE)
