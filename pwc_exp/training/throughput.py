"""Means of the training metrics, and the throughput of the loop, between two log points."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

_T = TypeVar("_T")


class Throughput:
    """Averages the metrics of steps, and measures how their time was spent.

    The time of a step is its wait for data and the work until `add`, without evaluations, pictures
    and checkpoints, which come later. The first step, which compiles, is left out.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._steps = 0
        self._timed = 0
        self._waited = 0.0
        self._worked = 0.0
        self._asked = self._received = 0.0
        self._compiled = False

    def timed(self, batches: Iterable[_T]) -> Iterator[_T]:
        """The same batches; measures the wait for each."""
        iterator = iter(batches)
        while True:
            self._asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._received = time.perf_counter()
            yield batch

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the metrics of the step that was made with the last batch."""
        for name, value in values.items():
            self._sums[name] += value
        self._steps += 1
        if self._compiled:
            self._timed += 1
            self._waited += self._received - self._asked
            self._worked += time.perf_counter() - self._received
        self._compiled = True

    def state(self) -> dict[str, float]:
        """The sums since the last `take`, without the times, for `restore`."""
        return {**self._sums, "steps": self._steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continues from another object's `state`."""
        self._sums.clear()
        self._sums.update(state)
        self._steps = int(self._sums.pop("steps"))

    def take(self, *, batch_size: int) -> dict[str, float]:
        """Means since the last call; steps and samples per second; share of time spent waiting."""
        means = {name: total / self._steps for name, total in self._sums.items()}
        seconds = self._waited + self._worked
        if seconds > 0:
            means["time/steps_per_second"] = self._timed / seconds
            means["time/samples_per_second"] = self._timed * batch_size / seconds
            means["time/data_wait"] = self._waited / seconds
        self._sums.clear()
        self._steps = self._timed = 0
        self._waited = self._worked = 0.0
        return means
