"""The page of a comparison: what differs, curves, errors by bin and sequence, and how surely."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pwc_exp.report.axes import Tick
from pwc_exp.report.charts import Series, key, line_chart
from pwc_exp.report.page import NONE, heading, number, page, table, text
from pwc_exp.scoring import METRICS
from pwc_exp.scoring.metrics import Metric
from pwc_exp.scoring.sample import SPEED_EDGES
from pwc_exp.scoring.significance import Contrast
from pwc_exp.scoring.summary import Drawing

CURVES = ("val/aepe", "val/fl_all", "train/loss", "train/aepe", "train/grad_norm", "train/lr")
_SURE = 0.05  # level of a difference that is marked
_MOST_SEQUENCES = 40


class Scene(NamedTuple):
    """A scene, and each run's AEPE on it."""

    name: str
    samples: int
    aepe: dict[str, float]  # px; the reference first

    @property
    def largest_change(self) -> float:
        """From the reference, in pixels; 0 where nothing is known."""
        reference, *others = self.aepe.values()
        changes = [abs(other - reference) for other in others]
        return float(np.nan_to_num(max(changes, default=0.0)))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the page is made of; runs by their names, in the order given."""

    names: list[str]
    values: dict[str, dict[str, str]]  # {knob: {run: value}}, of knobs that differ
    curves: dict[str, dict[str, list[tuple[float, float]]]]  # {key: {run: [(step, value)]}}
    errors_by_speed: dict[str, list[tuple[float, float]]]  # {run: [(bin, AEPE)]}
    contrasts: dict[str, Contrast]  # {run: against the reference}
    adjusted: dict[str, dict[str, float]]  # {metric: {run: p}}
    sequences: list[Scene]
    shared: int  # samples that all evaluations have
    left_out: dict[str, int] = field(default_factory=dict)  # {run: samples that others lack}
    drawing: Drawing

    @property
    def reference(self) -> str:
        """The evaluation that the others are compared with."""
        return next(name for name in self.names if name in self.left_out)


def render(comparison: Comparison) -> str:
    """The whole page, as HTML."""
    return page(" / ".join(comparison.names), _sections(comparison))


def _sections(comparison: Comparison) -> Iterator[str]:
    yield "<h1>Comparison</h1>"
    yield f"<p>{key(comparison.names)}</p>"
    if comparison.contrasts:
        yield from _metrics(comparison)
    yield heading("Different values")
    yield _values(comparison)
    if any(comparison.curves.values()):
        yield heading("Curves", "As the training runs recorded them; a hover shows the numbers.")
        yield f"<p>{key(comparison.names)}</p>"
        yield f'<div class="charts">{"".join(_curves(comparison))}</div>'
    if len(comparison.errors_by_speed) > 1:
        yield heading("Error against motion")
        drawing = f'<div class="charts"><figure>{_by_speed(comparison)}</figure></div>'
        yield f"<p>{key(comparison.names)}</p>{drawing}"
    if comparison.sequences:
        yield from _sequences(comparison)


def _metrics(comparison: Comparison) -> Iterator[str]:
    drawing = comparison.drawing
    unit = "scenes" if drawing.by_scene else "samples"
    many = ", adjusted for the number of runs (Holm)" if len(comparison.contrasts) > 1 else ""
    yield heading(
        f"Against {comparison.reference}",
        f"On the {comparison.shared:,} samples that all have. Intervals and p: paired bootstrap, "
        f"{drawing.draws:,} draws of {unit} with replacement, seed {drawing.seed}{many}. Marked: "
        f"p < {_SURE}. Of G {unit} no p is below 2 / 2^G: with fewer than 6, nothing is sure.",
    )
    missing = {name: count for name, count in comparison.left_out.items() if count}
    if missing:
        counts = ", ".join(f"{count:,} of {name}" for name, count in missing.items())
        yield f'<p class="note">Samples that not all have are left out: {text(counts)}.</p>'
    for name, found in comparison.contrasts.items():
        yield f"<h3>{text(name)}</h3>"
        rank = _chance(found.rank_p)
        yield (
            f"<p>Better in {found.wins:,} samples, worse in {found.losses:,}; Wilcoxon's "
            f"signed-rank test over the samples' AEPE: p {rank}.</p>"
        )
        rows = [_row(m, name, found, comparison) for m in METRICS if m.name in found.differences]
        head = ["metric", "reference", "this run", "difference", "95 % interval", "p"]
        yield table(head, rows)


def _row(metric: Metric, name: str, found: Contrast, comparison: Comparison) -> list[str]:
    change = found.differences[metric.name]
    p = comparison.adjusted[metric.name][name]
    value = f"{change.value:+.3f} {metric.unit}"
    if p < _SURE:
        better = change.value * metric.better > 0
        word = "better" if better else "worse"
        value = f'<b class="{"good" if better else "bad"}">{value} {word}</b>'
    known = not np.isnan(change.interval.lower)
    span = f"{number(change.interval.lower)} to {number(change.interval.upper)}"
    return [
        f"<code>{metric.name}</code>",
        number(found.reference[metric.name]),
        number(found.other[metric.name]),
        value,
        span if known else NONE,
        _chance(p).removeprefix("= "),
    ]


def _chance(p: float) -> str:
    """A p as text; a very small one is not written as 0."""
    return "&lt; 0.0001" if p < 0.0001 else f"= {number(p, 4)}"


def _values(comparison: Comparison) -> str:
    if not comparison.values:
        return '<p class="note">None: all were made with the same.</p>'
    rows = [
        [
            f"<code>{text(knob)}</code>",
            *(text(values.get(name, "")) or NONE for name in comparison.names),
        ]
        for knob, values in comparison.values.items()
    ]
    head = ["", *(text(name) for name in comparison.names)]
    return table(head, rows, texts=range(1, len(head)))


def _curves(comparison: Comparison) -> Iterator[str]:
    for name, lines in comparison.curves.items():
        if lines:
            series = _series(comparison.names, lines)
            positive = name in ("train/loss", "train/grad_norm", "train/lr")
            drawing = line_chart(series, x="step", y="", logarithmic=positive)
            yield f"<figure><figcaption><b>{text(name)}</b></figcaption>{drawing}</figure>"


def _by_speed(comparison: Comparison) -> str:
    ticks = [
        Tick(n, "∞" if np.isinf(edge) else f"{edge:.3g}") for n, edge in enumerate(SPEED_EDGES)
    ]
    series = _series(comparison.names, comparison.errors_by_speed)
    return line_chart(series, x="true motion, px", y="AEPE, px", ticks=ticks, logarithmic=True)


def _series(
    names: Sequence[str], lines: Mapping[str, Sequence[tuple[float, float]]]
) -> list[Series]:
    """One for each run, an empty one too, so that each keeps its colour."""
    return [Series(name, lines.get(name, [])) for name in names]


def _sequences(comparison: Comparison) -> Iterator[str]:
    shown = comparison.sequences[:_MOST_SEQUENCES]
    yield heading(
        "By sequence",
        f"AEPE in pixels; the {len(shown)} of {len(comparison.sequences)} that change most.",
    )
    reference, *others = shown[0].aepe
    head = ["sequence", "samples", text(reference)]
    head += [cell for name in others for cell in (text(name), "difference")]
    rows = []
    for sequence in shown:
        row = [text(sequence.name), f"{sequence.samples:,}", number(sequence.aepe[reference])]
        for name in others:
            change = sequence.aepe[name] - sequence.aepe[reference]
            row += [number(sequence.aepe[name]), NONE if np.isnan(change) else f"{change:+.3f}"]
        rows.append(row)
    yield table(head, rows)
