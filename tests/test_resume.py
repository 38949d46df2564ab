"""A run that was stopped and goes on is the run that was not, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_runs import NETWORK

SCRIPT = Path(__file__).parent / "resume_bits.py"
SMALL = (
    *NETWORK,
    "data.train_size=37",  # epochs end within batches
    *("data.workers=2", "augment=basic", "batch_size=4"),
)
CONFIGURATIONS = {
    "fp32": (),
    "fp16": ("precision=fp16", "optimizer.clip_norm=1"),
    "bf16": ("precision=bf16",),
    "xla": ("xla_step=true",),
    "devices": ("devices.cpus=2",),
    "accumulate": ("accumulate=2", "optimizer=adamw"),
    "ema": ("ema_decay=0.99", "schedule=onecycle"),
}


def stopped_at_each_step(steps: int, *overrides: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(steps), *SMALL, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_run_stopped_after_any_of_its_steps_ends_with_the_same_bits() -> None:
    found = stopped_at_each_step(3, "ema_decay=0.9", "accumulate=2", "optimizer.clip_norm=1")
    assert found["points"] == 3
    assert found["variables"] > 100
    assert found["differing"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_in_every_configuration_thirty_points_have_the_same_bits(name: str) -> None:
    found = stopped_at_each_step(30, *CONFIGURATIONS[name])
    assert found["points"] == 30
    assert found["devices"] == (2 if name == "devices" else 1)
    assert found["differing"] == {}
