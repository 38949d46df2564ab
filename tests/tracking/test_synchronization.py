"""`python -m pwc_exp.sync`: what MLflow lacks of a run gets there, once."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracked import RUN, TREE, images, in_mlflow, make_tracker, metrics, point

from pwc_exp import checkpoints, storage
from pwc_exp.config.commands import SyncConfig
from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.config.training import DestinationConfig, TrackingConfig
from pwc_exp.errors import BusyError, ConfigError, DataError, MissingInputError
from pwc_exp.tracking import journal, mlflow_store, record
from pwc_exp.tracking.record import Record
from pwc_exp.training.run_dir import sync

NOTHING = "sent     nothing: all of it is there"
Run = Callable[..., Path]


@pytest.fixture
def run(root: Path, configure: Callable[..., Any]) -> Run:
    """Makes the folder of a run of 4 steps, tracked as the arguments say."""

    def made(error: BaseException | None = None, **told: Any) -> Path:
        folder = root / RUN
        folder.mkdir(parents=True)
        config = configure("train", "model=tiny", "loss.level_weights=[1,1,1]", "outputs=outputs")
        (folder / CONFIG_FILE).write_text(to_yaml(config))
        expected = suppress(type(error)) if error else nullcontext()
        with (
            expected,
            make_tracker(root, tags={"kind": "train"}, tensorboard=True, **told) as tracker,
        ):
            tracker.dataset("synthetic", digest="12", sizes={"train": 1}, context="train")
            for step in range(4):
                tracker.scalars(step, {"train/loss": step / 2})
                checkpoints.save(
                    folder / "checkpoints",
                    step=step,
                    state={"a": np.zeros(step + 1)},
                    metrics={"val/aepe": abs(step - 1)},
                    fingerprint={},
                )
            tracker.image(2, "val/a", TREE)
            if error:
                raise error
        return folder

    return made


def config_of(folder: Path, **destination: str) -> SyncConfig:
    return SyncConfig(run=str(folder), tracking=DestinationConfig(**destination))


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (SystemExit(143), "KILLED"), (ArithmeticError(), "FAILED")],
)
def test_a_run_without_mlflow_is_there_afterwards_as_a_whole(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str], error: Any, status: str
) -> None:
    folder = run(error)
    sync(config_of(folder))
    first = capsys.readouterr().out
    assert "sent     4 points, 1 pictures, 3 artifacts, " in first
    assert "the end of the run" in first
    assert first.endswith("python -m pwc_exp.ui\n")
    _, found = in_mlflow(root)
    assert (found.info.status, found.info.run_name) == (status, "test")
    about = Record.load(folder)
    assert (found.info.start_time, found.info.end_time) == (about.started_at, about.ended_at)
    assert found.data.params["model.levels"] == "4"
    assert found.data.tags["kind"] == "train"
    assert found.data.tags["mlflow.source.name"] == about.about["program"]
    points = journal.read(folder / journal.FILE)
    assert metrics(root, "train/loss") == [
        (written.step, written.time, written.values["train/loss"]) for written in points
    ]
    assert images(root) == ["images/val~a+step+2"]
    assert [used.dataset.name for used in found.inputs.dataset_inputs] == ["synthetic"]
    kept = Path(found.info.artifact_uri.removeprefix("file://"))
    assert (kept / CONFIG_FILE).read_bytes() == (folder / CONFIG_FILE).read_bytes()
    best, last = (
        json.loads((kept / f"checkpoints/{name}/manifest.json").read_text())["step"]
        for name in ("best", "last")
    )
    assert (best, last) == (1, 3)

    sync(config_of(folder))
    assert capsys.readouterr().out.splitlines()[0] == NOTHING
    assert in_mlflow(root)[1].to_dictionary() == found.to_dictionary()


def test_a_run_that_mlflow_holds_needs_nothing_but_its_checkpoints(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(mlflow=True)
    sync(config_of(folder))
    out = capsys.readouterr().out.splitlines()[0]
    assert out.startswith("sent     3 artifacts, ")
    assert "points" not in out
    assert "end" not in out
    assert images(root) == ["images/val~a+step+2"]


def test_what_one_process_left_over_is_sent(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(mlflow=True)
    for step in (4, 5):
        journal.append(folder / journal.FILE, point(step))
    with (folder / journal.FILE).open("a") as file:
        file.write('{"step": 6, "ti')
    killed = Record.load(folder)
    killed.ended = None
    killed.save(folder)
    (folder / mlflow_store.STATE_FILE).unlink()  # as if killed before it was written
    sync(config_of(folder))
    assert len(metrics(root, "train/loss")) == 6
    assert in_mlflow(root)[1].info.status == "KILLED"
    capsys.readouterr()
    sync(config_of(folder))
    assert capsys.readouterr().out.splitlines()[0] == NOTHING


def test_a_run_that_is_trained_now_is_refused(root: Path, run: Run) -> None:
    folder = run()
    with storage.lock(folder / ".lock"), pytest.raises(BusyError, match=r"\.lock is held by"):
        sync(config_of(folder))
    assert not (folder / mlflow_store.STATE_FILE).exists()
    sync(config_of(folder))
    assert (folder / mlflow_store.STATE_FILE).exists()


def test_a_server_that_is_gone_is_one_line(run: Run) -> None:
    folder = run()
    with pytest.raises(
        BusyError, match=r"^MLflow at http://127.0.0.1:9 does not take .*refused"
    ) as told:
        sync(config_of(folder, uri="http://me:secret@127.0.0.1:9"))
    assert "secret" not in str(told.value)


def test_a_run_can_be_sent_to_another_experiment(root: Path, run: Run) -> None:
    folder = run()
    sync(config_of(folder, experiment="other"))
    assert json.loads((folder / mlflow_store.STATE_FILE).read_text())["experiment"] == "other"
    assert len(metrics(root, "train/loss")) == 4


@pytest.mark.parametrize(
    ("missing", "error"), [(record.FILE, MissingInputError), (CONFIG_FILE, MissingInputError)]
)
def test_a_folder_that_is_no_run_is_refused(run: Run, missing: str, error: Any) -> None:
    folder = run()
    (folder / missing).unlink()
    with pytest.raises(error, match=missing):
        sync(config_of(folder))


def test_a_damaged_journal_is_named(run: Run) -> None:
    folder = run()
    content = (folder / journal.FILE).read_bytes()
    (folder / journal.FILE).write_bytes(b"oops\n" + content)
    with pytest.raises(DataError, match=r"metrics\.jsonl:1"):
        sync(config_of(folder))


def test_required_needs_mlflow() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.required needs tracking\.mlflow=true"):
        TrackingConfig(mlflow=False, required=True)


@pytest.mark.slow
def test_the_command_says_what_it_sent_in_two_lines(root: Path, run: Run) -> None:
    folder = run()
    moved = root / "a folder"
    shutil.move(folder, moved)

    def command(*arguments: str) -> tuple[int, str, str]:
        line = [sys.executable, "-m", "pwc_exp.sync", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, errors = command(str(moved))
    assert (code, errors) == (0, "")
    assert out.startswith("sent     4 points, 1 pictures, 3 artifacts")
    assert command(f"run='{moved}'")[1].splitlines()[0] == NOTHING
    with storage.lock(moved / ".lock"):
        code, out, errors = command(str(moved))
    assert (code, out) == (75, "")
    assert errors.startswith("error: ")
    assert command("nowhere")[0] == 66
    assert command()[0] == 2
    assert command(str(moved), "tracking.url=http://a")[0] == 2
