"""An evaluation as text for the terminal, as a table of several, and as a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from pwc_exp.evaluation.metrics import BY_NAME, COUNT, ERROR_EDGES, METRICS, SPEED_LABELS
from pwc_exp.evaluation.records import Part, Summary, error_by_speed
from pwc_exp.flow.colour import legend
from pwc_exp.report.figures import bar_chart, line_chart
from pwc_exp.report.pages import aligned, markdown_table, render
from pwc_exp.report.pictures import ERROR_BOUNDS, ERROR_COLOURS, Gallery

_HEADLINE = {"AEPE": "aepe", "Fl-all": "fl_all", "> 1 px": "outlier_1px", "WAUC": "wauc"}
_COLUMNS = {  # of tables with many rows: heading -> metric
    "AEPE": "aepe",
    "per image": "aepe_per_image",
    "Fl-all": "fl_all",
    "> 1 px": "outlier_1px",
    "> 3 px": "outlier_3px",
    "> 5 px": "outlier_5px",
    "AAE": "aae",
    "WAUC": "wauc",
    "matched": "aepe_matched",
    "unmatched": "aepe_unmatched",
}
_PRINTED = ("aepe", "fl_all", "outlier_1px", "aepe_s40_plus")  # of a data set or a sequence
_MOST_ROWS = 60  # of a table that is open
_SPEED = "true motion, px (each bin is twice as wide as the one before)"
_ERROR = "endpoint error, px (logarithmic)"
_SPEED_TICKS = list(enumerate(SPEED_LABELS))
_ERROR_TICKS = [
    (n, f"{edge:.3g}")
    for n, edge in enumerate(ERROR_EDGES)
    if 2**-6 < edge < 2**8 and np.log2(edge) % 2 == 0
]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found for one flow source, and how."""

    title: str  # what was evaluated, on what
    summary: Summary
    about: Mapping[str, object]  # where the estimates come from
    data: Mapping[str, str]  # each data set: where it is, its settings, its digest
    made_by: Mapping[str, str]  # command, commit, versions
    gallery: Gallery
    pyramid: np.ndarray | None = field(default=None, repr=False)  # a network's on one sample
    pyramid_of: str = ""  # its id


def as_text(summary: Summary, *, title: str) -> str:
    """The metrics as lines for a terminal."""
    whole = summary.whole
    lines = [title]
    for metric in METRICS:
        value = whole.means[metric.name]
        if not math.isnan(value):
            lower, upper = whole.intervals[metric.name]
            interval = "" if math.isnan(lower) else f"  {lower:.4f} to {upper:.4f}"
            lines.append(f"  {metric.name:<16}{value:>12.4f} {metric.unit:<2}{interval}".rstrip())
    lines.append(
        f"  {COUNT:<16}{whole.means[COUNT]:>12,.0f} in {whole.means['samples']:.0f} samples"
    )
    if len(summary.datasets) > 1 or summary.sequences:
        rows = [["", *_PRINTED, "samples"]]
        for dataset, part in summary.datasets.items():
            rows.append([dataset, *_printed(part)])
            scenes = summary.sequences.get(dataset, {})
            rows += [[f"  {scene}", *_printed(own)] for scene, own in scenes.items()]
        lines += [f"  {line}" for line in aligned(rows, right=range(1, len(rows[0])))]
    for dataset, found in summary.protocols.items():
        lines.append(f"metric definitions of other codebases: {dataset}")
        lines += [
            f"  {protocol:<12}" + "   ".join(f"{k} {v:.4f}" for k, v in figures.items())
            for protocol, figures in found.items()
        ]
    return "\n".join(lines)


def _printed(part: Part) -> list[str]:
    values = (part.means[key] for key in _PRINTED)
    cells = ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
    return [*cells, f"{part.means['samples']:.0f}"]


def as_table(summaries: Mapping[str, Summary], seconds: Mapping[str, float]) -> str:
    """One table of several evaluations of the same samples, in Markdown.

    A row for each, and a column for each data set with the mean over its pairs.

    Args:
        summaries: by the name of the row.
        seconds: per pair, for the rows that have it.
    """
    first = next(iter(summaries.values()))
    counts = [f"{part.means['samples']:.0f}" for part in first.datasets.values()]
    rows = [["", *first.datasets, "s per pair"], ["pairs", *counts, ""]]
    for name, summary in summaries.items():
        values = [part.means["aepe_per_image"] for part in summary.datasets.values()]
        cells = ["-" if math.isnan(value) else f"{value:.3f}" for value in values]
        rows.append([name, *cells, f"{seconds[name]:.3f}" if name in seconds else "-"])
    table = "\n".join(markdown_table(rows, right=range(1, len(rows[0])), padded=True))
    return (
        f"{table}\n\nAEPE in pixels, averaged over the pairs of each data set (`aepe_per_image`).\n"
        "s per pair: median of rounds in turn, on the first pair of each data set.\n"
    )


def render_evaluation(found: Evaluation) -> str:
    """The whole page, as HTML."""
    summary = found.summary
    parts = [summary.whole, *summary.datasets.values()]
    parts += [part for scenes in summary.sequences.values() for part in scenes.values()]
    upper = [f"{bound:g}" for bound in ERROR_BOUNDS]
    bounds = [*(f"≤ {bound}" for bound in upper), f"> {upper[-1]}"]
    return render(
        "evaluation.html.j2",
        found=found,
        title=found.title,
        summary=summary,
        metrics=METRICS,
        measured={m.name for m in METRICS if not all(math.isnan(p.means[m.name]) for p in parts)},
        headline=[(label, BY_NAME[name]) for label, name in _HEADLINE.items()],
        columns=[(label, BY_NAME[name]) for label, name in _COLUMNS.items()],
        most_rows=_MOST_ROWS,
        figures=list(_figures(summary)),
        wheel=legend(150),
        error_colours=list(zip(bounds, ERROR_COLOURS.tolist(), strict=True)),
        facts={**found.about, **found.data, **found.made_by},
    )


def _figures(summary: Summary) -> Iterator[tuple[str, Markup]]:
    """Captions and charts."""
    speeds, errors = (_shares(summary.curves[key]) for key in ("speed_pixels", "error_pixels"))
    share = "% of pixels"
    title = "Error against motion"
    points = error_by_speed(summary.curves)
    yield (
        title,
        line_chart(
            [points], title=title, x=_SPEED, y="AEPE, px", ticks=_SPEED_TICKS, logarithmic=True
        ),
    )
    title = "Distribution of the motion"
    yield title, bar_chart(speeds, title=title, x=_SPEED, y=share, ticks=_SPEED_TICKS)
    title = "Distribution of the errors"
    yield title, bar_chart(errors, title=title, x=_ERROR, y=share, ticks=_ERROR_TICKS)
    title = "Pixels within an error"
    points = [(n + 1.0, float(within)) for n, within in enumerate(np.cumsum(errors))]
    yield title, line_chart([points], title=title, x=_ERROR, y=share, ticks=_ERROR_TICKS)


def _shares(counts: Sequence[float]) -> list[float]:
    """Percentages of a histogram."""
    total = max(sum(counts), 1)
    return [100 * count / total for count in counts]
