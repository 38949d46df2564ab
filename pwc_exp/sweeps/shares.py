"""How the machine is divided among runs: GPUs, or processors, for each of those at work."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pwc_exp.config.fields import check

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Share(NamedTuple):
    """What one run may use. gpus: as CUDA names them; None: what it finds."""

    processors: frozenset[int]
    gpus: tuple[str, ...] | None

    def environment(self) -> dict[str, str]:
        """What a process is to be given to see no other GPUs."""
        return {} if self.gpus is None else {_VISIBLE: ",".join(self.gpus)}


def divide(
    *,
    jobs: int | None,
    gpus: Sequence[int] | None,
    gpus_per_job: int,
    found: Sequence[str],
    processors: Sequence[int],
) -> list[Share]:
    """A share for each run at work: no GPU and no processor belongs to two.

    Args:
        jobs: runs at once; None: as many as there are GPUs for, without GPUs 1.
        gpus: numbers of those to use; None: all that were found.
        gpus_per_job: of each run.
        found: GPUs of the machine, as CUDA names them.
        processors: numbers of those to use.

    Raises:
        ConfigError: there are too few.
    """
    requirement = f"must be among the GPUs that were found ({len(found)})"
    check(
        all(number < len(found) for number in gpus or ()), "hydra.launcher.gpus", requirement, gpus
    )
    used = list(found) if gpus is None else [found[number] for number in gpus]
    groups = [tuple(used[n : n + gpus_per_job]) for n in range(0, len(used), gpus_per_job)]
    whole = [group for group in groups if len(group) == gpus_per_job]
    if used:
        requirement = f"must be at most the {len(used)} GPUs"
        check(bool(whole), "hydra.launcher.gpus_per_job", requirement, gpus_per_job)
    count = jobs or len(whole) or 1
    most, what = (len(whole), "GPUs") if used else (len(processors), "processors")
    requirement = f"must be at most {most}, for which there are {what}"
    check(count <= most, "hydra.launcher.jobs", requirement, count)
    return [
        Share(_part(processors, number, count), whole[number] if used else None)
        for number in range(count)
    ]


def find_gpus(environment: Mapping[str, str]) -> list[str]:
    """GPUs of this machine, as CUDA names them; asked of the driver's tool, without TensorFlow."""
    if _VISIBLE in environment:
        return [name for name in environment[_VISIBLE].split(",") if name not in ("", "-1")]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def _part(numbers: Sequence[int], place: int, count: int) -> frozenset[int]:
    """Part `place` of `count` of nearly equal size; of fewer numbers than parts, all."""
    if len(numbers) < count:
        return frozenset(numbers)
    return frozenset(numbers[len(numbers) * place // count : len(numbers) * (place + 1) // count])
