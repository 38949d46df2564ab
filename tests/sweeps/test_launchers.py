"""How the machine is divided, and that each child has an end whatever another launcher does."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from pwc_exp import storage
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.stopping import STOP_FILE, StopSignals
from pwc_exp.sweeps.folder import SweepFolder, make_child
from pwc_exp.sweeps.launchers import HydraLauncher, Share, divide, find_gpus

CHILDREN = [make_child(number, {"seed": str(number)}, ["steps=4"]) for number in range(3)]


def shares(**choices: Any) -> list[Share]:
    usual: dict[str, Any] = {"jobs": None, "gpus": None, "gpus_per_job": 1, "found": []}
    return divide(**{**usual, "processors": range(8), **choices})


def test_without_gpus_one_run_has_all_processors_or_several_disjoint_parts() -> None:
    assert shares() == [Share(frozenset(range(8)), None)]
    parts = [share.processors for share in shares(jobs=3)]
    assert frozenset.union(*parts) == frozenset(range(8))
    assert sum(map(len, parts)) == 8
    assert {len(part) for part in parts} == {2, 3}


def test_each_gpu_has_a_run() -> None:
    found = shares(found=["0", "1", "GPU-abc"])
    assert [share.gpus for share in found] == [("0",), ("1",), ("GPU-abc",)]
    assert [share.gpus for share in shares(found=["4", "5", "6"], gpus=[2, 0])] == [("6",), ("4",)]


def test_gpus_that_are_too_few_for_a_run_are_left_alone() -> None:
    found = shares(found=["0", "1", "2", "3", "4"], gpus_per_job=2)
    assert [share.gpus for share in found] == [("0", "1"), ("2", "3")]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"jobs": 9}, "hydra.launcher.jobs must be at most 8, for which there are processors"),
        ({"jobs": 3, "found": ["0", "1"]}, "at most 2, for which there are GPUs"),
        (
            {"gpus": [2], "found": ["0", "1"]},
            "hydra.launcher.gpus must be among the GPUs that were found .2",
        ),
        ({"gpus": [0]}, "hydra.launcher.gpus must be among the GPUs that were found .0"),
        ({"gpus_per_job": 3, "found": ["0", "1"]}, "gpus_per_job must be at most the 2 GPUs"),
    ],
)
def test_more_than_there_is_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shares(**choices)


@pytest.mark.parametrize(
    ("visible", "found"), [("2,0", ["2", "0"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])]
)
def test_gpus_that_the_user_hides_are_not_there(visible: str, found: list[str]) -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": visible}) == found


class Launcher:
    """Returns or raises the given answers; remembers what it was asked for."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Sequence[Sequence[str]], int]] = []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.asked.append((jobs, initial_job_idx))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ended(answer: Exception | float) -> JobReturn:
    failed = isinstance(answer, Exception)
    status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    return JobReturn(_return_value=answer, status=status)


def run(
    launcher: Any, at_once: int | None, folder: Path, signals: StopSignals | None = None
) -> list[str]:
    sweep = SweepFolder(path=folder, arguments=[], definition={})
    made = HydraLauncher(sweep, signals or StopSignals(), launcher, at_once)
    return [reason for _, reason in made.run(iter(CHILDREN), lambda: None)]


def test_a_failed_job_has_its_reason_in_one_line(tmp_path: Path) -> None:
    launcher = Launcher([ended(1.0), ended(DataError("a.flo:\n not a flow")), ended(2.0)])
    assert run(launcher, None, tmp_path) == ["", "a.flo: not a flow", ""]
    assert launcher.asked == [([[f"hydra.sweep.subdir={n}_seed-{n}"] for n in range(3)], 0)]


def test_a_launcher_that_fails_ends_the_children_of_one_call_only(tmp_path: Path) -> None:
    launcher = Launcher([ended(1.0), ended(1.0)], RuntimeError("Could not detect srun"))
    reasons = run(launcher, 2, tmp_path)
    assert reasons == ["", "", "the launcher failed (RuntimeError: Could not detect srun)"]
    assert [number for _, number in launcher.asked] == [0, 2]


def test_children_are_asked_to_stop_wherever_they_are(tmp_path: Path) -> None:
    signals = StopSignals()
    asked = [tmp_path / child.folder / STOP_FILE for child in CHILDREN]
    for file in asked:
        storage.make_folder(file.parent)

    class Waiting(Launcher):
        def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            signals.received = signal.SIGTERM
            deadline = time.monotonic() + 60
            while not all(file.exists() for file in asked[:2]) and time.monotonic() < deadline:
                time.sleep(0.05)
            return [ended(1.0) for _ in jobs]

    assert run(Waiting(), 2, tmp_path, signals) == ["", ""]  # the third has not started
    assert [file.exists() for file in asked] == [True, True, False]
