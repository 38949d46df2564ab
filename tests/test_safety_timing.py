"""What safety costs: every part is measured, shares add up, and nothing is left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp import safety_timing
from pwc_exp.config.commands import SafetyConfig
from pwc_exp.config.training import TrainConfig
from pwc_exp.safety_timing import (
    ADVANCE,
    CHECKPOINT,
    CHECKS,
    POINT,
    SENT,
    STEP,
    TOGETHER,
    Cost,
    Measured,
    benchmark,
    measure,
    table,
)

SMALLEST = (
    "model=tiny",
    "model.levels=3",
    "model.search_range=1",
    "model.feature_channels=[4,8,12]",
    "model.estimator_channels=[8,8]",
    "model.context_channels=[8]",
    "model.context_dilations=[1]",
    "train_size=[16,32]",
    "train_batch_size=2",
)


def row_of(printed: str, name: str) -> list[str]:
    (row,) = (line for line in printed.splitlines() if line.startswith(f"{name}  "))
    return row.removeprefix(name).split()


@pytest.mark.slow
def test_all_that_surrounds_a_step_is_measured_in_a_run_that_is_removed(
    root: Path,
    configure: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = set(root.rglob("*"))
    written: list[str] = []

    def measuring(config: SafetyConfig, folder: Path) -> Measured:
        measured = measure(config, folder)
        written.extend(path.name for path in (folder / "checkpoints").iterdir())
        written.extend((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        return measured

    monkeypatch.setattr(safety_timing, "measure", measuring)
    uri = f"uri=sqlite:///{root}/outputs/mlflow/mlflow.db"  # or one would be made, which takes long
    benchmark(configure("benchmark_safety", *SMALLEST, "repeats=2", uri))
    turns = 2 + 1  # the first is not counted
    assert len(written) == turns * (1 + 1 + safety_timing.BURST)
    lock = root / "outputs/mlflow/.lock"  # of the database, which every command that uses it makes
    assert set(root.rglob("*")) - before <= {lock}

    printed = capsys.readouterr().out
    every = {CHECKS: 1, POINT: TrainConfig.log_every, SENT: TrainConfig.log_every}
    for name, steps in {STEP: 1, ADVANCE: 1, **every, CHECKPOINT: TrainConfig.save_every}.items():
        middle, worst, interval, share = row_of(printed, name)
        assert 0 < float(middle) <= float(worst)
        assert interval == f"{steps:,}"
        assert float(share.rstrip("%")) > 0
    assert row_of(printed, STEP)[-1] == "100.0000%"


def test_the_shares_add_up(configure: Callable[..., Any]) -> None:
    costs = {
        CHECKS: Cost([0.001, 0.003], 1),
        POINT: Cost([0.1], 100),
        CHECKPOINT: Cost([3.0, 5.0], 1000),
    }
    measured = Measured(step=[9.0, 0.1, 0.1], advance=[0.2], costs=costs, busy=[0.004])
    printed = table(configure("benchmark_safety"), measured)
    assert row_of(printed, CHECKS) == ["2.000", "3.000", "1", "2.0000%"]
    assert row_of(printed, POINT) == ["100.000", "100.000", "100", "1.0000%"]
    assert row_of(printed, CHECKPOINT) == ["4000.000", "5000.000", "1,000", "4.0000%"]
    assert row_of(printed, TOGETHER) == ["7.000", "1", "7.0000%"]
    assert row_of(printed, ADVANCE)[-1] == "200.0000%"
    assert "a point took 4.00 ms while others" in printed
