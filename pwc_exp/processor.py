"""The processor of this machine: its model, and the arithmetic that it has.

Read from /proc/cpuinfo, without TensorFlow. Where there is no such file (macOS, Windows), a
processor counts as having none of the extensions.
"""

import functools
import platform
from pathlib import Path

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
