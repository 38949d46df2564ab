"""The detector of starts that lead nowhere."""

import json
import math
from typing import Any

import numpy as np
import pytest

from pwc_exp.training.health import FailedStartDetector, spread_over_inputs

OPTIONS: dict[str, Any] = {"after": 40, "window": 10, "min_drop": 0.1, "min_spread": 0.01}
ALIVE = {6: 1.0, 5: 3.0}


def fed(losses: list[float]) -> FailedStartDetector:
    stuck = FailedStartDetector(**OPTIONS)
    for step, loss in enumerate(losses, start=1):
        stuck.add(step, loss)
    return stuck


def test_spread_is_the_root_of_the_mean_variance_over_inputs() -> None:
    flow = np.zeros((2, 1, 2, 2), np.float32)
    flow[1, 0, 0] = [6.0, 8.0]  # deviations of 3 and 4 at one pixel of two
    assert spread_over_inputs({5: flow}) == {5: pytest.approx((25 / 4) ** 0.5)}


def test_a_head_that_ignores_its_input_has_no_spread_whatever_its_flow() -> None:
    pattern = np.random.default_rng(0).normal(7.0, 3.0, (1, 4, 6, 2)).astype(np.float32)
    spreads = spread_over_inputs({6: np.repeat(pattern, 5, axis=0)})
    assert spreads[6] == pytest.approx(0.0, abs=1e-9)


def test_spread_of_large_flow_is_not_lost_in_rounding() -> None:
    flow = np.full((2, 8, 8, 2), 1000.0, np.float32)
    flow[1] += 0.01
    assert spread_over_inputs({6: flow})[6] == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (4, 4, 2)])
def test_spread_of_less_than_two_inputs_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"flows\[6\] must be .* at least two inputs. Received"):
        spread_over_inputs({6: np.zeros(shape)})


def test_there_is_no_verdict_before_its_time() -> None:
    stuck = fed([5.0] * 39)
    assert stuck.verdict(39, {6: 0.0}) == []
    stuck.add(40, 5.0)
    assert len(stuck.verdict(40, {6: 0.0})) == 2


def test_a_loss_that_stays_is_found_and_shown() -> None:
    findings = fed([20.0] * 10 + [12.31] * 10 + [12.4] * 20).verdict(40, ALIVE)
    assert findings == ["the loss has not fallen in 20 steps: 12.31 at first, 12.4 now"]


def test_the_fall_from_random_flow_to_none_is_no_progress() -> None:
    assert fed([90.0] * 10 + [12.0] * 30).verdict(40, ALIVE)


@pytest.mark.parametrize(("last", "findings"), [(9.1, 1), (8.9, 0)])
def test_the_loss_must_fall_by_the_given_share(last: float, findings: int) -> None:
    assert len(fed([10.0] * 30 + [last] * 10).verdict(40, ALIVE)) == findings


def test_a_loss_that_stops_falling_later_has_started() -> None:
    assert fed([10.0] * 20 + [5.0] * 60).verdict(80, ALIVE) == []


def test_each_head_that_ignores_the_frames_is_named() -> None:
    falling = [10.0] * 20 + [5.0] * 20
    findings = fed(falling).verdict(40, {6: 0.0003, 5: 0.5, 4: math.nan})
    assert findings == [
        "level 6: its flow does not depend on the frames (spread 0.0003 px)",
        "level 4: its flow is not finite",
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_do_not_count(bad: float) -> None:
    losses = [10.0] * 20 + [5.0] * 20
    losses[14] = losses[35] = bad
    assert fed(losses).verdict(40, ALIVE) == []
    losses[20:] = [10.0] * 20
    losses[35] = bad
    assert len(fed(losses).verdict(40, ALIVE)) == 1


def test_without_any_finite_loss_nothing_is_said_of_it() -> None:
    assert fed([math.nan] * 40).verdict(40, ALIVE) == []


@pytest.mark.parametrize("stop", [5, 20, 27, 40])
def test_restored_it_goes_on_as_if_never_stopped(stop: int) -> None:
    losses = list(np.random.default_rng(1).uniform(1, 3, 57))
    unbroken, first = fed(losses), fed(losses[:stop])
    resumed = FailedStartDetector(**OPTIONS)
    resumed.restore(json.loads(json.dumps(first.state())))
    for step in range(stop + 1, len(losses) + 1):
        resumed.add(step, losses[step - 1])
    assert resumed.state() == unbroken.state()
    assert resumed.verdict(57, ALIVE) == unbroken.verdict(57, ALIVE) != []


@pytest.mark.parametrize("change", [{"after": 29}, {"window": 0}])
def test_a_verdict_without_windows_to_compare_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="after must be at least 3 windows. Received"):
        FailedStartDetector(**{**OPTIONS, **change})
