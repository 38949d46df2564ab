"""Several devices take the step of one. Devices are made once, so each case is a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports

SCRIPT = Path(__file__).parent / "replica_steps.py"


def run(scenario: str, *, devices: int = 2) -> dict[str, Any]:
    return finish(start(scenario, str(devices)))


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors[-3000:]
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def test_a_step_of_two_devices_is_that_of_one() -> None:
    found = run("equal")
    assert found["devices"] == 2
    assert found["moved"] > 1e-3  # or nothing would be shown
    assert found["weights"] < 1e-5
    assert found["average"] < 1e-5
    assert max(found["metrics"].values()) < 1e-5
    assert found["between_replicas"] == 0


@pytest.mark.slow
def test_clipping_is_that_of_one_device() -> None:
    found = run("clipped")
    assert found["norm"] > 1  # far above what it is cut to
    assert found["weights"] < 1e-5


@pytest.mark.slow
def test_portions_on_one_device_are_parts_on_two() -> None:
    assert run("accumulated")["weights"] < 1e-6


@pytest.mark.slow
def test_a_step_of_the_small_network_is_the_same_on_two_devices() -> None:
    found = run("sm")
    print(f"parted {found['parted']:.2e}, metrics {found['metrics']}")
    assert found["parted"] < 1e-5
    assert max(found["metrics"].values()) < 1e-5


@pytest.mark.slow
def test_fifty_steps_of_the_small_network_lead_to_the_same_loss_on_two_devices() -> None:
    # Adam turns the rounding of small gradients into steps of full length: the weights do part, no
    # further than those of one device do whose first weights are off by one rounding.
    found = run("sm50")
    print(f"parted {found['parted']:.2e}, by a nudge {found['parted_by_nudge']:.2e}")
    print(f"metrics {found['metrics']}")
    for name in ("train/loss", "train/flow_loss", "train/aepe"):
        assert found["metrics"][name] < 1e-3
    assert 0 < found["parted"] < 3 * found["parted_by_nudge"]


def check_overflow(found: dict[str, Any]) -> None:
    assert found["devices"] == 2
    assert found["applied"] == [1, 0, 1]
    assert found["scales"][2] == found["scales"][1] / 2  # halved once, for both
    assert found["iterations"] == 2
    assert found["finite"]
    assert found["between_replicas"] == 0


def test_an_overflow_on_the_second_device_only_skips_the_step_on_both() -> None:
    check_overflow(run("overflow"))


@pytest.mark.slow
def test_an_overflow_on_the_second_worker_only_skips_the_step_on_both() -> None:
    ports = free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        start(
            "overflow",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    first, second = map(finish, workers)
    check_overflow(first)
    check_overflow(second)
    assert first["sum"] == second["sum"]


@pytest.mark.parametrize("worker", [0, 1])
def test_the_parts_of_two_workers_are_the_batches_of_one(
    worker: int, configure: Callable[..., Any]
) -> None:

    from pwc_exp.build import build_augment, build_source
    from pwc_exp.config.data import Split
    from pwc_exp.data.pipeline import train_feed

    config = configure("train", "data.crop=[64,64]", "data.train_size=7", "augment=basic")
    source = build_source(config.data, Split.train)

    def indices(shard: tuple[int, int]) -> list[list[int]]:
        batches = train_feed(
            source,
            batch_size=4,
            crop=config.data.crop,
            augment=build_augment(config.augment),
            seed=3,
            start_step=1,
            steps=4,
            shard=shard,
        )
        return [batch.index.numpy().tolist() for batch in batches]

    whole = indices((0, 1))
    assert indices((worker, 2)) == [batch[2 * worker : 2 * worker + 2] for batch in whole]
