"""What is read of the runs of a sweep."""

import math
from pathlib import Path

import pytest

from pwc_exp.sweeps.results import RATE, Objective, Status, read_outcome
from pwc_exp.sweeps.results import training_seconds as seconds
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Journal, Point
from pwc_exp.tracking.record import Record

KEY = "val/aepe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / journal.FILE


def test_a_run_has_reached_the_last_values_of_its_metrics(tmp_path: Path, path: Path) -> None:
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


def test_a_resume_does_not_change_the_seconds(path: Path) -> None:
    first = Journal(path.parent)
    for step in (20, 40, 60):
        first.add(step, {RATE: 10.0})
    resumed = Journal(path.parent)
    for step in (40, 60, 80):
        resumed.add(step, {RATE: 1.0 if step < 80 else 10.0})
    assert seconds(journal.read(path)) == 8.0
