"""A process among others: the workers that TF_CONFIG or Slurm started, the users of a machine.

Read from the environment, without TensorFlow: only the first worker, the chief, has a run folder.
"""

import json
import os
import re
from typing import NamedTuple

from pwc_exp.errors import ConfigError


class Place(NamedTuple):
    """A worker of a run. Worker 0 is the chief."""

    worker: int
    workers: int


ALONE = Place(0, 1)
SLURM_PORT = 8888  # of the first task on a host; the next ones follow
_EXAMPLE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


def place() -> Place:
    """Where this process stands.

    Raises:
        ConfigError: TF_CONFIG is malformed, or describes something else than workers.
    """
    if "TF_CONFIG" in os.environ:
        return _of_tf_config(os.environ["TF_CONFIG"])
    if on_slurm():
        return Place(int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"]))
    return ALONE


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def on_slurm() -> bool:
    """Whether `srun` started several tasks of this program, and TF_CONFIG does not overrule it."""
    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    return several and "SLURM_PROCID" in os.environ and "TF_CONFIG" not in os.environ


def slurm_addresses() -> list[str]:
    """Of each task of `srun`, by rank; Slurm fills one host after the other.

    TensorFlow's own resolver sorts the hosts as text, n10 before n2, and needs `nvidia-smi`.
    """
    counts = [
        int(count)
        for count, times in re.findall(
            r"(\d+)(?:\(x(\d+)\))?", os.environ["SLURM_STEP_TASKS_PER_NODE"]
        )
        for _ in range(int(times or 1))
    ]
    hosts = _hosts(os.environ["SLURM_STEP_NODELIST"])
    return [
        f"{host}:{SLURM_PORT + number}"
        for host, count in zip(hosts, counts, strict=True)
        for number in range(count)
    ]


def _hosts(nodes: str) -> list[str]:
    """The names in Slurm's short form: n[08-10,12],m5 is n08, n09, n10, n12, m5."""
    names = []
    for name, ranges in re.findall(r"([^,\[\]]+)(?:\[([^\]]*)\])?", nodes):
        for bounds in ranges.split(","):
            first, _, last = bounds.partition("-")
            numbers = range(int(first), int(last or first) + 1) if first else [None]
            names += [
                name if number is None else f"{name}{number:0{len(first)}}" for number in numbers
            ]
    return names


def _of_tf_config(text: str) -> Place:
    try:
        content = json.loads(text)
        jobs = content.get("cluster", {})
        if not jobs:
            return ALONE
        workers = [
            (job, number) for job in ("chief", "worker") for number in range(len(jobs.get(job, [])))
        ]
        return Place(
            workers.index((content["task"]["type"], int(content["task"]["index"]))), len(workers)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG must be like {_EXAMPLE}. Received: {text[:200]}") from error
