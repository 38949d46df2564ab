"""Two processes of this machine as two workers of one run."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from free_ports import free_ports
from small_runs import NETWORK

from pwc_exp.tracking import journal

SMALL = (
    *NETWORK,
    *("data.workers=1", "data.val_size=3", "picture_samples=1", "batch_size=4", "tracking=off"),
    "validation=[{name:synthetic,val_size:5,crop:[32,64],as:wide}]",
    *("log_every=2", "eval_every=6", "save_every=3"),
)


class Workers:
    """Two processes that train one run."""

    def __init__(self, *arguments: str) -> None:
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "pwc_exp.train", *arguments],
                env={**os.environ, "TF_CONFIG": self._place(hosts, number)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]

    def wait(self, seconds: float = 300) -> list[int]:
        """The exit codes of both."""
        self.output = [process.communicate(timeout=seconds) for process in self.processes]
        return [process.returncode for process in self.processes]

    @staticmethod
    def _place(hosts: list[str], number: int) -> str:
        task = {"type": "worker", "index": number}
        return json.dumps({"cluster": {"worker": hosts}, "task": task})


def last_state(folder: Path) -> str:
    newest = max((folder / "checkpoints").glob("step-*"))
    return newest.name + hashlib.sha256((newest / "state.safetensors").read_bytes()).hexdigest()


def curves(folder: Path) -> dict[tuple[int, str], float]:
    points = journal.read(folder / "metrics.jsonl")
    pairs = [(point.step, key, value) for point in points for key, value in point.values.items()]
    assert len({pair[:2] for pair in pairs}) == len(pairs)  # none twice
    return {(step, key): value for step, key, value in pairs if not key.startswith("time/")}


def the_run(outputs: Path) -> Path:
    (folder,) = (outputs / "train").iterdir()
    return folder


@pytest.mark.slow
def test_two_workers_train_one_run_and_one_that_is_killed_is_survived(tmp_path: Path) -> None:
    whole = Workers(*SMALL, f"outputs={tmp_path}/whole", "steps=12")
    assert whole.wait() == [0, 0], whole.output
    unbroken = the_run(tmp_path / "whole")
    assert {step for step, key in curves(unbroken) if key == "val/aepe"} == {0, 6, 12}

    # Alone, with the same samples, it is the same run to rounding: training and validation.
    alone = [
        sys.executable,
        "-m",
        "pwc_exp.train",
        *SMALL,
        f"outputs={tmp_path}/one",
        "steps=12",
    ]
    subprocess.run(alone, check=True, capture_output=True, timeout=300)
    expected = curves(the_run(tmp_path / "one"))
    assert expected.keys() == curves(unbroken).keys()
    for place, value in curves(unbroken).items():
        assert value == pytest.approx(expected[place], rel=1e-3), place

    broken = Workers(*SMALL, f"outputs={tmp_path}/broken", "steps=2000")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "broken").glob("train/*/checkpoints/step-*3")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    chief, other = broken.processes
    other.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    _, errors = chief.communicate(timeout=60)  # it is not to wait for ever
    assert chief.returncode == 75, errors[-3000:]
    print(f"the other worker ended {time.monotonic() - killed_at:.1f} s after the kill")
    other.communicate()
    assert "another worker is lost" in errors
    folder = the_run(tmp_path / "broken")
    made = max(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))
    steps = -(-made // 12) * 12  # for evaluations and points at the same steps

    resumed = Workers(f"resume={folder}", f"steps={steps}")
    assert resumed.wait() == [0, 0], resumed.output
    if steps != 12:
        longer = Workers(f"resume={unbroken}", f"steps={steps}")
        assert longer.wait() == [0, 0], longer.output
    assert last_state(folder) == last_state(unbroken)
    assert curves(folder) == curves(unbroken)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_step(tmp_path: Path) -> None:
    workers = Workers(*SMALL, f"outputs={tmp_path}", "steps=5000")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("train/*/checkpoints/step-*3")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers.processes[1].send_signal(signal.SIGTERM)
    assert workers.wait() == [143, 143], workers.output
    stopped = [
        next(line for line in output.splitlines() if line.startswith("stopped after step"))
        for output, _ in workers.output
    ]
    assert stopped[0] == stopped[1]
    assert f"resume={the_run(tmp_path)}" in stopped[0]
