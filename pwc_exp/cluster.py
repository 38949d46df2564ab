"""A process among those of a run: alone, or a worker that TF_CONFIG or Slurm started.

Read from the environment, without TensorFlow: only the first worker, the chief, has a run folder.
"""

import json
import os
from typing import NamedTuple

from pwc_exp.errors import ConfigError


class Place(NamedTuple):
    """A worker of a run. Worker 0 is the chief."""

    worker: int
    workers: int


ALONE = Place(0, 1)
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


def on_slurm() -> bool:
    """Whether `srun` started several tasks of this program, and TF_CONFIG does not overrule it."""
    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    return several and "SLURM_PROCID" in os.environ and "TF_CONFIG" not in os.environ


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
