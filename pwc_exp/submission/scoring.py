"""The errors of a bundle of a training split, as its files give them when they are read back."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from pwc_exp.data.sample import Sample
from pwc_exp.data.source import read_sample
from pwc_exp.flow.metrics import COUNT, error_sums, mean_of_sums
from pwc_exp.submission.benchmarks import Benchmark

SHOWN = {"aepe": "px", "fl_all": "%"}


class Score:
    """Sums of errors, by part of the bundle."""

    def __init__(self, name: str, benchmark: Benchmark, samples: Mapping[str, Sample]) -> None:
        self._name = name
        self._benchmark = benchmark
        self._samples = samples
        self._rows: dict[str, list[dict[str, float]]] = defaultdict(list)

    def add(self, name: str, flow: np.ndarray) -> None:
        """Takes the estimate [H, W, 2] in the file `name`."""
        truth = read_sample(self._samples[name])
        batch = (tf.constant(part[None]) for part in (flow, truth.flow, truth.valid))
        sums = {key: float(value[0]) for key, value in error_sums(*batch).items()}
        self._rows[self._benchmark.part(name)].append(sums)

    def means(self) -> dict[str, dict[str, float]]:
        """The metrics of each part."""
        return {part: mean_of_sums(rows) for part, rows in sorted(self._rows.items())}

    def table(self) -> list[str]:
        """Lines of text."""
        return [
            f"{self._name} training split, {part}: "
            + ", ".join(f"{key} {means[key]:.4f} {unit}" for key, unit in SHOWN.items())
            + f" over {means[COUNT]:,.0f} pixels of {means['samples']:.0f} pairs"
            for part, means in self.means().items()
        ]
