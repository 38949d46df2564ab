"""The detector of failed starts."""

import json
import math
from typing import Any

import numpy as np
import pytest

from pwc_exp.training.health import FailedStartDetector, spread_over_inputs

OPTIONS: dict[str, Any] = {"after": 40, "window": 10, "min_drop": 0.1, "min_spread": 0.01}
ALIVE = {6: 1.0, 5: 3.0}
FALLING = [10.0] * 20 + [5.0] * 20


def fed(losses: list[float]) -> FailedStartDetector:
    stuck = FailedStartDetector(**OPTIONS)
    for step, loss in enumerate(losses, start=1):
        stuck.add(step, loss)
    return stuck


def found(losses: list[float], spreads: dict[int, float]) -> list[str]:
    return list(fed(losses).verdict(len(losses), spreads).values())


def test_spread_is_the_root_of_the_mean_variance_over_inputs() -> None:
    flow = np.zeros((2, 1, 2, 2), np.float32)
    flow[1, 0, 0] = [6.0, 8.0]  # deviations of 3 and 4 at one pixel of two
    assert spread_over_inputs({5: flow}) == {5: pytest.approx((25 / 4) ** 0.5)}
    pattern = np.random.default_rng(0).normal(7.0, 3.0, (1, 4, 6, 2)).astype(np.float32)
    assert spread_over_inputs({6: np.repeat(pattern, 5, axis=0)})[6] == pytest.approx(0, abs=1e-9)
    large = np.full((2, 8, 8, 2), 1000.0, np.float32)
    large[1] += 0.01  # not lost in rounding
    assert spread_over_inputs({6: large})[6] == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (4, 4, 2)])
def test_spread_of_less_than_two_inputs_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"flows\[6\] must be .* at least two inputs. Received"):
        spread_over_inputs({6: np.zeros(shape)})


def test_there_is_no_verdict_before_its_time() -> None:
    assert found([5.0] * 39, {6: 0.0}) == []
    assert len(found([5.0] * 40, {6: 0.0})) == 2


def test_what_is_wrong_is_named() -> None:
    losses = [20.0] * 10 + [12.31] * 10 + [12.4] * 20
    line = "the loss has not fallen in 20 steps: 12.31 at first, 12.4 now"
    assert found(losses, ALIVE) == [line]
    assert found(FALLING, {6: 0.0003, 5: 0.5, 4: math.nan}) == [
        "level 6: its flow does not depend on the frames (spread 0.0003 px)",
        "level 4: its flow is not finite",
    ]


@pytest.mark.parametrize(
    ("losses", "findings"),
    [
        ([90.0] * 10 + [12.0] * 30, 1),  # the fall from random flow to none is no progress
        ([10.0] * 30 + [9.1] * 10, 1),  # by less than the given share
        ([10.0] * 30 + [8.9] * 10, 0),
        ([10.0] * 20 + [5.0] * 60, 0),  # it stops falling later
        ([math.nan] * 40, 0),
        ([*[10.0] * 19, math.nan, *[5.0] * 10, math.inf, *[5.0] * 9], 0),  # these do not count
        ([*[10.0] * 19, math.inf, *[10.0] * 10, math.nan, *[10.0] * 9], 1),
    ],
)
def test_the_loss_must_fall_after_the_first_window(losses: list[float], findings: int) -> None:
    assert len(found(losses, ALIVE)) == findings


@pytest.mark.parametrize("stop", [5, 20, 27, 40])
def test_restored_it_continues_as_if_never_stopped(stop: int) -> None:
    losses = list(np.random.default_rng(1).uniform(1, 3, 57))
    unbroken, first = fed(losses), fed(losses[:stop])
    resumed = FailedStartDetector(**OPTIONS)
    resumed.restore(json.loads(json.dumps(first.state())))
    for step in range(stop + 1, len(losses) + 1):
        resumed.add(step, losses[step - 1])
    assert resumed.state() == unbroken.state()
    assert resumed.verdict(57, ALIVE) == unbroken.verdict(57, ALIVE) != {}
