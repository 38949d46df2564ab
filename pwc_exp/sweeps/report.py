"""What is shown of a sweep: its page, and its tables for the terminal and as Markdown."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from markupsafe import Markup

from pwc_exp.report import pages
from pwc_exp.report.figures import (
    BEST,
    COLOURS,
    NEUTRAL,
    WORST,
    Mark,
    colour,
    curve_chart,
    scatter_chart,
    shade,
)
from pwc_exp.report.pages import NONE, aligned, duration, interval, literal, number, shortened
from pwc_exp.sweeps.folder import Child, Objective, Outcome, Status, rounded

_LAST = ("WAITING", "PRUNED", "KILLED", "FAILED")  # children without a rank, in order
_MOST_COLUMNS = 6  # settings that have columns of their own; with more, the child's name tells them
_MOST_ROWS = 20  # of a table that is open
_LONG = 5  # an interval this many times as long as the spread of the values is not drawn
_FEW = 6  # curves that have a colour each; more are coloured by rank
_WIDTH = 120  # of a terminal's line
_NAME = 56  # characters of a name, beyond which settings are shortened to their last parts
_INDENT = "         "
_SEEDS = ["settings without the seed", "runs", "mean", "deviation", "best"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A child and its outcome, as tables and page show them."""

    child: Child
    outcome: Outcome
    value: float  # of the first objective; nan: none
    lower: float = math.nan  # of its 95 % interval
    upper: float = math.nan

    @property
    def interval(self) -> str:
        """As text; empty where there is none."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper)
        return interval((self.lower, self.upper)) if known else ""

    @property
    def values(self) -> dict[str, str]:
        """Settings that differ between children, with long numbers rounded."""
        return {key: rounded(value) for key, value in self.child.values.items()}


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What the page and the tables are made of; the first objective ranks the children."""

    title: str
    command: str  # that repeats the sweep
    children: Sequence[Child]
    outcomes: Mapping[int, Outcome]  # by number of the child
    objectives: Sequence[Objective]
    notes: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # caption -> PNG
    front: Sequence[int] = ()  # numbers of the children on the Pareto front

    @cached_property
    def objective(self) -> str:
        """The label of the first objective."""
        return self.objectives[0].label

    @cached_property
    def ranked(self) -> list[Row]:
        """The children that finished with a value, best first."""
        return [self.row(each) for each in self.objectives[0].ranked(self.children, self.outcomes)]

    @cached_property
    def best(self) -> int | None:
        """The number of the best child."""
        return self.ranked[0].child.number if self.ranked else None

    @cached_property
    def unranked(self) -> list[Row]:
        """The others, failed ones last."""
        ranked = {row.child.number for row in self.ranked}
        found = [self.row(child) for child in self.children if child.number not in ranked]
        places = {status: place for place, status in enumerate(_LAST)}
        return sorted(found, key=lambda r: (places.get(r.outcome.status, 0), r.child.number))

    @cached_property
    def rows(self) -> list[Row]:
        """All children, in the order of the tables."""
        return self.ranked + self.unranked

    @cached_property
    def short_settings(self) -> dict[str, str]:
        """{setting that differs: its last part, where that is unambiguous}, as first met."""
        settings = list(dict.fromkeys(name for child in self.children for name in child.values))
        last = {name: name.rpartition(".")[2] for name in settings}
        counts = Counter(last.values())
        return {name: part if counts[part] == 1 else name for name, part in last.items()}

    @cached_property
    def seeds(self) -> list[list[str]]:
        """Rows of a table: finished children that differ in nothing but their seed, best first.

        The deviation is that of single runs (n - 1). Empty if no two children are alike.
        """
        found: dict[str, list[float]] = {}
        for row in self.ranked:
            if "seed" in row.child.values:
                others = " ".join(f"{k}={v}" for k, v in row.child.values.items() if k != "seed")
                found.setdefault(" ".join(others.split()) or "all", []).append(row.value)
        if max(map(len, found.values()), default=0) < 2:
            return []
        groups = [
            (statistics.fmean(values), statistics.stdev(values) if values[1:] else math.nan, name)
            for name, values in found.items()
        ]
        groups.sort(reverse=self.objectives[0].maximize)
        return [
            [name, str(len(found[name])), number(mean), number(deviation), number(found[name][0])]
            for mean, deviation, name in groups
        ]

    def row(self, child: Child) -> Row:
        """The row of a child."""
        outcome, objective = self.outcomes[child.number], self.objectives[0]
        return Row(
            child=child,
            outcome=outcome,
            value=objective.value(outcome),
            lower=outcome.values.get(f"{objective.key}_lower", math.nan),
            upper=outcome.values.get(f"{objective.key}_upper", math.nan),
        )

    def short_name(self, row: Row) -> str:
        """Its values, each with the short name of its setting."""
        names = self.short_settings
        return " ".join(f"{names[k]}={value}" for k, value in row.values.items()) or row.child.name


