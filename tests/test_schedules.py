"""Learning rates: the original's, step by step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp.build import build_schedule
from pwc_exp.schedules import Cyclic

FINE_BOUNDARIES = "schedule.boundaries=[200_000,300_000,400_000,500_000]"
FINE_VALUES = "schedule.values=[1e-5,5e-6,2.5e-6,1.25e-6,6.25e-7]"


@pytest.mark.parametrize(
    ("expected", "overrides"),
    [
        ("multisteps_train", ["schedule=multisteps"]),
        ("multisteps_finetune", ["schedule=multisteps", FINE_BOUNDARIES, FINE_VALUES]),
        ("cyclic_train", ["schedule=cyclic"]),
        ("cyclic_finetune", ["schedule=cyclic", "schedule.base=1e-6", "schedule.peak=2e-5"]),
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


def test_a_triangle_is_half_as_high_as_the_one_before() -> None:
    schedule = Cyclic(base=1.0, peak=9.0, half_cycle=10)
    rates = [float(schedule(step)) for step in (0, 5, 10, 15, 20, 30, 40, 50)]
    assert rates == pytest.approx([1, 5, 9, 5, 1, 5, 1, 3])


def test_a_cyclic_schedule_is_made_again_from_its_configuration() -> None:
    schedule = Cyclic(base=1e-5, peak=5e-4, half_cycle=30)
    again = Cyclic.from_config(schedule.get_config())
    assert float(again(17)) == float(schedule(17))
