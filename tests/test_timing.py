"""Timing: works take turns, and a rate is operations per median second."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pwc_exp import timing
from pwc_exp.timing import WARM_UPS, Work, benchmark, measure

SMALLEST = (
    "model=tiny",
    "model.levels=2",
    "model.feature_channels=[4,8]",
    "model.search_range=1",
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock))
    return clock


def test_works_take_turns_after_they_have_been_warmed_up(clock: Clock) -> None:
    calls = []
    works = {name: Work(lambda name=name: calls.append(name), 1.0) for name in "abc"}  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):  # no second has passed
        measure(works, repeats=3)
    assert "".join(calls) == "a" * WARM_UPS + "b" * WARM_UPS + "c" * WARM_UPS + "abc" * 3


def test_the_time_of_a_work_is_its_median_and_its_rate_comes_from_that(clock: Clock) -> None:
    def work(*seconds: float) -> Work:
        times = iter([1000.0] * WARM_UPS + list(seconds))

        def call() -> None:
            clock.now += next(times)

        return Work(call, 6e9)

    timings = measure({"quick": work(2, 90, 1), "slow": work(4, 3, 5)}, repeats=3)
    assert timings["quick"][:2] == (2, 3)
    assert timings["slow"][:2] == (4, 1.5)
    assert 0 < timings["quick"].peak_megabytes <= timings["slow"].peak_megabytes


def test_the_command_compares_the_network_with_the_machine(
    configure: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "MATRIX_SIDE", 64)
    sizes = ("inference_size=[32,48]", "train_size=[16,32]", "train_batch_size=2")
    benchmark(configure("benchmark", *SMALLEST, *sizes, "repeats=1", "xla=false"))
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("tiny, float32, ") and rows[0].endswith("medians of 1 repeats")
    product, inference, training = (row.split() for row in rows[2:5])
    assert product[:7] == ["matrix", "product", "8", "of", "64", "x", "64"]
    assert inference[:6] == ["inference", "1", "pair", "of", "32", "x"]
    assert training[:8] == ["training", "step", "2", "pairs", "of", "16", "x", "32"]
    assert product[-2] == "100.0%"
    for row in (product, inference, training):
        rate, peak = float(row[-3]), float(row[-1].replace(",", ""))
        assert rate > 0 and peak > 100
