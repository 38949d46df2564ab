"""What a process runs on: its place in a cluster, its processor, the optional packages.

Read from the environment and the system, without TensorFlow. Without /proc/cpuinfo (macOS,
Windows), no extension of the processor is assumed.
"""

import functools
import importlib
import importlib.util
import json
import os
import platform
import re
import shlex
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from pwc_exp.errors import ConfigError, MissingExtraError


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


CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD; Intel; ARM


def model_name() -> str:
    """The model of the processor."""
    names = [value for key, value in _fields(CPUINFO) if key == "model name"]
    return names[0] if names else platform.processor()


def has_avx512() -> bool:
    """Whether the processor has AVX-512."""
    return "avx512f" in _flags(CPUINFO)


def has_bfloat16() -> bool:
    """Whether the processor has bfloat16 arithmetic (AVX512-BF16, AMX-BF16 or ARM's BF16).

    Without it, TensorFlow's bfloat16 convolutions are up to 30 times slower than float32.
    """
    return not BFLOAT16_FLAGS.isdisjoint(_flags(CPUINFO))


@functools.cache
def _flags(cpuinfo: Path) -> frozenset[str]:
    lists = [value for key, value in _fields(cpuinfo) if key in ("flags", "Features")]
    return frozenset(lists[0].split()) if lists else frozenset()


def _fields(cpuinfo: Path) -> list[tuple[str, str]]:
    """The lines `key : value` of the file; none where it is missing."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    parts = [line.partition(":") for line in lines]
    return [(key.strip(), value.strip()) for key, _, value in parts]


def install_command(extra: str) -> str:
    """The command that installs the packages of an extra; pwc_exp itself is in no index."""
    try:
        requirements = [text.partition(";") for text in metadata.requires("pwc_exp") or []]
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return f"pip install -e '.[{extra}]'"
    marker = re.compile(rf"""extra == ["']{extra}["']""")
    packages = [name.strip() for name, _, condition in requirements if marker.search(condition)]
    return f"pip install {shlex.join(packages)}"


def needed(package: str, extra: str) -> ModuleType:
    """Imports a package that only some commands need.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise MissingExtraError(
            f"{name} is not installed: {install_command(extra)} ({error})"
        ) from error


def require(package: str, extra: str) -> None:
    """Checks that a package is there, without importing it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed: {install_command(extra)}")
