"""Whether a difference between two estimates of the same samples could be chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import wilcoxon

from pwc_exp.scoring.intervals import Difference, difference
from pwc_exp.scoring.metrics import METRICS, Sums, means


class Contrast(NamedTuple):
    """A run against the reference, on the samples that both have."""

    reference: dict[str, float]  # metrics
    other: dict[str, float]
    differences: dict[str, Difference]  # other minus reference; where both could be measured
    rank_p: float  # Wilcoxon's signed-rank test over the samples' own AEPE; NaN: nothing to rank
    wins: int  # samples with a smaller AEPE than the reference's
    losses: int
    samples: int


def contrast(
    reference: Sequence[Sums],
    other: Sequence[Sums],
    groups: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> Contrast:
    """Compares two estimates; samples of both in one order, `groups` as in `intervals`."""
    found, against = means(other), means(reference)
    measured = [m for m in METRICS if not np.isnan(found[m.name] + against[m.name])]
    change = _aepe(other) - _aepe(reference)
    change = change[np.isfinite(change)]
    return Contrast(
        reference=against,
        other=found,
        differences={
            m.name: difference(m, reference, other, groups, draws=draws, seed=seed)
            for m in measured
        },
        rank_p=float(wilcoxon(change).pvalue) if change.any() else float("nan"),
        wins=int((change < 0).sum()),
        losses=int((change > 0).sum()),
        samples=len(other),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Adjusts the p of several comparisons with one reference (Holm, 1979); NaN stays.

    With it, the chance that any of them is wrongly called a difference stays at the level.
    """
    adjusted = np.array(values, np.float64)
    order = [int(place) for place in np.argsort(adjusted) if not np.isnan(adjusted[place])]
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[place]))
        adjusted[place] = largest
    return [float(value) for value in adjusted]


def _aepe(samples: Sequence[Sums]) -> np.ndarray:
    """The samples' own AEPE, [N]; NaN without a valid pixel."""
    return np.array(
        [row["aepe"] / row["valid_pixels"] if row["valid_pixels"] else np.nan for row in samples]
    )
