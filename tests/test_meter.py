"""What is counted as a step's time, and what is averaged."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pwc_exp.training import state
from pwc_exp.training.state import Throughput


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(state, "time", SimpleNamespace(perf_counter=clock))
    return clock


def batches(clock: Clock, count: int, *, seconds: float) -> Iterator[int]:
    for number in range(count):
        clock.now += seconds
        yield number


def test_values_are_means_since_the_last_point() -> None:
    meter = Throughput()
    for loss in (1.0, 2.0, 6.0):
        meter.add({"train/loss": loss})
    assert meter.take(batch_size=4)["train/loss"] == 3
    meter.add({"train/loss": 5.0})
    assert meter.take(batch_size=4)["train/loss"] == 5


def test_every_batch_is_passed_on() -> None:
    assert list(Throughput().timed(iter("abc"))) == ["a", "b", "c"]
    assert list(Throughput().timed([])) == []


def test_the_first_step_which_compiles_is_not_timed(clock: Clock) -> None:
    meter = Throughput()
    for _ in meter.timed(batches(clock, 1, seconds=1)):
        clock.now += 60
        meter.add({"train/loss": 1.0})
    assert meter.take(batch_size=4) == {"train/loss": 1}


def test_speed_and_wait_come_from_the_steps_alone(clock: Clock) -> None:
    meter = Throughput()
    for number in meter.timed(batches(clock, 5, seconds=1)):
        clock.now += 30 if number == 0 else 3
        meter.add({"train/loss": 1.0})
        clock.now += 500  # an evaluation
    measured = meter.take(batch_size=8)
    assert measured["time/steps_per_second"] == pytest.approx(1 / 4)
    assert measured["time/samples_per_second"] == pytest.approx(8 / 4)
    assert measured["time/data_wait"] == pytest.approx(1 / 4)


def test_each_point_times_its_own_steps(clock: Clock) -> None:
    meter = Throughput()
    points = []
    for number in meter.timed(batches(clock, 5, seconds=1)):
        clock.now += number
        meter.add({"train/loss": 1.0})
        if number in (2, 4):
            points.append(meter.take(batch_size=1))
    assert points[0]["time/steps_per_second"] == pytest.approx(2 / (2 + 3))
    assert points[1]["time/steps_per_second"] == pytest.approx(2 / (4 + 5))
    assert points[1]["time/data_wait"] == pytest.approx(2 / 9)
