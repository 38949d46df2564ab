"""What an evaluation found, as files and as text: metrics.json, samples.csv, the terminal."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pwc_exp.scoring import METRICS
from pwc_exp.scoring.metrics import COUNT, COUNTS, means
from pwc_exp.scoring.sample import ERROR_EDGES, SPEED_EDGES
from pwc_exp.scoring.summary import Part, Scored, Summary

METRICS_FILE, SAMPLES_FILE = "metrics.json", "samples.csv"
_NAMES = ("id", "dataset", "scene")
_PRINTED = ("aepe", "fl_all", "outlier_1px", "aepe_s40_plus")  # of a data set or a sequence


def as_json(summary: Summary, about: Mapping[str, object], data: Mapping[str, str]) -> str:
    """metrics.json: what was evaluated, then the metrics by name, then their parts.

    JSON has no NaN: what could not be measured is null, and an infinite error is "inf".
    """
    drawing = summary.drawing
    content = {
        **about,
        **summary.whole.means,
        "intervals": {name: list(found) for name, found in summary.whole.intervals.items()},
        "bootstrap": {**drawing._asdict(), "groups": summary.whole.groups, "level": 0.95},
        "data_sets": dict(data),
        "datasets": {name: part.means for name, part in summary.datasets.items()},
        "sequences": {
            name: {scene: part.means for scene, part in scenes.items()}
            for name, scenes in summary.sequences.items()
        },
        "dialects": summary.dialects,
        "curves": {
            **summary.curves,
            "speed_edges": SPEED_EDGES.tolist(),
            "error_edges": ERROR_EDGES.tolist(),
        },
    }
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Scored]) -> str:
    """samples.csv: a line per sample, its metrics, and the counts that they are means over.

    What could not be measured is an empty cell. A metric times its count is its sum.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    counts = [name for name in COUNTS if name not in (COUNT, "images")]
    lines.writerow([*_NAMES, *(metric.name for metric in METRICS), COUNT, *counts])
    for row in rows:
        own = means([row.sums])
        values = ["" if math.isnan(own[m.name]) else own[m.name] for m in METRICS]
        counted = [int(row.sums[name]) for name in (COUNT, *counts)]
        lines.writerow([row.id, row.dataset, row.scene, *values, *counted])
    return text.getvalue()


def as_text(summary: Summary, *, title: str) -> str:
    """The figures as lines for a terminal."""
    lines = [title]
    whole = summary.whole
    for metric in METRICS:
        value = whole.means[metric.name]
        if not math.isnan(value):
            line = f"  {metric.name:<16}{value:>12.4f} {metric.unit:<2}{_range(metric, whole)}"
            lines.append(line.rstrip())
    lines.append(
        f"  {COUNT:<16}{whole.means[COUNT]:>12,.0f} in {whole.means['samples']:.0f} samples"
    )
    if len(summary.datasets) > 1 or summary.sequences:
        lines += _tables(summary)
    for dataset, found in summary.dialects.items():
        lines.append(f"by the definitions of others: {dataset}")
        lines += [
            f"  {dialect:<12}" + "   ".join(f"{k} {v:.4f}" for k, v in figures.items())
            for dialect, figures in found.items()
        ]
    return "\n".join(lines)


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = [
        " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    table = "\n".join(f"| {line} |" for line in lines)
    note = (
        "AEPE in pixels: the mean over the pairs of a data set of each pair's own mean "
        "(`aepe_per_image`)."
    )
    timed = "s per pair: median of rounds in turn, on the first pair of each data set."
    return f"{table}\n\n{note}\n{timed}\n"


def _tables(summary: Summary) -> Iterator[str]:
    names = [*summary.datasets, *(f"  {s}" for part in summary.sequences.values() for s in part)]
    width = max(map(len, names)) + 2
    yield " " * (width + 2) + "".join(f"{name:>15}" for name in _PRINTED) + "   samples"
    for dataset, part in summary.datasets.items():
        yield _line(dataset, part, width)
        for scene, own in summary.sequences.get(dataset, {}).items():
            yield _line(f"  {scene}", own, width)


def _line(name: str, part: Part, width: int) -> str:
    values = (part.means[key] for key in _PRINTED)
    cells = ("-" if math.isnan(value) else f"{value:.4f}" for value in values)
    samples = f"{part.means['samples']:.0f}"
    return f"  {name:<{width}}" + "".join(f"{cell:>15}" for cell in cells) + f"{samples:>10}"


def _range(metric: Any, part: Part) -> str:
    found = part.intervals[metric.name]
    return "" if math.isnan(found.lower) else f"  {found.lower:.4f} to {found.upper:.4f}"


def _plain(value: Any) -> Any:
    """`value` with null for NaN and text for infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