def render(sweep: SweepSummary) -> str:
    """The whole page, as HTML."""
    marks = _marks(sweep)
    shown, effects_note = _with_legible_intervals(marks)
    few = sum(bool(row.outcome.curve) for row in sweep.rows) <= _FEW
    if few:
        marks = [mark._replace(colour=colour(n)) for n, mark in enumerate(marks)]
    by_number = {child.number: child for child in sweep.children}
    names = sweep.short_settings
    columns = [(short, name) for name, short in names.items()]
    return pages.render(
        "sweep.html.j2",
        sweep=sweep,
        title=sweep.title,
        headline=list(_headline(sweep)),
        most_rows=_MOST_ROWS,
        seeds=[_SEEDS, *sweep.seeds] if sweep.seeds else [],
        setting_columns=columns if 0 < len(names) <= _MOST_COLUMNS else [("name", "")],
        has_intervals=any(row.interval for row in sweep.ranked),
        front=[sweep.row(by_number[number]) for number in sweep.front],
        front_charts=_figures(_front_charts(sweep)),
        effects=_figures(_effects(sweep, shown)),
        effects_note=effects_note,
        rank_key=_rank_key(marks),
        curves=_figures(_curves(sweep, marks)),
        curve_names=[
            (mark.colour, f"{row.child.number}: {shortened(row.child.name, 60)}")
            for row, mark in zip(sweep.rows, marks, strict=True)
            if row.outcome.curve and few
        ],
    )


def _figures(charts: Iterable[Markup]) -> list[tuple[str, Markup]]:
    """Those that are not empty, without a caption."""
    return [("", chart) for chart in charts if chart]


def _headline(sweep: SweepSummary) -> Iterator[tuple[str, str, str]]:
    """Large figures: (name, value, note)."""
    name, _, unit = sweep.objective.partition(", ")
    best, second = [*sweep.ranked, None, None][:2]
    if best:
        note = f"child {best.child.number}: {shortened(sweep.short_name(best), 120)}"
        yield f"Best {name}", f"{number(best.value)} {unit}", note
    if best and second:
        note = f"child {second.child.number}"
        if best.interval and second.interval:
            apart = best.upper < second.lower or second.upper < best.lower
            note += f"; the intervals {'do not overlap' if apart else 'overlap'}"
        lead = number(abs(second.value - best.value))
        yield "Ahead of the second", f"{lead} {unit}", note
    counts = Counter(row.outcome.status.lower() for row in sweep.rows)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    yield "Children", f"{len(sweep.rows):,}", by_status
    seconds = [s for row in sweep.rows if math.isfinite(s := row.outcome.seconds)]
    longest = f"longest child {duration(max(seconds))}" if seconds else ""
    yield "Training time", duration(sum(seconds)), longest


