"""What children are called, and what is known of a sweep and its children by their folders."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp.config.composition import Resumption, resume
from pwc_exp.config.schema import CONFIG_FILE, SWEEP_FILE, load
from pwc_exp.errors import DataError, ResumeError
from pwc_exp.sweeps.folder import (
    RATE,
    Objective,
    Status,
    SweepFolder,
    make_child,
    read_outcome,
    sweeps_in,
)
from pwc_exp.sweeps.folder import training_seconds as seconds
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Journal, Point
from pwc_exp.tracking.record import Record

KEY = "val/aepe"


def test_a_child_has_the_exact_values_and_a_short_name() -> None:
    values = {"schedule.peak": "0.0020554062603827007", "model": "tiny"}
    child = make_child(3, values, ["steps=4"])
    assert child.overrides == ["steps=4", "schedule.peak=0.0020554062603827007", "model=tiny"]
    assert child.name == "schedule.peak=0.002055 model=tiny"
    assert child.folder == "3_schedule.peak-0.002055_model-tiny"
    assert make_child(0, {}, ["steps=4"])[1:3] == ("0", "0")


def test_a_folder_needs_no_quotes_whatever_the_values_are() -> None:
    values = {"data.crop": "[128,192]", "data.root": "'/a b/c=d'", "+loss.q": "0.4" + "0" * 300}
    child = make_child(12, values, [])
    assert re.fullmatch(r"12_[A-Za-z0-9._-]+", child.folder)
    assert len(child.folder) <= 60


def test_a_child_resumes_in_its_folder_and_with_its_values_only(
    root: Path, configure: Callable[..., Any]
) -> None:
    sweep = SweepFolder(path=root / "sweep", arguments=[], definition={})
    children = [make_child(number, {"seed": str(number)}, ["steps=9"]) for number in range(2)]
    config = configure("train", *children[0].overrides)
    sweep.add([(children[0], config), (children[1], None)])
    run_dir, other = map(sweep.run_dir, children)

    def resumed(place: Path, *overrides: str) -> Resumption | None:
        return resume([*overrides, f"hydra.run.dir={place}", "resume=auto"])

    assert load(run_dir / CONFIG_FILE) == config
    found = resumed(run_dir, *children[0].overrides)
    assert found is not None and (found.run_dir, found.config.seed) == (run_dir, 0)
    assert resumed(other, *children[0].overrides) is None  # though such a run is beside it
    with pytest.raises(ResumeError, match="seed 0 -> 1"):
        resumed(run_dir, *children[1].overrides)
    with pytest.raises(ResumeError, match="steps 9 -> 8"):  # which `resume=<run>` may change
        resumed(run_dir, "steps=8", "seed=0")
    assert resumed(run_dir, *children[0].overrides, "tracking.mlflow=false") is not None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"definition": {}, "children": [{"a": 1}]}'])
def test_a_damaged_file_is_refused_and_no_sweep_to_continue(content: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / SWEEP_FILE).write_text(content)
    with pytest.raises(DataError, match=r"sweep\.json: not the file of a sweep"):
        SweepFolder.load(tmp_path / "one")
    assert sweeps_in(tmp_path) == []


def test_a_run_has_reached_the_last_values_of_its_metrics(tmp_path: Path) -> None:
    path = tmp_path / journal.FILE
    assert read_outcome(tmp_path, KEY).status == Status.WAITING
    record = Record.new("child", {})
    record.end("FINISHED")
    record.save(tmp_path)
    for step in (0, 10, 20):
        journal.append(path, Point(step, 0, {KEY: step / 10, "train/loss": 1.0}))
    journal.append(path, Point(25, 0, {"train/loss": 7.0, RATE: 5.0}))
    outcome = read_outcome(tmp_path, KEY)
    assert (outcome.status, outcome.steps, outcome.seconds) == (Status.FINISHED, 25, 5.0)
    assert outcome.values == {"train/loss": 7.0, KEY: 2.0, RATE: 5.0}
    assert outcome.curve == [(0, 0.0), (10, 1.0), (20, 2.0)]
    assert Objective("seconds").value(outcome) == 5.0
    assert math.isnan(Objective("val/apee").value(outcome))


def rates(*points: tuple[int, float | None]) -> list[Point]:
    return [
        Point(step, 0, {"train/loss": 1.0} | ({} if rate is None else {RATE: rate}))
        for step, rate in points
    ]


def test_the_seconds_of_training_are_steps_by_rates() -> None:
    assert seconds(rates((20, 10.0), (40, 5.0))) == 20 / 10 + 20 / 5
    assert seconds(rates((1, None), (20, 10.0), (24, None))) == 24 / 10
    assert math.isnan(seconds(rates((1, None)))) and math.isnan(seconds([]))


def test_a_resume_does_not_change_the_seconds(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for step in (20, 40, 60):
        first.add(step, {RATE: 10.0})
    resumed = Journal(tmp_path)
    for step in (40, 60, 80):
        resumed.add(step, {RATE: 1.0 if step < 80 else 10.0})
    assert seconds(journal.read(tmp_path / journal.FILE)) == 8.0
