import math
from pathlib import Path

import pytest

from pwc_exp.errors import DataError
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Journal, Point
from pwc_exp.tuning.watch import RATE, Reading, Watch, measure, seconds

KEY = "val/aepe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / journal.FILE


def add(path: Path, *steps: int) -> None:
    for step in steps:
        journal.append(path, Point(step, 0, {KEY: step / 10, "train/loss": 1.0}))


def test_each_point_is_read_once_and_as_soon_as_it_is_there(tmp_path: Path, path: Path) -> None:
    watch = Watch(tmp_path, KEY)
    assert watch.look() == []
    add(path, 0, 10)
    assert watch.look() == [Reading(0, 0.0), Reading(10, 1.0)]
    assert watch.look() == []
    journal.append(path, Point(15, 0, {"train/loss": 1.0}))
    add(path, 20)
    assert watch.look() == [Reading(20, 2.0)]


def test_a_value_that_is_not_finite_is_read(tmp_path: Path, path: Path) -> None:
    journal.append(path, Point(10, 0, {KEY: math.inf}))
    assert Watch(tmp_path, KEY).look() == [Reading(10, math.inf)]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path, path: Path) -> None:
    add(path, 10)
    whole = path.read_bytes()
    watch = Watch(tmp_path, KEY)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert watch.look() == []
    path.write_bytes(whole)
    assert watch.look() == [Reading(10, 1.0)]


@pytest.mark.parametrize("torn", [b'{"step": 30, "ti', b'{"step": 30, "ti\n', b"\0" * 50 + b"\n"])
def test_after_a_resume_no_point_is_told_twice_and_none_is_missed(
    torn: bytes, tmp_path: Path, path: Path
) -> None:
    add(path, 10, 20)
    with path.open("ab") as file:
        file.write(torn)
    watch = Watch(tmp_path, KEY)
    assert [step for step, _ in watch.look()] == [10, 20]
    resumed = Journal(path.parent)  # cuts the end off
    for step in (20, 30):
        resumed.add(step, {KEY: 9.0})
    assert watch.look() == [Reading(30, 9.0)]


@pytest.mark.parametrize("again", [(10,), (10, 20, 30, 40), (10, 15, 25, 35, 45, 55)])
def test_a_file_that_lost_lines_is_read_from_its_start(
    again: tuple[int, ...], tmp_path: Path, path: Path
) -> None:
    add(path, 10, 20, 30)
    watch = Watch(tmp_path, KEY)
    watch.look()
    path.write_bytes(b"")
    journal.append(path, Point(1, 0, {"longer": 1.0}))
    add(path, *again)
    assert [step for step, _ in watch.look()] == [
        step for step in again if step not in (10, 20, 30)
    ]


def test_a_run_has_reached_the_last_values_of_its_metrics(tmp_path: Path, path: Path) -> None:
    add(path, 0, 10, 20)
    journal.append(path, Point(25, 0, {"train/loss": 7.0}))
    assert measure(tmp_path, ["train/loss", KEY]) == {"train/loss": 7.0, KEY: 2.0}


def test_a_metric_that_a_run_lacks_is_refused_with_those_that_it_has(
    tmp_path: Path, path: Path
) -> None:
    add(path, 10)
    with pytest.raises(DataError, match="val/apee.*train/loss, val/aepe"):
        measure(tmp_path, ["val/apee"])
    with pytest.raises(DataError, match="seconds"):
        measure(tmp_path, ["seconds"])


def rates(*points: tuple[int, float | None]) -> list[Point]:
    return [
        Point(step, 0, {"train/loss": 1.0} | ({} if rate is None else {RATE: rate}))
        for step, rate in points
    ]


def test_the_seconds_of_training_are_steps_by_rates() -> None:
    assert seconds(rates((20, 10.0), (40, 5.0))) == 20 / 10 + 20 / 5


def test_steps_without_a_rate_take_as_long_as_their_neighbours() -> None:
    assert seconds(rates((1, None), (20, 10.0), (24, None))) == 24 / 10
    assert seconds(rates((1, None))) is None


def test_a_resume_does_not_change_the_seconds(tmp_path: Path, path: Path) -> None:
    first = Journal(path.parent)
    for step in (20, 40, 60):
        first.add(step, {RATE: 10.0})
    resumed = Journal(path.parent)
    for step in (40, 60, 80):
        resumed.add(step, {RATE: 1.0 if step < 80 else 10.0})
    assert measure(tmp_path, ["seconds"]) == {"seconds": 8.0}
