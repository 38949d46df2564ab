"""Another launcher than ours: whatever it does, each child has an end."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from pwc_exp.errors import DataError
from pwc_exp.sweeps.children import make_child
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


def run(launcher: Launcher, at_once: int | None) -> list[str]:
    results = run_foreign(
        launcher,  # type: ignore[arg-type]
        iter(CHILDREN),
        at_once=at_once,
        on_start=lambda child: None,
    )
    return [result.reason for result in results]


def test_a_failed_job_has_its_reason_in_one_line() -> None:
    launcher = Launcher([ended(1.0), ended(DataError("a.flo:\n not a flow")), ended(2.0)])
    assert run(launcher, None) == ["", "a.flo: not a flow", ""]
    assert launcher.asked == [
        ([[f"hydra.sweep.subdir={n}_seed-{n}"] for n in range(3)], 0),
    ]


def test_a_launcher_that_gives_up_ends_those_of_one_call_only() -> None:
    launcher = Launcher([ended(1.0), ended(1.0)], RuntimeError("Could not detect srun"))
    reasons = run(launcher, 2)
    assert reasons == ["", "", "the launcher gave up (RuntimeError: Could not detect srun)"]
    assert [number for _, number in launcher.asked] == [0, 2]
