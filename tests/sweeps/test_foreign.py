"""Another launcher than ours: whatever it does, each child has an end."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from pwc_exp.errors import DataError
from pwc_exp.stopping import STOP_FILE, StopSignals
from pwc_exp.sweeps.children import make_child
from pwc_exp.sweeps.folder import SweepFolder
from pwc_exp.sweeps.foreign import run_foreign

CHILDREN = [make_child(number, {"seed": str(number)}, ["steps=4"]) for number in range(3)]


class Launcher:
    """Gives what it was told to give; notes what it was asked for."""

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


def run(launcher: Launcher, at_once: int | None, folder: Path) -> list[str]:
    results = run_foreign(
        launcher,  # type: ignore[arg-type]
        SweepFolder(path=folder, definition={}),
        iter(CHILDREN),
        at_once=at_once,
        signals=StopSignals(),
        on_start=lambda child: None,
    )
    return [result.reason for result in results]


def test_a_failed_job_has_its_reason_in_one_line(tmp_path: Path) -> None:
    launcher = Launcher([ended(1.0), ended(DataError("a.flo:\n not a flow")), ended(2.0)])
    assert run(launcher, None, tmp_path) == ["", "a.flo: not a flow", ""]
    assert launcher.asked == [
        ([[f"hydra.sweep.subdir={n}_seed-{n}"] for n in range(3)], 0),
    ]


def test_a_launcher_that_gives_up_ends_those_of_one_call_only(tmp_path: Path) -> None:
    launcher = Launcher([ended(1.0), ended(1.0)], RuntimeError("Could not detect srun"))
    reasons = run(launcher, 2, tmp_path)
    assert reasons == ["", "", "the launcher gave up (RuntimeError: Could not detect srun)"]
    assert [number for _, number in launcher.asked] == [0, 2]


def test_children_are_asked_to_stop_wherever_they_are(tmp_path: Path) -> None:
    signals = StopSignals()
    asked = [tmp_path / child.folder / STOP_FILE for child in CHILDREN]

    class Waiting(Launcher):
        def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            signals.received = signal.SIGTERM
            deadline = time.monotonic() + 60
            while not all(file.exists() for file in asked[:2]) and time.monotonic() < deadline:
                time.sleep(0.05)
            return [ended(1.0) for _ in jobs]

    sweep = SweepFolder(path=tmp_path, definition={})
    results = run_foreign(
        Waiting(),  # type: ignore[arg-type]
        sweep,
        iter(CHILDREN),
        at_once=2,
        signals=signals,
        on_start=lambda child: None,
    )
    assert [result.child.number for result in results] == [0, 1]  # the third is not begun
    assert [file.exists() for file in asked] == [True, True, False]
