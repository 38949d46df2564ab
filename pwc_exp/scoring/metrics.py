"""The metrics by name: which sum over which count, in what unit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.scoring.sample import CURVES

COUNT = "valid_pixels"  # of a sample


class Metric(NamedTuple):
    """A mean: sum `name` divided by sum `over`, times 100 for percents."""

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
    Metric("aepe_per_image", "px", "images", "mean of the samples' own means"),
    Metric("fl_all", "%", COUNT, "pixels off by more than 3 px and more than 5 % of the motion"),
    Metric("fl_bg", "%", "pixels_bg", "Fl of the background (KITTI 2015)"),
    Metric("fl_fg", "%", "pixels_fg", "Fl of moving objects (KITTI 2015)"),
    Metric("outlier_1px", "%", COUNT, "pixels off by more than 1 px"),
    Metric("outlier_3px", "%", COUNT, "pixels off by more than 3 px"),
    Metric("outlier_5px", "%", COUNT, "pixels off by more than 5 px"),
    Metric("aae", "°", COUNT, "angular error between (u, v, 1) of estimate and truth"),
    Metric("wauc", "%", COUNT, "weighted area under the curve of errors up to 5 px", better=1),
    _region("s0_10", "where the motion is below 10 px"),
    _region("s10_40", "where the motion is 10 to 40 px"),
    _region("s40_plus", "where the motion is above 40 px"),
    _region("matched", "of pixels that are visible in both frames"),
    _region("unmatched", "of pixels that are hidden in frame 2"),
    _region("d0_10", "nearer than 10 px to a motion boundary"),
    _region("d10_60", "10 to 60 px from the nearest motion boundary"),
    _region("d60_140", "60 to 140 px from the nearest motion boundary"),
)
BY_NAME = {metric.name: metric for metric in METRICS}
COUNTS = tuple(dict.fromkeys(metric.over for metric in METRICS))  # "images" among them

Sums = Mapping[str, float]  # of a sample, see `score`


def means(samples: Sequence[Sums]) -> dict[str, float]:
    """Every metric of many samples, and `valid_pixels` and `samples`.

    NaN where nothing was counted: a mask that no sample has, an empty bin.
    """
    totals = total(samples)
    found = {m.name: ratio(m, totals) for m in METRICS}
    return {**found, COUNT: totals.get(COUNT, 0.0), "samples": float(len(samples))}


def total(samples: Sequence[Sums]) -> dict[str, float]:
    """The sums of many samples together."""
    names = samples[0] if samples else ()
    return {name: float(sum(sample[name] for sample in samples)) for name in names}


def ratio(metric: Metric, totals: Mapping[str, float]) -> float:
    """The one division."""
    count = totals.get(metric.over, 0.0)
    return metric.scale * totals[metric.name] / count if count else float("nan")


def curve(totals: Mapping[str, float], name: str) -> np.ndarray:
    """The bins of one of `CURVES`."""
    return np.array([totals[key] for key in CURVES[name]])
