"""Load of the machine, under MLflow's own names, so that its page "System metrics" shows it."""

import time
from contextlib import suppress

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from pwc_exp.tracking.events import Point

_INTERVAL = 10.0  # seconds between samples, at least


class SystemMonitor:
    """Samples processors, memory and, with nvidia-ml-py installed, GPUs."""

    def __init__(self) -> None:
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor()]
        with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, no driver
            self._monitors.append(GPUMonitor())
        self._next = time.monotonic()

    def sample(self, step: int) -> Point:
        """Current values, for `step`; none if the last ones are younger than the interval."""
        now = time.time_ns() // 1_000_000
        if time.monotonic() < self._next:
            return Point(step, now, {})
        self._next = time.monotonic() + _INTERVAL
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return Point(step, now, {f"system/{name}": value for name, value in values.items()})
