"""The guard of a run: what ends it, what is skipped and counted."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.errors import NonFiniteError
from pwc_exp.training.health import Guard

NAMED: Any = SimpleNamespace(name="fake", ids=["a", "b", "c"])


def batch_of(*index: int) -> Batch:
    nothing = tf.zeros([])
    return Batch(nothing, nothing, nothing, nothing, tf.constant(index))


HELD_BACK = {"train/loss": math.nan, "train/aepe": 1.0, "train/valid": 0.5, "applied": 0.0}
APPLIED = {"train/loss": 2.0, "train/aepe": 1.0, "train/valid": 0.5, "applied": 1.0}
SCALED = {**HELD_BACK, "train/loss_scale": 1024.0}


def guard_of(boxes: list[int], *, stop: bool = True, limit: int = 2) -> Guard:
    def record(step: int, batch: Batch, results: Mapping[str, float]) -> Path:
        boxes.append(step)
        return Path(f"run/blackbox/{step}")

    return Guard(NAMED, stop=stop, limit=limit, record=record)


def test_an_update_that_is_held_back_ends_the_run_by_name_and_tells_how_to_repeat_it() -> None:
    boxes: list[int] = []
    guard = guard_of(boxes)
    assert guard.check(APPLIED, 6, batch_of(1, 2)) == {
        name: value for name, value in APPLIED.items() if name != "applied"
    }
    told = r"step 7:.*'train/loss': nan.*fake, samples c, a.*pwc_exp.replay run/blackbox/7"
    with pytest.raises(NonFiniteError, match=told):
        guard.check(HELD_BACK, 7, batch_of(2, 0))
    assert boxes == [7]


@pytest.mark.parametrize(("results", "stop"), [(SCALED, True), (HELD_BACK, False)])
def test_with_a_loss_scale_or_if_wished_a_number_of_updates_in_a_row_may_be_held_back(
    results: dict[str, float], stop: bool
) -> None:
    guard = guard_of([], stop=stop)
    for result in (results, results, APPLIED, results, results):
        guard.check(result, 1, batch_of(0))
    assert guard.skipped == 4
    with pytest.raises(NonFiniteError, match="3 times in a row"):
        guard.check(results, 6, batch_of(0))


def test_the_first_skipped_update_is_recorded_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    boxes: list[int] = []
    guard = guard_of(boxes, stop=False)
    for step, result in enumerate((APPLIED, HELD_BACK, APPLIED, HELD_BACK), start=1):
        guard.check(result, step, batch_of(0))
    assert boxes == [2]
    assert capsys.readouterr().out.count("skipped") == 1


def test_a_loss_scale_below_one_ends_the_run_at_once() -> None:
    guard = guard_of([], limit=50)
    guard.check({**SCALED, "train/loss_scale": 1.0}, 1, batch_of(0))
    with pytest.raises(NonFiniteError, match="loss scale of 0.5"):
        guard.check({**SCALED, "train/loss_scale": 0.5}, 2, batch_of(0))


def test_batches_of_which_nothing_is_known_are_told_once_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    guard = guard_of([])
    for step in (1, 2, 3):
        guard.check({**APPLIED, "train/valid": 0.0}, step, batch_of(1))
    assert guard.unknown == 3
    assert capsys.readouterr().out.count("no pixel of the batch is valid") == 1


def test_it_goes_on_counting_where_another_one_was() -> None:
    guard = guard_of([])
    for result in (SCALED, SCALED):
        guard.check(result, 1, batch_of(0))
    other = guard_of([])
    other.restore(guard.state())
    with pytest.raises(NonFiniteError, match="3 times in a row"):
        other.check(SCALED, 3, batch_of(0))
