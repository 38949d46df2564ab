"""What is read of runs, also while they write."""

import math
from pathlib import Path

import pytest

from pwc_exp.sweeps.results import RATE, MetricTail, Objective, Status, read_outcome
from pwc_exp.sweeps.results import training_seconds as seconds
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Journal, Point
from pwc_exp.tracking.record import Record

KEY = "val/aepe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / journal.FILE


def add(path: Path, *steps: int) -> None:
    for step in steps:
        journal.append(path, Point(step, 0, {KEY: step / 10, "train/loss": 1.0}))


def steps(tail: MetricTail) -> list[int]:
    return [step for step, _ in tail.read()]


def test_each_point_is_read_once_and_as_soon_as_it_is_there(tmp_path: Path, path: Path) -> None:
    tail = MetricTail(tmp_path, KEY)
    assert tail.read() == []
    add(path, 0, 10)
    assert tail.read() == [(0, 0.0), (10, 1.0)]
    assert tail.read() == []
    journal.append(path, Point(15, 0, {"train/loss": 1.0}))
    journal.append(path, Point(20, 0, {KEY: math.inf}))
    assert tail.read() == [(20, math.inf)]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path, path: Path) -> None:
    add(path, 10)
    whole = path.read_bytes()
    tail = MetricTail(tmp_path, KEY)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert tail.read() == []
    path.write_bytes(whole)
    assert steps(tail) == [10]


@pytest.mark.parametrize("torn", [b'{"step": 30, "ti', b'{"step": 30, "ti\n', b"\0" * 50 + b"\n"])
def test_after_a_resume_no_point_is_missed(torn: bytes, tmp_path: Path, path: Path) -> None:
    add(path, 10, 20)
    with path.open("ab") as file:
        file.write(torn)
    tail = MetricTail(tmp_path, KEY)
    assert steps(tail) == [10, 20]
    resumed = Journal(path.parent)  # cuts the end off
    for step in (20, 30):
        resumed.add(step, {KEY: 9.0})
    assert tail.read() == [(30, 9.0)]


@pytest.mark.parametrize("again", [(10,), (10, 20, 30, 40), (10, 15, 25, 35, 45, 55)])
def test_a_file_that_lost_lines_is_read_from_its_start(
    again: tuple[int, ...], tmp_path: Path, path: Path
) -> None:
    add(path, 10, 20, 30)
    tail = MetricTail(tmp_path, KEY)
    tail.read()
    path.write_bytes(b"")
    journal.append(path, Point(1, 0, {"longer": 1.0}))
    add(path, *again)
    assert steps(tail) == list(again)


def test_a_run_has_reached_the_last_values_of_its_metrics(tmp_path: Path, path: Path) -> None:
    assert read_outcome(tmp_path, KEY).status == Status.WAITING
    record = Record.new("child", {})
    record.end("FINISHED")
    record.save(tmp_path)
    add(path, 0, 10, 20)
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
