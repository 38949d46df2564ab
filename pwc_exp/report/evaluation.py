"""The page of an evaluation: figures, curves, the worst and the best samples, where all is from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pwc_exp.flow.colour import legend
from pwc_exp.gallery import Shown
from pwc_exp.pictures import ERROR_BOUNDS, ERROR_COLOURS
from pwc_exp.report.axes import Tick
from pwc_exp.report.charts import Bar, Series, bar_chart, line_chart
from pwc_exp.report.page import (
    NONE,
    facts,
    heading,
    headline,
    number,
    page,
    picture,
    table,
    text,
)
from pwc_exp.scoring import METRICS
from pwc_exp.scoring.metrics import BY_NAME, Metric
from pwc_exp.scoring.sample import ERROR_EDGES, SPEED_EDGES
from pwc_exp.scoring.summary import Part, Summary

_COLUMNS = {  # of tables with many rows, and what stands above them
    "aepe": "AEPE",
    "aepe_per_image": "per image",
    "fl_all": "Fl-all",
    "outlier_1px": "> 1 px",
    "outlier_3px": "> 3 px",
    "outlier_5px": "> 5 px",
    "aae": "AAE",
    "wauc": "WAUC",
    "aepe_matched": "matched",
    "aepe_unmatched": "unmatched",
}
_MOST_ROWS = 60  # of a table that is open


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the page is made of."""

    title: str  # what was evaluated, on what
    summary: Summary
    about: Mapping[str, object]  # where the estimates come from
    data: Mapping[str, str]  # each data set: where it lies, its knobs, its digest
    made_by: Mapping[str, str]  # command, commit, versions
    worst: Sequence[Shown] = ()
    best: Sequence[Shown] = ()
    pyramid: np.ndarray | None = field(default=None, repr=False)  # a drawn sample
    pyramid_of: str = ""  # its id


def render(evaluation: Evaluation) -> str:
    """The whole page, as HTML."""
    return page(evaluation.title, _sections(evaluation))


def _sections(evaluation: Evaluation) -> Iterator[str]:
    summary = evaluation.summary
    yield f"<h1>{text(evaluation.title)}</h1>"
    yield _headline(summary)
    yield heading("All metrics", _interval_note(summary))
    yield _metrics(summary.whole)
    yield heading("By data set")
    yield _parts("data set", summary.datasets)
    for dataset, scenes in summary.sequences.items():
        yield f"<h3>Sequences of {text(dataset)}</h3>"
        shown = _parts("sequence", scenes)
        folded = f"<details><summary>{len(scenes)} sequences</summary>{shown}</details>"
        yield folded if len(scenes) > _MOST_ROWS else shown
    if summary.dialects:
        yield from _dialects(summary)
    yield heading("Errors", "Over all valid pixels. A hover shows the numbers.")
    yield f'<div class="charts">{"".join(_charts(summary))}</div>'
    yield from _samples("Worst samples", evaluation.worst)
    yield from _samples("Best samples", evaluation.best)
    if evaluation.worst:
        yield _legends()
    if evaluation.pyramid is not None:
        explanation = (
            f"{evaluation.pyramid_of}, the sample in the middle of the ranking: the flow of every "
            "level, in the colours of the truth."
        )
        yield heading("Pyramid of one sample", explanation)
        yield picture(evaluation.pyramid, "From the coarsest level to the finest")
    yield heading("What was evaluated")
    yield facts({**evaluation.about, **evaluation.data, **evaluation.made_by})


def _headline(summary: Summary) -> str:
    whole = summary.whole
    tiles = [
        (name, f"{_value(BY_NAME[key], whole)} {BY_NAME[key].unit}", _range(key, whole))
        for name, key in (
            ("AEPE", "aepe"),
            ("Fl-all", "fl_all"),
            ("off by > 1 px", "outlier_1px"),
            ("WAUC", "wauc"),
        )
    ]
    count = (
        "samples",
        f"{whole.means['samples']:,.0f}",
        f"{whole.means['valid_pixels']:,.0f} pixels",
    )
    return headline([*tiles, count])


def _metrics(part: Part) -> str:
    rows = [
        [
            f"<code>{metric.name}</code>",
            _value(metric, part) + (f" {metric.unit}" if _known(metric, part) else ""),
            _range(metric.name, part),
            f'<span class="note">{text(metric.meaning)}</span>',
        ]
        for metric in METRICS
    ]
    return table(["metric", "value", "95 % interval", "meaning"], rows, texts=[3])


def _parts(name: str, parts: Mapping[str, Part]) -> str:
    columns = [
        BY_NAME[key]
        for key in _COLUMNS
        if any(_known(BY_NAME[key], part) for part in parts.values())
    ]
    labels = (f"{text(_COLUMNS[metric.name])}<br>{metric.unit}" for metric in columns)
    head = [name, *labels, "pixels", "samples"]
    rows = [
        [
            text(label),
            *(_value(metric, part) for metric in columns),
            f"{part.means['valid_pixels']:,.0f}",
            f"{part.means['samples']:,.0f}",
        ]
        for label, part in parts.items()
    ]
    return table(head, rows)


