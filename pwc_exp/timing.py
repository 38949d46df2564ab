"""Times of several computations, taken in turn so that their ratios hold on a busy machine."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil

WARM_UPS = 2  # calls that are not counted: the first compiles


class Work(NamedTuple):
    """Something that is timed."""

    call: Callable[[], object]  # returns when the result is there
    flops: float  # of one call


class Timing(NamedTuple):
    """What was measured of it."""

    seconds: float  # of one call, median
    gflops: float  # 10⁹ operations per second
    peak_megabytes: float  # of the process, up to and with its first calls


def measure(works: Mapping[str, Work], *, repeats: int) -> dict[str, Timing]:
    """Times all `works` in turn, `repeats` times: a machine that slows down slows them all.

    The peak memory of each is that of the process up to its first calls, in the given order.
    """
    peaks = {}
    for name, work in works.items():
        for _ in range(WARM_UPS):
            work.call()
        peaks[name] = _peak_megabytes()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work.call()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: Timing(medians[name], work.flops / medians[name] / 1e9, peaks[name])
        for name, work in works.items()
    }


def _peak_megabytes() -> float:
    """The most memory that this process has had so far."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset / 2**20
    kilobytes = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / kilobytes
