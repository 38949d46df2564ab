"""The metrics by name: which sum over which count, and in what unit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

COUNT = "valid_pixels"  # of a sample
THRESHOLDS = (1, 3, 5)  # pixels, of the outlier metrics
SPEED_EDGES = np.array([0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, np.inf])  # px, true motion
SPEED_LABELS = [f"{edge:.3g}" for edge in SPEED_EDGES[:-1]] + ["∞"]
ERROR_EDGES = np.array([0, *2.0 ** np.arange(-6, 8.5, 0.5), np.inf])  # px, endpoint error
CURVES = {  # histogram -> the names of its sums, in the order of the bins
    "speed_pixels": [f"speed_pixels_{n}" for n in range(len(SPEED_EDGES) - 1)],
    "speed_error": [f"speed_error_{n}" for n in range(len(SPEED_EDGES) - 1)],
    "error_pixels": [f"error_pixels_{n}" for n in range(len(ERROR_EDGES) - 1)],
}

Sums = Mapping[str, float]  # of one sample, see `sample_scores.score`


class Metric(NamedTuple):
    """A mean: the sum `name` divided by the sum `over`, times 100 for percentages."""

    name: str
    unit: str  # px, % or °
    over: str  # the count that it is divided by
    meaning: str
    better: int = -1  # -1: lower is better, 1: higher

    @property
    def scale(self) -> float:
        """What the ratio is multiplied by."""
        return 100.0 if self.unit == "%" else 1.0


def _region(name: str, meaning: str) -> Metric:
    return Metric(f"aepe_{name}", "px", f"pixels_{name}", f"AEPE {meaning}")


METRICS: tuple[Metric, ...] = (
    Metric("aepe", "px", COUNT, "mean endpoint error over all valid pixels"),
    Metric("aepe_per_image", "px", "images", "mean over samples of each sample's own AEPE"),
    Metric("fl_all", "%", COUNT, "pixels off by more than 3 px and more than 5 % of the motion"),
    Metric("fl_bg", "%", "pixels_bg", "Fl of the background (KITTI 2015)"),
    Metric("fl_fg", "%", "pixels_fg", "Fl of moving objects (KITTI 2015)"),
    Metric("outlier_1px", "%", COUNT, "pixels off by more than 1 px"),
    Metric("outlier_3px", "%", COUNT, "pixels off by more than 3 px"),
    Metric("outlier_5px", "%", COUNT, "pixels off by more than 5 px"),
    Metric("aae", "°", COUNT, "angular error between (u, v, 1) of prediction and ground truth"),
    Metric("wauc", "%", COUNT, "weighted area under the curve of errors up to 5 px", better=1),
    _region("s0_10", "where the motion is below 10 px"),
    _region("s10_40", "where the motion is 10 to 40 px"),
    _region("s40_plus", "where the motion is above 40 px"),
    _region("matched", "of pixels visible in both frames"),
    _region("unmatched", "of pixels occluded in frame 2"),
    _region("d0_10", "closer than 10 px to a motion boundary"),
    _region("d10_60", "10 to 60 px from the nearest motion boundary"),
    _region("d60_140", "60 to 140 px from the nearest motion boundary"),
)
BY_NAME = {metric.name: metric for metric in METRICS}
COUNTS = tuple(dict.fromkeys(metric.over for metric in METRICS))  # "images" among them


def means(samples: Sequence[Sums]) -> dict[str, float]:
    """Every metric over many samples, with `valid_pixels` and `samples`.

    NaN where nothing was counted: no sample has the mask, or the bin is empty.
    """
    totals = total(samples)
    found = {m.name: ratio(m, totals) for m in METRICS}
    return {**found, COUNT: totals.get(COUNT, 0.0), "samples": float(len(samples))}


def total(samples: Sequence[Sums]) -> dict[str, float]:
    """The sums of many samples, added up."""
    names = samples[0] if samples else ()
    return {name: float(sum(sample[name] for sample in samples)) for name in names}


def ratio(metric: Metric, totals: Sums) -> float:
    """The one division; NaN if nothing was counted."""
    count = totals.get(metric.over, 0.0)
    return metric.scale * totals[metric.name] / count if count else float("nan")
