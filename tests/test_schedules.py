"""Learning rates: the original's, step by step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.build import build_schedule
from pwc_exp.config.training import check_covers
from pwc_exp.errors import ConfigError
from pwc_exp.optimizers import Constant, Cyclic, OneCycle, Restarts

FINE_BOUNDARIES = "schedule.boundaries=[200_000,300_000,400_000,500_000]"
FINE_VALUES = "schedule.values=[1e-5,5e-6,2.5e-6,1.25e-6,6.25e-7]"


@pytest.mark.parametrize(
    ("expected", "overrides"),
    [
        ("multisteps_train", ["schedule=multisteps"]),
        ("multisteps_finetune", ["schedule=multisteps", FINE_BOUNDARIES, FINE_VALUES]),
        ("cyclic_train", ["schedule=cyclic", "steps=200_000"]),
        (
            "cyclic_finetune",
            ["schedule=cyclic", "schedule.base=1e-6", "schedule.peak=2e-5", "steps=200_000"],
        ),
    ],
)
def test_the_learning_rate_is_the_originals(
    expected: str, overrides: list[str], shared: Path, configure: Callable[..., Any]
) -> None:
    recorded = json.loads((shared / "parity/lr_schedules.json").read_text())
    assert len(recorded["steps"]) > 20
    schedule = build_schedule(configure("train", *overrides).schedule)
    rates = [float(schedule(step)) for step in recorded["steps"]]
    np.testing.assert_allclose(rates, recorded[expected], rtol=1e-5)


def rates_of(schedule: Callable[[int], Any], *steps: int) -> list[float]:
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("triangular", [1, 5, 9, 5, 1, 5, 9, 5, 1, 9]),
        ("triangular2", [1, 5, 9, 5, 1, 3, 5, 3, 1, 3]),
        ("exp_range", [1, 1 + 4 * 0.9**5, 1 + 8 * 0.9**10, 1 + 4 * 0.9**15, 1]),
    ],
)
def test_the_policy_says_what_becomes_of_the_height_of_the_triangles(
    policy: str, expected: list[float]
) -> None:
    schedule = Cyclic(base=1.0, peak=9.0, half_cycle=10, policy=policy, gamma=0.9)
    steps = (0, 5, 10, 15, 20, 25, 30, 35, 40, 50)[: len(expected)]
    assert rates_of(schedule, *steps) == pytest.approx(expected)


def test_a_height_that_shrinks_at_each_step_is_exact_after_a_million() -> None:
    schedule = Cyclic(base=0.0, peak=1.0, half_cycle=1000, policy="exp_range", gamma=0.99999)
    assert rates_of(schedule, 1_001_000) == pytest.approx([0.99999**1_001_000], rel=1e-4)


def test_a_rate_that_never_changes_stays(configure: Callable[..., Any]) -> None:
    config = configure("train", "schedule=constant", "schedule.rate=0.03")
    assert rates_of(build_schedule(config.schedule), 0, 1, 10**6) == pytest.approx([0.03] * 3)
    assert rates_of(Restarts(bases=[0.5], round_steps=3, halvings=[]), 0, 2, 3, 9) == [0.5] * 4


def test_one_cycle_is_rafts_on_flyingchairs(configure: Callable[..., Any]) -> None:
    # OneCycleLR(4e-4, 100_100, pct_start=0.05, anneal_strategy="linear"): the peak comes after
    # 5005 - 1 steps, and 95_095 = 5 * 19_019 steps lie between it and the last one.
    config = configure("train", "schedule=onecycle", "steps=100_100")
    schedule = build_schedule(config.schedule)
    start, final = 4e-4 / 25, 4e-4 / 25 / 1e4
    expected = {
        0: start,
        1251: start + (4e-4 - start) / 4,
        5004: 4e-4,
        5004 + 19_019: final + (4e-4 - final) * 4 / 5,
        5004 + 4 * 19_019: final + (4e-4 - final) / 5,
        100_099: final,
        200_000: final,
    }
    assert rates_of(schedule, *expected) == pytest.approx(list(expected.values()), rel=1e-5)


def test_one_cycle_can_follow_a_cosine() -> None:
    schedule = one_cycle(anneal="cosine")
    quarter = (1 - np.sqrt(0.5)) / 2  # of a half wave
    expected = [0.1, 0.1 + 0.9 * quarter, 0.55, 1, 0.01 + 0.99 * (1 - quarter), 0.505, 0.01]
    assert rates_of(schedule, 0, 2, 4, 8, 16, 24, 40) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "total"), [(0.0, 41), (0.05, 3), (0.5, 2)])
def test_one_cycle_that_is_too_short_to_go_up_starts_at_the_peak(share: float, total: int) -> None:
    schedule = one_cycle(warmup_share=share, total=total)
    rates = rates_of(schedule, *range(total + 2))
    assert 0.6 < rates[0] <= 1
    assert rates == sorted(rates, reverse=True)


def one_cycle(**changes: Any) -> OneCycle:
    """Up from 0.1 to 1 in 8 steps, down to 0.01 in 32."""
    settings = {"peak": 1.0, "total": 41, "warmup_share": 9 / 41, "anneal": "linear"}
    return OneCycle(**{**settings, "start_divisor": 10.0, "final_divisor": 10.0, **changes})


@pytest.mark.parametrize(
    ("final", "warmup", "expected"),
    [
        (2e-4, 100, [0, 4e-4, 8e-4, 5e-4, 2e-4 + 3e-4 * (1 - np.sqrt(0.5)), 2e-4, 2e-4]),
        (0, 0, [8e-4, None, None, None, None, 0, 0]),
    ],
)
def test_cosine_warms_up_and_ends_at_the_final_rate(
    final: float, warmup: int, expected: list[float], configure: Callable[..., Any]
) -> None:
    changes = ("schedule.peak=8e-4", f"schedule.final={final}", f"schedule.warmup={warmup}")
    config = configure("train", "schedule=cosine", "steps=1100", *changes)
    rates = rates_of(build_schedule(config.schedule), 0, 50, 100, 600, 850, 1100, 9999)
    for rate, known in zip(rates, expected, strict=True):
        assert known is None or rate == pytest.approx(known, abs=1e-9)


def test_rounds_of_pwc_net_plus_start_anew_and_are_halved(configure: Callable[..., Any]) -> None:
    schedule = build_schedule(configure("train", "schedule=restarts", "steps=750_000").schedule)
    halved = {0: 0, 44_999: 0, 45_000: 1, 64_999: 1, 65_000: 2, 97_500: 5, 140_000: 10, 149_999: 10}
    for number, base in enumerate((5e-5, 3e-5, 2e-5, 1e-5, 5e-6)):
        rates = rates_of(schedule, *(number * 150_000 + step for step in halved))
        assert rates == pytest.approx([base / 2**times for times in halved.values()], rel=1e-6)
    assert rates_of(schedule, 750_000, 10**6) == pytest.approx([5e-6 / 2**10] * 2, rel=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(rate=0.3),
        *(
            Cyclic(base=1e-5, peak=5e-4, half_cycle=30, policy=policy, gamma=0.99)
            for policy in ("triangular", "triangular2", "exp_range")
        ),
        *(one_cycle(anneal=anneal) for anneal in ("linear", "cosine")),
        Restarts(bases=[0.5, 0.3], round_steps=20, halvings=[5, 9]),
    ],
)
def test_a_schedule_is_made_again_from_its_configuration_and_compiles(schedule: Any) -> None:
    again = type(schedule).from_config(json.loads(json.dumps(schedule.get_config())))
    assert vars(again) == vars(schedule)
    compiled = tf.function(again, input_signature=[tf.TensorSpec([], tf.int64)])
    for step in (0, 7, 17, 39, 61, 100):
        rate = compiled(tf.constant(step, tf.int64))
        assert rate.dtype == tf.float32
        assert float(rate) == pytest.approx(float(schedule(step)), rel=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [one_cycle(anneal="none"), Cyclic(base=1, peak=2, half_cycle=3, policy="square", gamma=1)],
)
def test_an_unknown_shape_is_an_error_that_lists_the_known(schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"must be .* or .*\. Received"):
        schedule(0)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["schedule=onecycle", "schedule.total=1000"], "schedule.total"),
        (["schedule=cosine", "schedule.total=1000"], "schedule.total"),
        (["schedule=restarts", "schedule.round_steps=200", "schedule.halvings=[9]"], "schedule.ba"),
    ],
)
def test_a_schedule_that_ends_before_the_run_is_refused(
    overrides: list[str], key: str, configure: Callable[..., Any]
) -> None:
    schedule = configure("train", *overrides, "steps=1000").schedule
    check_covers(schedule, 1000)
    with pytest.raises(ConfigError, match=rf"{key}.* 1,001 steps of the run. Received: 1,000"):
        check_covers(schedule, 1001)


def test_a_schedule_covers_the_run_unless_told_otherwise(configure: Callable[..., Any]) -> None:
    for choice in ("constant", "multisteps", "cyclic"):  # without an end
        check_covers(configure("train", f"schedule={choice}").schedule, 10**9)
    for choice in ("cosine", "onecycle"):  # as long as the run
        assert configure("train", f"schedule={choice}", "steps=123").schedule.total == 123
        told = configure("train", f"schedule={choice}", "steps=123", "schedule.total=223")
        assert told.schedule.total == 223
