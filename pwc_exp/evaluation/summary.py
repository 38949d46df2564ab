"""All that an evaluation found: over everything, by data set, by sequence, by other protocols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pwc_exp.evaluation.bootstrap import BootstrapSettings, Interval, intervals
from pwc_exp.evaluation.metrics import CURVES, Sums, means, total
from pwc_exp.evaluation.protocols import GroundTruthKind, score_by_protocols


class SampleScore(NamedTuple):
    """The sums of one sample, and where it is from."""

    number: int  # in its source
    id: str
    dataset: str
    scene: str
    sums: Sums

    @property
    def aepe(self) -> float:
        """Its own AEPE, in pixels; NaN without a valid pixel."""
        count = self.sums["valid_pixels"]
        return self.sums["aepe"] / count if count else float("nan")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The metrics over some of the samples."""

    means: dict[str, float]  # see `metrics.means`
    intervals: dict[str, Interval] = field(default_factory=dict)
    groups: int = 0  # that the intervals are drawn from


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is written, printed and plotted."""

    rows: list[SampleScore]
    whole: Part
    datasets: dict[str, Part]
    sequences: dict[str, dict[str, Part]]  # {data set: {scene: …}}; only where scenes have several
    protocols: dict[str, dict[str, dict[str, float]]]  # {data set: {protocol: {figure: value}}}
    curves: dict[str, list[float]]  # see `metrics.CURVES`
    bootstrap: BootstrapSettings


def summarize(
    rows: Sequence[SampleScore],
    *,
    kinds: Mapping[str, GroundTruthKind],
    protocols: Sequence[str],
    bootstrap: BootstrapSettings,
) -> Summary:
    """Divides every sum by its count, once.

    Args:
        rows: in the order of the source.
        kinds: what the ground truth of each data set is like.
        protocols: by whose definitions to score as well.
        bootstrap: of the intervals, over everything and of each data set.
    """
    by_dataset = _split(rows, lambda row: row.dataset)
    totals = total([row.sums for row in rows])
    return Summary(
        rows=list(rows),
        whole=_part(rows, bootstrap),
        datasets={name: _part(own, bootstrap) for name, own in by_dataset.items()},
        sequences={
            name: {scene: Part(means=means([row.sums for row in rows])) for scene, rows in scenes}
            for name, own in by_dataset.items()
            if len(scenes := _split(own, lambda row: row.scene).items()) < len(own)
        },
        protocols={
            name: score_by_protocols(protocols, [row.sums for row in own], kinds[name])
            for name, own in by_dataset.items()
        }
        if protocols
        else {},
        curves={name: [totals.get(key, 0.0) for key in keys] for name, keys in CURVES.items()},
        bootstrap=bootstrap,
    )


def groups_of(rows: Sequence[SampleScore], bootstrap: BootstrapSettings) -> list[str]:
    """For each sample, the group that it is drawn with."""
    return [f"{row.dataset}/{row.scene if bootstrap.by_scene else row.id}" for row in rows]


def ranked(rows: Sequence[SampleScore]) -> list[SampleScore]:
    """Samples that have an error, from the smallest to the largest."""
    return sorted((row for row in rows if not np.isnan(row.aepe)), key=lambda row: row.aepe)


def _part(rows: Sequence[SampleScore], bootstrap: BootstrapSettings) -> Part:
    sums = [row.sums for row in rows]
    groups = groups_of(rows, bootstrap)
    return Part(
        means=means(sums),
        intervals=intervals(sums, groups, draws=bootstrap.draws, seed=bootstrap.seed),
        groups=len(set(groups)),
    )


def _split(
    rows: Sequence[SampleScore], key: Callable[[SampleScore], str]
) -> dict[str, list[SampleScore]]:
    parts: dict[str, list[SampleScore]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return parts