def _marks(sweep: SweepSummary) -> list[Mark]:
    """Of the children with a rank, then of the others."""
    count = len(sweep.ranked)
    return [
        Mark(
            value=row.value,
            colour=shade(place, count) if place < count else NEUTRAL,
            interval=(row.lower, row.upper),
            best=place == 0 < count,
            ended_early=place >= count,
        )
        for place, row in enumerate(sweep.rows)
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


def _effects(sweep: SweepSummary, marks: Sequence[Mark]) -> Iterator[Markup]:
    """The result against each setting, and against the training time."""
    for name, short in sweep.short_settings.items():
        places = [row.values.get(name) for row in sweep.rows]
        yield scatter_chart(places, marks, x=shortened(short, 70), y=sweep.objective)
    seconds = [s if math.isfinite(s := row.outcome.seconds) else None for row in sweep.rows]
    yield scatter_chart(seconds, marks, x="training time, s", y=sweep.objective)


def _curves(sweep: SweepSummary, marks: Sequence[Mark]) -> Iterator[Markup]:
    """The whole curves and, where that is more than a point, their second half."""
    curves = [row.outcome.curve for row in sweep.rows]
    drawn = [mark for curve, mark in zip(curves, marks, strict=True) if curve]
    if not drawn:
        return
    lines = [curve for curve in curves if curve]
    middle = max(step for line in lines for step, _ in line) / 2
    yield curve_chart(lines, drawn, x="step", y=sweep.objective)
    if max(sum(step >= middle for step, _ in line) for line in lines) > 1:
        yield curve_chart(lines, drawn, x="step", y=sweep.objective, start=middle)


def _front_charts(sweep: SweepSummary) -> Iterator[Markup]:
    """The first objective against each of the others."""
    first, *others = sweep.objectives
    finished = [row for row in sweep.rows if row.outcome.status == Status.FINISHED]
    rows = sorted(finished, key=lambda row: row.child.number not in sweep.front)
    best = [row.child.number in sweep.front for row in rows]
    marks = [
        Mark(row.value, COLOURS[0] if on_front else NEUTRAL, best=on_front)
        for row, on_front in zip(rows, best, strict=True)
    ]
    for other in others:
        places = [other.value(row.outcome) for row in rows]
        yield scatter_chart(places, marks, x=other.label, y=first.label, joined=True)


def text_table(sweep: SweepSummary) -> str:
    """Lines of about 120 characters, best child first, marked `*`; reasons have own lines."""
    rows = [["", "child", "name", sweep.objective, "training s", "wall s", "status"]]
    for row in sweep.rows:
        child, name, *cells, _ = _cells(row)
        name = name if len(name) <= _NAME else " ".join(sweep.short_name(row).split())
        rows.append(["*" if row.child.number == sweep.best else "", child, name, *cells])
    heading, *lines = aligned(rows, right=(1, 4, 5), width=_WIDTH, cut=2)
    found = [heading]
    for line, row in zip(lines, sweep.rows, strict=True):
        found.append(line)
        if row.outcome.reason:
            reason = " ".join(row.outcome.reason.split())
            found.append(_INDENT + shortened(reason, _WIDTH - len(_INDENT)))
    if sweep.seeds:
        found += ["", *aligned([_SEEDS, *sweep.seeds], right=(1, 2, 3, 4), width=_WIDTH)]
    return "\n".join(found)


def markdown_table(sweep: SweepSummary) -> str:
    """The same as Markdown, uncut; the best child is bold."""
    rows = [["child", "name", sweep.objective, "training s", "wall s", "status", "reason"]]
    for row in sweep.rows:
        best = row.child.number == sweep.best
        cells = [literal(cell) for cell in _cells(row)]
        rows.append([f"**{cell}**" if best and cell else cell for cell in cells])
    lines = pages.markdown_table(rows, right=(0, 3, 4))
    if sweep.seeds:
        seeds = [[literal(cell) for cell in row] for row in sweep.seeds]
        lines += ["", *pages.markdown_table([_SEEDS, *seeds], right=(1, 2, 3, 4))]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    return [
        str(row.child.number),
        " ".join(row.child.name.split()) or NONE,
        number(row.value) + (f" [{row.interval}]" if row.interval else ""),
        number(row.outcome.seconds, 1),
        number(row.outcome.wall, 0),
        row.outcome.status,
        row.outcome.reason,
    ]
