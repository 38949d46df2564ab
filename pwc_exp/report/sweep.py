"""The page of a sweep: the best child and its lead, the effect of settings, and what went wrong."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from pwc_exp.report import pages
from pwc_exp.report.figures import (
    BEST,
    COLOURS,
    NEUTRAL,
    WORST,
    Mark,
    curve_chart,
    scatter_chart,
    shade,
)
from pwc_exp.report.pages import duration, number, shortened
from pwc_exp.report.sweep_summary import ChildRow, SeedGroup, SweepSummary

__all__ = ["ChildRow", "SeedGroup", "SweepSummary", "render"]

_MOST_COLUMNS = 6  # settings that have columns of their own; with more, the child's name tells them
_MOST_ROWS = 20  # of a table that is open
_LONG = 5  # an interval this many times as long as the spread of the values is not drawn
_FEW = 6  # curves that have a colour each; more are coloured by rank

_Chart = tuple[str, Markup]  # caption, SVG


def render(sweep: SweepSummary) -> str:
    """The whole page, as HTML."""
    ranked = sweep.ranked
    children = [*ranked, *sweep.unranked]
    marks = _marks(sweep)
    shown, effects_note = _with_legible_intervals(marks)
    front = [child for child in sweep.children if child.number in sweep.fronts]
    first = next(iter(sweep.objectives.values()), {})
    sign = 1 if sweep.lower_is_better else -1
    few = sum(bool(child.curve) for child in children) <= _FEW
    if few:
        marks = [m._replace(colour=COLOURS[n % len(COLOURS)]) for n, m in enumerate(marks)]
    names = sweep.short_settings
    return pages.render(
        "sweep.html.j2",
        title=sweep.title,
        sweep=sweep,
        ranked=ranked,
        headline=list(_headline(sweep)),
        most_rows=_MOST_ROWS,
        setting_columns=[(short, name) for name, short in names.items()]
        if 0 < len(names) <= _MOST_COLUMNS
        else [("name", "")],
        has_intervals=any(child.interval for child in ranked),
        groups=sorted(sweep.groups, key=lambda g: (math.isnan(g.mean), sign * g.mean)),
        front=sorted(front, key=lambda child: first.get(child.number, math.nan)),
        front_charts=_front_charts(sweep),
        effects=[chart for chart in _effects(sweep, children, shown) if chart[1]],
        effects_note=effects_note,
        rank_key=_rank_key(marks),
        curves=[chart for chart in _curves(sweep, children, marks) if chart[1]],
        curve_names=[
            (mark.colour, f"{child.number}: {shortened(child.name, 60)}")
            for child, mark in zip(children, marks, strict=True)
            if child.curve
        ]
        if few
        else [],
        nan=math.nan,
    )


def _headline(sweep: SweepSummary) -> Iterator[tuple[str, str, str]]:
    """Large figures: (name, value, note)."""
    name, _, unit = sweep.objective.partition(", ")
    if sweep.ranked:
        best = sweep.ranked[0]
        note = f"child {best.number}: {shortened(sweep.short_name(best), 120)}"
        yield f"Best {name}", f"{number(best.aepe)} {unit}", note
    match sweep.ranked:
        case [best, second, *_]:
            lead = f"{number(abs(second.aepe - best.aepe))} {unit}"
            yield "Ahead of the second", lead, _overlap(best, second)
    counts = Counter(child.status.lower() for child in sweep.children)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    yield "Children", f"{len(sweep.children):,}", by_status
    seconds = [child.seconds for child in sweep.children if math.isfinite(child.seconds)]
    longest = f"longest child {duration(max(seconds))}" if seconds else ""
    yield "Training time", duration(sum(seconds)), longest


def _overlap(best: ChildRow, second: ChildRow) -> str:
    if not (best.interval and second.interval):
        return f"child {second.number}"
    apart = best.upper < second.lower or second.upper < best.lower
    return f"child {second.number}; the intervals {'do not overlap' if apart else 'overlap'}"


def _marks(sweep: SweepSummary) -> list[Mark]:
    """Of the children with a rank, then of the others."""
    count = len(sweep.ranked)
    return [
        Mark(
            value=child.aepe,
            colour=shade(place, count) if place < count else NEUTRAL,
            interval=(child.lower, child.upper),
            best=child.number == sweep.best,
            ended_early=place >= count,
        )
        for place, child in enumerate([*sweep.ranked, *sweep.unranked])
    ]


def _with_legible_intervals(marks: Sequence[Mark]) -> tuple[list[Mark], str]:
    """`marks`, without intervals where these would squeeze the values; and a note about them."""
    values = [mark.value for mark in marks if math.isfinite(mark.value)]
    lengths = sorted(m.interval[1] - m.interval[0] for m in marks if m.has_interval)
    if not lengths or not values:
        return list(marks), ""
    if lengths[len(lengths) // 2] < _LONG * (max(values) - min(values)):
        return list(marks), "Bars are 95 % intervals."
    bare = [mark._replace(interval=(math.nan, math.nan)) for mark in marks]
    return bare, "Intervals are left out: they are many times longer than the values are apart."


def _rank_key(marks: Sequence[Mark]) -> Markup:
    """What the colours and signs of the marks mean."""
    parts = []
    if sum(not mark.ended_early for mark in marks) > 1:
        ramp = f"background:linear-gradient(to right, {BEST}, #a06ab4, {WORST})"
        parts.append(f'best <i class="ramp" style="{ramp}"></i> worst')
    if any(mark.ended_early for mark in marks):
        parts.append("hollow, dashed: ended early, or has not ended")
    if any(not math.isfinite(mark.value) for mark in marks):
        parts.append("crosses: without a value")
    keys = "".join(f'<span class="key">{part}</span>' for part in parts)
    return Markup(f"<p>{keys}</p>" if parts else "")


def _effects(
    sweep: SweepSummary, children: Sequence[ChildRow], marks: Sequence[Mark]
) -> Iterator[_Chart]:
    for name, short in sweep.short_settings.items():
        places = [child.values.get(name) for child in children]
        yield "", scatter_chart(places, marks, x=shortened(short, 70), y=sweep.objective)
    seconds = [child.seconds if math.isfinite(child.seconds) else None for child in children]
    yield "", scatter_chart(seconds, marks, x="training time, s", y=sweep.objective)


def _curves(
    sweep: SweepSummary, children: Sequence[ChildRow], marks: Sequence[Mark]
) -> Iterator[_Chart]:
    shown = [
        (child.curve, mark) for child, mark in zip(children, marks, strict=True) if child.curve
    ]
    if not shown:
        return
    lines, drawn = zip(*shown, strict=True)
    middle = max(step for line in lines for step, _ in line) / 2
    yield "", curve_chart(lines, drawn, x="step", y=sweep.objective)
    if max(sum(step >= middle for step, _ in line) for line in lines) > 1:
        yield "", curve_chart(lines, drawn, x="step", y=sweep.objective, start=middle)


def _front_charts(sweep: SweepSummary) -> list[_Chart]:
    """The first objective against each of the others."""
    if len(sweep.objectives) < 2:
        return []
    first, *others = sweep.objectives
    children = sorted(sweep.children, key=lambda child: child.number not in sweep.fronts)
    marks = [
        Mark(
            sweep.objectives[first].get(child.number, math.nan),
            COLOURS[0] if child.number in sweep.fronts else NEUTRAL,
            best=child.number in sweep.fronts,
        )
        for child in children
    ]
    return [
        (
            "",
            scatter_chart(
                [sweep.objectives[name].get(child.number) for child in children],
                marks,
                x=name,
                y=first,
                joined=True,
            ),
        )
        for name in others
    ]
