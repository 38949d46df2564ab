"""All that an evaluation found: as a whole, by data set, by sequence, by others' definitions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pwc_exp.scoring.dialects import Kind, in_dialects
from pwc_exp.scoring.intervals import Interval, intervals
from pwc_exp.scoring.metrics import means, total
from pwc_exp.scoring.sample import CURVES


class Scored(NamedTuple):
    """One sample, scored."""

    number: int  # in its source
    id: str
    dataset: str
    scene: str
    sums: Mapping[str, float]  # see `score`

    @property
    def aepe(self) -> float:
        """Its own mean endpoint error, in pixels; NaN without a valid pixel."""
        count = self.sums["valid_pixels"]
        return self.sums["aepe"] / count if count else float("nan")


class Drawing(NamedTuple):
    """How the draws of a bootstrap are made."""

    by_scene: bool  # whole scenes, else samples
    draws: int
    seed: int

    def group(self, row: Scored) -> str:
        """What is drawn together with `row`."""
        return f"{row.dataset}/{row.scene}" if self.by_scene else f"{row.dataset}/{row.id}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The metrics of some of the samples."""

    means: dict[str, float]  # see `metrics.means`
    intervals: dict[str, Interval] = field(default_factory=dict)
    groups: int = 0  # that the intervals are drawn from


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is written, printed and drawn."""

    rows: list[Scored]
    whole: Part
    datasets: dict[str, Part]
    sequences: dict[str, dict[str, Part]]  # {data set: {scene: …}}; only scenes of several samples
    dialects: dict[str, dict[str, dict[str, float]]]  # {data set: {dialect: {figure: value}}}
    curves: dict[str, list[float]]  # see `sample.CURVES`
    drawing: Drawing


def summarize(
    rows: Sequence[Scored],
    *,
    kinds: Mapping[str, Kind],
    dialects: Sequence[str],
    drawing: Drawing,
) -> Summary:
    """Divides every sum once.

    Args:
        rows: in the order of the source.
        kinds: what the truth of each data set is like.
        dialects: by whose definitions to score as well.
        drawing: of the intervals, of the whole and of each data set.
    """
    by_dataset = _split(rows, lambda row: row.dataset)
    totals = total([row.sums for row in rows])
    return Summary(
        rows=list(rows),
        whole=_part(rows, drawing),
        datasets={name: _part(own, drawing) for name, own in by_dataset.items()},
        sequences={name: _sequences(own) for name, own in by_dataset.items() if _has_scenes(own)},
        dialects={
            name: in_dialects(dialects, [row.sums for row in own], kinds[name])
            for name, own in by_dataset.items()
        }
        if dialects
        else {},
        curves={name: [totals.get(key, 0.0) for key in keys] for name, keys in CURVES.items()},
        drawing=drawing,
    )


def ranked(rows: Sequence[Scored]) -> list[Scored]:
    """Samples that have an error, from the smallest to the largest."""
    return sorted((row for row in rows if not np.isnan(row.aepe)), key=lambda row: row.aepe)


def _part(rows: Sequence[Scored], drawing: Drawing) -> Part:
    sums = [row.sums for row in rows]
    groups = [drawing.group(row) for row in rows]
    return Part(
        means=means(sums),
        intervals=intervals(sums, groups, draws=drawing.draws, seed=drawing.seed),
        groups=len(set(groups)),
    )


def _sequences(rows: Sequence[Scored]) -> dict[str, Part]:
    by_scene = _split(rows, lambda row: row.scene)
    return {scene: Part(means=means([row.sums for row in own])) for scene, own in by_scene.items()}


def _has_scenes(rows: Sequence[Scored]) -> bool:
    return any(count > 1 for count in Counter(row.scene for row in rows).values())


def _split(rows: Sequence[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    parts: dict[str, list[Scored]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return parts
