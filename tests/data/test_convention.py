"""Which way a flow points: every reading is named where it can be told, and only there."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pwc_exp.data.convention import (
    READINGS,
    Evidence,
    Reading,
    find_convention,
    judge,
    text,
    to_json,
    weigh,
)
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import Decoded
from pwc_exp.errors import DataError

HEIGHT, WIDTH = 60, 90


def texture(seed: int) -> np.ndarray:
    """Smooth noise, [HEIGHT + 40, WIDTH + 40, 3], in [0, 1]."""
    noise = np.random.default_rng(seed).random((HEIGHT + 40, WIDTH + 40, 3))
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    return (noise / 9).astype(np.float32)


def moved(x: int, y: int, *, seed: int = 0, gain: float = 1.0) -> Decoded:
    """A pair whose content moves x right and y down, the second frame under another light."""
    canvas = texture(seed)
    flow = np.broadcast_to(np.array([x, y], np.float32), (HEIGHT, WIDTH, 2))
    return Decoded(
        frame1=canvas[20 : 20 + HEIGHT, 20 : 20 + WIDTH],
        frame2=canvas[20 - y : 20 - y + HEIGHT, 20 - x : 20 - x + WIDTH] * gain,
        flow=flow,
        valid=np.ones((HEIGHT, WIDTH), np.float32),
    )


def misread(pair: Decoded, reading: Reading) -> Decoded:
    """The pair with its flow stored so that `reading` would understand it."""
    flow = pair.flow * np.array([reading.x_sign, reading.y_sign], np.float32)
    return pair._replace(flow=flow[..., ::-1] if reading.y_first else flow)


def evidence(*pairs: Decoded) -> list[Evidence]:
    return [weigh(*pair) for pair in pairs]


@pytest.mark.parametrize("gain", [1.0, 0.6])
@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_each_way_of_storing_flow_is_named(reading: Reading, gain: float) -> None:
    pairs = [moved(7, -3, gain=gain), moved(-2, 5, seed=1, gain=gain)]
    found = judge(evidence(*(misread(pair, reading) for pair in pairs)))
    assert (found.verdict, found.reading) == (reading.name, reading)
    assert (found.pairs, found.agreeing) == (2, 2)
    assert min(found.advantages.values()) > 0.3
    assert found.fits == (reading.name == "standard")
    assert len(found.advantages) == 8


def test_frames_in_reverse_order_are_both_negated_and_said_to_be() -> None:
    pair = moved(7, -3)
    found = judge(evidence(pair._replace(frame1=pair.frame2, frame2=pair.frame1)))
    assert found.verdict == "x negated, y negated"
    assert "may point from frame 2 to frame 1" in text(found)


@pytest.mark.parametrize(("x", "y", "axis"), [(6, 0, "y"), (0, -6, "x")])
def test_the_sign_of_what_does_not_move_is_ambiguous(x: int, y: int, axis: str) -> None:
    found = judge(evidence(moved(x, y)))
    assert (found.verdict, found.untold) == ("standard", [axis])
    assert f"the sign of {axis} is ambiguous" in text(found)


def test_equal_motion_along_both_axes_leaves_the_order_undecided() -> None:
    found = judge(evidence(moved(5, 5)))
    assert found.verdict == "undecided"
    assert found.reading is None
    assert "cannot be distinguished: standard; y first" in text(found)
    assert judge(evidence(moved(5, 5), moved(5, 1, seed=1))).verdict == "standard"


def undecided(*pairs: Decoded) -> str:
    found = judge(evidence(*pairs))
    assert found.verdict == "undecided"
    return text(found)


def test_without_motion_or_known_pixels_nothing_is_decided() -> None:
    pair = moved(7, -3)
    few = np.zeros_like(pair.valid)
    few[25:34, 40:49] = 1
    leaving = pair._replace(flow=pair.flow * 100)
    for still in (moved(0, 0), leaving, pair._replace(valid=few), pair._replace(valid=0 * few)):
        assert "too few points" in undecided(still)
    assert "too few points" in undecided()
    grey = np.full_like(pair.frame1, 0.5)
    undecided(pair._replace(frame1=grey, frame2=grey))


def test_frames_of_another_pair_are_not_explained() -> None:
    pair = moved(7, -3)
    assert "are these its frames" in undecided(pair._replace(frame2=moved(7, -3, seed=1).frame2))
    assert "are these its frames" in undecided(pair._replace(frame2=pair.frame1))


def test_unknown_pixels_do_not_vote() -> None:
    pair = moved(7, -3)
    flow, valid = pair.flow.copy(), pair.valid.copy()
    flow[:, :45] *= -1
    valid[:, :45] = 0
    found = judge(evidence(pair._replace(flow=flow, valid=valid)))
    assert found.verdict == "standard"
    assert min(found.advantages.values()) > 0.9


def test_contradicting_pairs_are_undecided() -> None:
    pairs = [misread(moved(7, -3, seed=seed), READINGS[seed % 2]) for seed in range(4)]
    assert "hardly better than" in undecided(*pairs)


def test_samples_are_spread_and_those_without_ground_truth_passed_over() -> None:
    read: list[str] = []

    def reader(sample: Sample) -> Decoded:
        read.append(sample.id)
        return misread(moved(7, -3, seed=int(sample.id)), READINGS[1])

    samples = [Sample(str(i), "s", Path("1"), Path("2"), Path("f")) for i in range(9)]
    samples[0] = samples[0]._replace(flow=None)
    found = find_convention(samples, read=reader, workers=1, limit=2)
    assert read == ["1", "5"]
    assert (found.verdict, found.pairs) == ("y negated", 2)


def test_a_sample_that_cannot_be_read_is_passed_over_and_named() -> None:
    def reader(sample: Sample) -> Decoded:
        if sample.id == "1":
            raise DataError("Damaged: 1.png.")
        return moved(7, -3, seed=int(sample.id))

    samples = [Sample(str(i), "s", Path("1"), Path("2"), Path("f")) for i in range(3)]
    found = find_convention(samples, read=reader, workers=2, limit=None)
    assert (found.verdict, found.pairs) == ("standard", 2)
    assert found.remarks == ["not read: Damaged: 1.png."]
    found = find_convention(samples[1:2], read=reader, workers=2, limit=None)
    assert found.verdict == "undecided"
    assert "Damaged: 1.png." in text(found)


@pytest.mark.parametrize("make", [lambda: moved(7, -3), lambda: moved(0, 0)])
def test_json_holds_all_that_the_text_says(make: Callable[[], Decoded]) -> None:
    found = judge(evidence(make()))
    content = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert content["verdict"] == found.verdict
    assert content["advantages"] == found.advantages
    if found.reading is not None:
        assert content["reading"] == {"y_first": False, "x_sign": 1, "y_sign": 1}