def _dialects(summary: Summary) -> Iterator[str]:
    yield heading(
        "By the definitions of others",
        "The same estimates, scored as each benchmark or project defines its figures, under the "
        "names that it prints. docs/evaluation.md has the sources.",
    )
    for dataset, found in summary.dialects.items():
        yield f"<h3>{text(dataset)}</h3>"
        rows = [
            [text(dialect), " &nbsp; ".join(_figure(*item) for item in figures.items())]
            for dialect, figures in found.items()
        ]
        yield table(["whose", "figures"], rows, texts=[1])


def _figure(name: str, value: float) -> str:
    return f'<span class="note">{text(name)}</span> {number(value)}'


def _charts(summary: Summary) -> Iterator[str]:
    pixels, errors = (np.array(summary.curves[n]) for n in ("speed_pixels", "speed_error"))
    ticks = [Tick(place, _edge(edge)) for place, edge in enumerate(SPEED_EDGES)]
    speeds = [
        (place + 0.5, float(error / count))
        for place, (error, count) in enumerate(zip(errors, pixels, strict=True))
        if count
    ]
    motion = "true motion, px (each bin is twice as wide as the one before)"
    yield _captioned(
        "Error against motion",
        line_chart([Series("AEPE", speeds)], x=motion, y="AEPE, px", ticks=ticks, logarithmic=True),
    )
    yield _captioned("How fast the pixels move", _shares(pixels, SPEED_EDGES, ticks, motion))
    counts = np.array(summary.curves["error_pixels"])
    places = [Tick(n, _edge(edge)) for n, edge in enumerate(ERROR_EDGES) if _has_tick(edge)]
    axis = "endpoint error, px (logarithmic)"
    yield _captioned("How large the errors are", _shares(counts, ERROR_EDGES, places, axis))
    within = 100 * np.cumsum(counts) / max(counts.sum(), 1)
    upper = [(n + 1.0, float(share)) for n, share in enumerate(within)]
    curve = line_chart([Series("within", upper)], x=axis, y="% of pixels", ticks=places)
    yield _captioned("Pixels within an error", curve)


def _shares(counts: np.ndarray, edges: np.ndarray, ticks: Sequence[Tick], x: str) -> str:
    shares = 100 * counts / max(counts.sum(), 1)
    bars = [
        Bar(float(share), f"{_edge(low)} to {_edge(high)} px: {share:.2f} % of the pixels")
        for share, low, high in zip(shares, edges, edges[1:], strict=False)
    ]
    return bar_chart(bars, x=x, y="% of pixels", ticks=ticks)


def _samples(title: str, shown: Sequence[Shown]) -> Iterator[str]:
    if not shown:
        return
    yield heading(title)
    for sample in shown:
        pictures = "".join(picture(pixels, name) for name, pixels in sample.tiles.items())
        yield (
            f'<div class="sample"><h3>{text(sample.id)}: {number(sample.aepe)} px</h3>'
            f'<div class="pictures">{pictures}</div></div>'
        )


def _legends() -> str:
    upper = [f"{bound:g}" for bound in ERROR_BOUNDS]
    names = [f"≤ {upper[0]}", *(f"≤ {bound}" for bound in upper[1:]), f"> {upper[-1]}"]
    swatches = " ".join(
        f'<span class="key"><span class="swatch" style="background:rgb({r},{g},{b})"></span>'
        f"{name}</span>"
        for name, (r, g, b) in zip(names, ERROR_COLOURS.tolist(), strict=True)
    )
    wheel = picture(legend(150), "flow: hue is direction, saturation is speed", lossless=True)
    return (
        heading("Colours")
        + f'<div class="legends">{wheel}<div><p>Right is red, down is yellow-green, as in the '
        "Middlebury code. Full saturation is the speed that 99.9 % of the true motion of a sample "
        "does not exceed; black is unknown.</p>"
        f'<p class="note">error, px</p>{swatches}</div></div>'
    )


def _captioned(caption: str, drawing: str) -> str:
    return f"<figure><figcaption><b>{text(caption)}</b></figcaption>{drawing}</figure>"


def _interval_note(summary: Summary) -> str:
    drawing = summary.drawing
    unit = "scenes" if drawing.by_scene else "samples"
    return (
        f"Intervals: bootstrap, {drawing.draws:,} draws of {summary.whole.groups:,} {unit} with "
        f"replacement, seed {drawing.seed}. {NONE}: nothing to measure, a mask that the data do "
        "not have, or a single group to draw from."
    )


def _value(metric: Metric, part: Part) -> str:
    return number(part.means[metric.name])


def _known(metric: Metric, part: Part) -> bool:
    return not np.isnan(part.means[metric.name])


def _range(name: str, part: Part) -> str:
    found = part.intervals.get(name)
    if found is None or np.isnan(found.lower):
        return NONE
    return f"{number(found.lower)} to {number(found.upper)}"


def _edge(edge: float) -> str:
    return "∞" if np.isinf(edge) else f"{edge:.3g}"


def _has_tick(edge: float) -> bool:
    return bool(2**-6 < edge < 2**8 and np.log2(edge) % 2 == 0)
