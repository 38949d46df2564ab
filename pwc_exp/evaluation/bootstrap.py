"""Confidence intervals of metrics, and tests of differences between two estimates.

Bootstrap: whole groups of samples are drawn with replacement, because the frames of one scene are
alike: drawing frames would pretend to more evidence than there is. No library draws groups, pairs
two estimates and keeps sums and counts apart (SciPy's `bootstrap` does not).
Letters: N samples, G groups, R draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from pwc_exp.evaluation.metrics import COUNT, METRICS, Metric, Sums, means

LEVEL = 0.95  # of an interval: percentiles 2.5 and 97.5 of the draws


class Interval(NamedTuple):
    """The middle 95 % of the draws; NaN if fewer than two groups have anything to measure."""

    lower: float = float("nan")
    upper: float = float("nan")


class Difference(NamedTuple):
    """Second minus first, on the same samples."""

    value: float
    interval: Interval
    p: float  # two-sided: twice the share of draws on the other side of 0, but see `_difference`


class Comparison(NamedTuple):
    """An evaluation compared with the reference, on the samples that both have."""

    reference: dict[str, float]  # metrics
    other: dict[str, float]
    differences: dict[str, Difference]  # other minus reference; where both could be measured
    rank_p: float  # Wilcoxon's signed-rank test over the samples' own AEPE; NaN: no differences
    wins: int  # samples with a smaller AEPE than the reference's
    losses: int
    samples: int


def intervals(
    samples: Sequence[Sums],
    groups: Sequence[str],
    *,
    draws: int,
    seed: int,
    metrics: Sequence[Metric] = METRICS,
) -> dict[str, Interval]:
    """The interval of each metric.

    groups: [N] names; samples of one name are drawn together.
    """
    weights = _draw(groups, draws, seed)
    return {
        m.name: _interval(_ratios(m, samples, groups, weights))
        if _groups_with(m, samples, groups) > 1
        else Interval()
        for m in metrics
    }


def compare_samples(
    reference: Sequence[Sums],
    other: Sequence[Sums],
    groups: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> Comparison:
    """Compares two estimates; samples of both in the same order, `groups` as in `intervals`."""
    found, against = means(other), means(reference)
    weights = _draw(groups, draws, seed)
    own, old = (
        np.array([row["aepe"] / row[COUNT] if row[COUNT] else np.nan for row in rows])
        for rows in (other, reference)
    )
    change = (own - old)[np.isfinite(own - old)]
    return Comparison(
        reference=against,
        other=found,
        differences={
            m.name: _difference(m, reference, other, groups, weights)
            for m in METRICS
            if not np.isnan(found[m.name] + against[m.name])
        },
        rank_p=float(wilcoxon(change).pvalue) if change.any() else float("nan"),
        wins=int((change < 0).sum()),
        losses=int((change > 0).sum()),
        samples=len(other),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Adjusts p values of several comparisons with one reference (Holm, 1979); NaN stays NaN.

    The family-wise error rate, the chance that any is wrongly called a difference, stays the level.
    """
    adjusted = np.array(values, np.float64)
    order = np.argsort(adjusted)  # NaN last
    order = order[: np.isfinite(adjusted).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * adjusted[order]), 1.0)
    return [float(value) for value in adjusted]


def _difference(
    metric: Metric,
    first: Sequence[Sums],
    second: Sequence[Sums],
    groups: Sequence[str],
    weights: np.ndarray,
) -> Difference:
    """How much `second` differs from `first`.

    A bootstrap of few groups is overconfident. So no p is below 2 / 2^G, the smallest that a sign
    test of the G groups in which the metric could be measured can give.
    """
    once = np.ones((1, weights.shape[1]))
    every, drawn = (
        _ratios(metric, second, groups, w) - _ratios(metric, first, groups, w)
        for w in (once, weights)
    )
    value = float(every[0])
    count = _groups_with(metric, first, groups)
    if count < 2 or not np.isfinite(value):
        return Difference(value, Interval(), np.nan)
    drawn = drawn[np.isfinite(drawn)]
    beyond = min((drawn <= 0).mean(), (drawn >= 0).mean()) if drawn.size else np.nan
    # Never a p of 0: the measured value counts as one more draw.
    least = max(1 / (drawn.size + 1), 0.5**count)
    return Difference(value, _interval(drawn), min(1.0, 2 * max(beyond, least)))


def _draw(groups: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """How often each group, by the order of names, is in each draw, [R, G]."""
    count = max(len(set(groups)), 1)
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


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
        return Interval()
    lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(lower), float(upper))
