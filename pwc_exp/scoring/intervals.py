"""Bootstrap: how far a mean, or a difference of two, could lie from what was measured.

Whole groups of samples are drawn with replacement, as the frames of one scene are alike: to draw
frames would pretend to more evidence than there is. Letters: N samples, G groups, R draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.scoring.metrics import METRICS, Metric, Sums

LEVEL = 0.95  # of an interval: percentiles 2.5 and 97.5 of the draws


class Interval(NamedTuple):
    """Where a value lies in 95 % of the draws; NaN if fewer than two groups have anything of it."""

    lower: float
    upper: float


class Difference(NamedTuple):
    """Second minus first, of the same samples."""

    value: float
    interval: Interval
    p: float  # two-sided: twice the share of draws on the other side of 0, but see `difference`


def intervals(
    samples: Sequence[Sums], groups: Sequence[str], *, draws: int, seed: int
) -> dict[str, Interval]:
    """The interval of each metric.

    groups: [N] names; samples of one name are drawn together.
    """
    weights = draw(groups, draws=draws, seed=seed)
    return {m.name: _drawn(m, samples, groups, weights) for m in METRICS}


def interval_of(
    metric: Metric, samples: Sequence[Sums], groups: Sequence[str], *, draws: int, seed: int
) -> Interval:
    """The interval of one metric: what `intervals` has for it."""
    return _drawn(metric, samples, groups, draw(groups, draws=draws, seed=seed))


def difference(
    metric: Metric,
    first: Sequence[Sums],
    second: Sequence[Sums],
    groups: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> Difference:
    """How much `second` differs from `first`; both are of the same samples, in one order.

    A bootstrap of few groups is too sure of itself. So no p is below 2 / 2^G, the smallest that a
    sign test can give of the G groups in which the metric could be measured.
    """
    everything = np.ones((1, len(set(groups))))
    measured = [_ratios(metric, rows, groups, everything)[0] for rows in (first, second)]
    value = float(measured[1] - measured[0])
    weights = draw(groups, draws=draws, seed=seed)
    count = _groups_with(metric, first, groups)
    if weights is None or count < 2 or not np.isfinite(value):
        return Difference(value, Interval(np.nan, np.nan), np.nan)
    drawn = _ratios(metric, second, groups, weights) - _ratios(metric, first, groups, weights)
    drawn = drawn[np.isfinite(drawn)]
    beyond = min((drawn <= 0).mean(), (drawn >= 0).mean()) if drawn.size else np.nan
    # No p of 0: what was measured counts as one more draw.
    least = max(1 / (drawn.size + 1), 0.5**count)
    return Difference(value, _interval(drawn), min(1.0, 2 * max(beyond, least)))


def draw(groups: Sequence[str], *, draws: int, seed: int) -> np.ndarray | None:
    """How often each group, by the order of names, is in each draw, [R, G]; None for one group."""
    count = len(set(groups))
    if count < 2:
        return None
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=draws)


def _drawn(
    metric: Metric, samples: Sequence[Sums], groups: Sequence[str], weights: np.ndarray | None
) -> Interval:
    if weights is None or _groups_with(metric, samples, groups) < 2:
        return Interval(np.nan, np.nan)
    return _interval(_ratios(metric, samples, groups, weights))


def _groups_with(metric: Metric, samples: Sequence[Sums], groups: Sequence[str]) -> int:
    """How many groups have a pixel that the metric is about."""
    return len({group for row, group in zip(samples, groups, strict=True) if row[metric.over]})


def _ratios(
    metric: Metric, samples: Sequence[Sums], groups: Sequence[str], weights: np.ndarray
) -> np.ndarray:
    """The metric in each draw, [R]; NaN in draws that count nothing."""
    _, which = np.unique(list(groups), return_inverse=True)
    pairs = np.array([[row[metric.name], row[metric.over]] for row in samples], np.float64)
    by_group = np.zeros((weights.shape[1], 2))
    np.add.at(by_group, which, pairs)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums, counts = (weights @ by_group).T
        return np.where(counts > 0, metric.scale * sums / counts, np.nan)


def _interval(values: np.ndarray) -> Interval:
    values = values[np.isfinite(values)]
    if not values.size:
        return Interval(np.nan, np.nan)
    lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(lower), float(upper))
