"""Statistics of flow: every pixel counts once, and what is not known does not count."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pwc_exp.data.sample import Sample
from pwc_exp.data.stats import (
    EDGES,
    Statistics,
    Tally,
    flow_statistics,
    summarize,
    tally,
    text,
    to_json,
)
from pwc_exp.errors import DataError

Read = Callable[[Sample], tuple[np.ndarray, np.ndarray]]


def known(x: list[list[float]], y: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    flow = np.stack([np.array(x, np.float32), np.array(y, np.float32)], axis=-1)
    return flow, np.ones(flow.shape[:2], np.float32)


def random_flow(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow of 0 to some hundreds of pixels, about half of it known."""
    draw = np.random.default_rng(seed)
    flow = draw.normal(0, draw.choice([0.5, 8, 200], (height, width, 1)), (height, width, 2))
    return flow.astype(np.float32), (draw.random((height, width)) < 0.5).astype(np.float32)


def samples_of(count: int) -> list[Sample]:
    return [Sample(f"{i:02d}", "s", Path("1"), Path("2"), Path("f")) for i in range(count)]


def by_number(make: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> Read:
    return lambda sample: make(int(sample.id))


def test_numbers_of_a_flow_that_can_be_counted_by_hand() -> None:
    flow, valid = known([[3, 0, 0, 0], [0, 60, 0, 9]], [[-4, 0, 1, 10], [0.5, 80, 7, 0]])
    valid[1, 2] = 0
    found = summarize([tally("a", flow, valid)])
    assert (found.examples, found.pixels, found.known) == (1, 8, 7)
    assert found.sizes == {(2, 4): 1}
    assert found.mean == pytest.approx((5 + 0 + 1 + 10 + 0.5 + 100 + 9) / 7)
    assert found.median == pytest.approx(5, abs=0.25)
    assert (found.largest, found.largest_id) == (100, "a")
    assert found.speeds == {"s0_10": 5 / 7, "s10_40": 1 / 7, "s40_plus": 1 / 7}
    counts = {low: pixels for low, _, pixels in found.histogram if pixels}
    assert counts == {0: 2, 1: 1, 5: 2, 10: 1, 80: 1}


def test_statistics_equal_those_of_all_pixels_together() -> None:
    pairs = [random_flow(seed, 5 + seed, 9) for seed in range(6)]
    found = summarize([tally(str(seed), *pair) for seed, pair in enumerate(pairs)])
    speed = np.concatenate([np.linalg.norm(flow, axis=-1)[valid > 0] for flow, valid in pairs])
    assert found.known == len(speed)
    assert found.mean == pytest.approx(speed.mean(dtype=np.float64), rel=1e-6)
    assert found.median == pytest.approx(np.median(speed), rel=0.08)
    assert found.largest == pytest.approx(speed.max())
    expected, _ = np.histogram(speed, EDGES)
    assert [each.pixels for each in found.histogram] == expected.tolist()
    assert sum(found.speeds[name] or 0 for name in found.speeds) == pytest.approx(1)


def test_the_mean_is_over_pixels_not_over_examples() -> None:
    slow, fast = known([[1, 1, 1]], [[0, 0, 0]]), known([[9]], [[0]])
    assert summarize([tally("a", *slow), tally("b", *fast)]).mean == 3


def test_unknown_and_nan_pixels_count_for_nothing() -> None:
    flow, valid = known([[2, 1e9, np.nan, np.inf]], [[0, 0, 0, 0]])
    valid[0, 1] = 0
    found = summarize([tally("a", flow, valid)])
    assert (found.known, found.mean, found.largest) == (1, 2, 2)


def test_the_first_of_two_largest_is_named_and_the_unknown_never() -> None:
    empty, zero = known([[5]], [[0]]), known([[0]], [[0]])
    empty[1][:] = 0
    tallies = [tally("none", *empty), tally("first", *zero), tally("second", *zero)]
    assert summarize(tallies).largest_id == "first"


@pytest.mark.parametrize("tallies", [[], [tally("a", np.ones((2, 3, 2)), np.zeros((2, 3)))]])
def test_without_a_known_pixel_there_is_no_mean(tallies: list[Tally]) -> None:
    found = summarize(tallies)
    assert found.known == 0
    assert {found.mean, found.median, found.largest, *found.speeds.values()} == {None}
    assert "known" in text(found)
    json.dumps(to_json(found), allow_nan=False)


def test_samples_are_spread_evenly_and_workers_change_nothing() -> None:
    read: list[str] = []

    def noting(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        read.append(sample.id)
        return random_flow(int(sample.id), 4, 6)

    def found(workers: int) -> Statistics:
        return flow_statistics(samples_of(40), read=noting, workers=workers, limit=4)

    one = found(1)
    assert read == ["00", "10", "20", "30"]
    assert one == found(3)
    assert one.examples == 4


def test_samples_without_ground_truth_are_not_read() -> None:
    samples = samples_of(3)
    samples[1] = samples[1]._replace(flow=None)
    read = by_number(lambda number: known([[number]], [[0]]))
    assert flow_statistics(samples, read=read, workers=2, limit=None).mean == 1


def test_a_sample_that_cannot_be_read_stops_with_its_own_error() -> None:
    def fails(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        raise DataError(f"damaged: {sample.id}")

    with pytest.raises(DataError, match="damaged: 00"):
        flow_statistics(samples_of(200), read=fails, workers=2, limit=None)


def test_text_draws_a_bar_even_for_a_single_pixel() -> None:
    flow, valid = known([[3.0] * 999 + [700.0]], [[0.0] * 1000])
    lines = text(summarize([tally("a", flow, valid)])).splitlines()
    bars = {line.split()[0]: line.split()[-1] for line in lines if " px " in line and "#" in line}
    assert bars == {"2-5": "#" * 40, "640+": "#"}
    assert any("700.00 px in a" in line for line in lines)


def test_json_holds_the_histogram_with_both_edges() -> None:
    content = to_json(summarize([tally("a", *known([[700, 1]], [[0, 0]]))]))
    content = json.loads(json.dumps(content, allow_nan=False))
    assert content["sizes"] == [{"height": 1, "width": 2, "pairs": 1}]
    assert content["histogram"][1] == {"low": 1, "high": 2, "pixels": 1}
    assert content["histogram"][-1] == {"low": 640, "high": None, "pixels": 1}
