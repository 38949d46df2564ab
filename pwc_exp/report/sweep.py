"""A sweep as reported: its children and their order; the page, and tables as text and Markdown."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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

_LAST = ("RUNNING", "WAITING", "PRUNED", "KILLED", "FAILED")  # children without a rank, in order
_MOST_COLUMNS = 6  # settings that have columns of their own; with more, the child's name tells them
_MOST_ROWS = 20  # of a table that is open
_LONG = 5  # an interval this many times as long as the spread of the values is not drawn
_FEW = 6  # curves that have a colour each; more are coloured by rank
_WIDTH = 120  # of a terminal's line
_NAME = 56  # characters of a name, beyond which settings are shortened to their last parts
_INDENT = "         "
_GROUPS = ["settings without the seed", "runs", "mean", "deviation", "best"]


@dataclass(frozen=True, kw_only=True)
class ChildRow:
    """A child run, as its folder records it."""

    number: int
    name: str
    values: Mapping[str, str]  # settings that differ between children, as Hydra writes them
    status: str  # FINISHED, FAILED, KILLED, PRUNED, RUNNING or WAITING
    aepe: float  # px, the objective; nan: none
    lower: float = math.nan  # of the 95 % interval
    upper: float = math.nan
    seconds: float  # of training steps
    wall: float = math.nan  # seconds from start to end
    steps: int  # done
    reason: str = ""  # why it did not finish, one line
    folder: str
    curve: Sequence[tuple[float, float]] = ()  # (step, objective)

    @property
    def interval(self) -> str:
        """As text; empty where there is none."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper)
        return interval((self.lower, self.upper)) if known else ""


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Children with the same settings but different seeds."""

    name: str  # the settings that differ, without the seed
    count: int
    mean: float
    deviation: float  # n - 1; nan for one child
    best: float


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What the page and the tables are made of."""

    title: str
    command: str  # that repeats the sweep
    children: Sequence[ChildRow]
    objective: str = "val/aepe, px"  # name, unit
    lower_is_better: bool = True
    best: int | None = None  # the number of the best child
    groups: Sequence[SeedGroup] = ()
    notes: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # caption -> PNG
    fronts: Sequence[int] = ()  # numbers of the children on the Pareto front
    objectives: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # if several

    @property
    def ranked(self) -> list[ChildRow]:
        """The children that finished with a value, and the best one, best first."""
        sign = 1 if self.lower_is_better else -1
        found = [child for child in self.children if self._has_rank(child)]
        return sorted(found, key=lambda c: (c.number != self.best, sign * c.aepe, c.number))

    @property
    def unranked(self) -> list[ChildRow]:
        """The others, failed ones last."""
        found = [child for child in self.children if not self._has_rank(child)]
        places = {status: place for place, status in enumerate(_LAST)}
        return sorted(found, key=lambda child: (places.get(child.status, 0), child.number))

    @property
    def short_settings(self) -> dict[str, str]:
        """{setting that differs: its last part, where that is unambiguous}, as first met."""
        settings = list(dict.fromkeys(name for child in self.children for name in child.values))
        last = {name: name.rpartition(".")[2] for name in settings}
        counts = Counter(last.values())
        return {name: part if counts[part] == 1 else name for name, part in last.items()}

    def short_name(self, child: ChildRow) -> str:
        """Its values, each with the short name of its setting."""
        names = self.short_settings
        return " ".join(f"{names[k]}={value}" for k, value in child.values.items()) or child.name

    def _has_rank(self, child: ChildRow) -> bool:
        counts = child.status == "FINISHED" or child.number == self.best
        return counts and math.isfinite(child.aepe)


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
        marks = [mark._replace(colour=colour(n)) for n, mark in enumerate(marks)]
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
        front_charts=[("", chart) for chart in _front_charts(sweep)],
        effects=[("", chart) for chart in _effects(sweep, children, shown) if chart],
        effects_note=effects_note,
        rank_key=_rank_key(marks),
        curves=[("", chart) for chart in _curves(sweep, children, marks) if chart],
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
    if len(sweep.ranked) > 1:
        second = sweep.ranked[1]
        note = f"child {second.number}"
        if best.interval and second.interval:
            apart = best.upper < second.lower or second.upper < best.lower
            note += f"; the intervals {'do not overlap' if apart else 'overlap'}"
        yield "Ahead of the second", f"{number(abs(second.aepe - best.aepe))} {unit}", note
    counts = Counter(child.status.lower() for child in sweep.children)
    by_status = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    yield "Children", f"{len(sweep.children):,}", by_status
    seconds = [child.seconds for child in sweep.children if math.isfinite(child.seconds)]
    longest = f"longest child {duration(max(seconds))}" if seconds else ""
    yield "Training time", duration(sum(seconds)), longest


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
) -> Iterator[Markup]:
    for name, short in sweep.short_settings.items():
        places = [child.values.get(name) for child in children]
        yield scatter_chart(places, marks, x=shortened(short, 70), y=sweep.objective)
    seconds = [child.seconds if math.isfinite(child.seconds) else None for child in children]
    yield scatter_chart(seconds, marks, x="training time, s", y=sweep.objective)


def _curves(
    sweep: SweepSummary, children: Sequence[ChildRow], marks: Sequence[Mark]
) -> Iterator[Markup]:
    shown = [
        (child.curve, mark) for child, mark in zip(children, marks, strict=True) if child.curve
    ]
    if not shown:
        return
    lines, drawn = zip(*shown, strict=True)
    middle = max(step for line in lines for step, _ in line) / 2
    yield curve_chart(lines, drawn, x="step", y=sweep.objective)
    if max(sum(step >= middle for step, _ in line) for line in lines) > 1:
        yield curve_chart(lines, drawn, x="step", y=sweep.objective, start=middle)


def _front_charts(sweep: SweepSummary) -> list[Markup]:
    """The first objective against each of the others."""
    if len(sweep.objectives) < 2:
        return []
    (first, values), *others = sweep.objectives.items()
    children = sorted(sweep.children, key=lambda child: child.number not in sweep.fronts)
    marks = [
        Mark(
            values.get(child.number, math.nan),
            COLOURS[0] if child.number in sweep.fronts else NEUTRAL,
            best=child.number in sweep.fronts,
        )
        for child in children
    ]
    places = {name: [other.get(child.number) for child in children] for name, other in others}
    return [scatter_chart(at, marks, x=name, y=first, joined=True) for name, at in places.items()]


def text_table(sweep: SweepSummary) -> str:
    """Lines of about 120 characters, best child first, marked `*`; reasons have own lines."""
    children = sweep.ranked + sweep.unranked
    rows = [["", "child", "name", sweep.objective, "training s", "wall s", "status"]]
    for child in children:
        _, name, *cells, _ = _cells(child)
        name = name if len(name) <= _NAME else " ".join(sweep.short_name(child).split())
        rows.append(["*" if child.number == sweep.best else "", str(child.number), name, *cells])
    heading, *lines = aligned(rows, right=(1, 4, 5), width=_WIDTH, cut=2)
    found = [heading]
    for line, child in zip(lines, children, strict=True):
        found.append(line)
        if child.reason:
            reason = " ".join(child.reason.split())
            found.append(_INDENT + shortened(reason, _WIDTH - len(_INDENT)))
    if sweep.groups:
        found += ["", *aligned([_GROUPS, *_group_rows(sweep)], right=(1, 2, 3, 4), width=_WIDTH)]
    return "\n".join(found)


def markdown_table(sweep: SweepSummary) -> str:
    """The same as Markdown, uncut; the best child is bold."""
    rows = [["child", "name", sweep.objective, "training s", "wall s", "status", "reason"]]
    for child in sweep.ranked + sweep.unranked:
        cells = [literal(cell) for cell in _cells(child)]
        best = child.number == sweep.best
        rows.append([f"**{cell}**" if best and cell else cell for cell in cells])
    lines = pages.markdown_table(rows, right=(0, 3, 4))
    if sweep.groups:
        groups = [[literal(cell) for cell in row] for row in _group_rows(sweep)]
        lines += ["", *pages.markdown_table([_GROUPS, *groups], right=(1, 2, 3, 4))]
    return "\n".join(lines) + "\n"


def _cells(child: ChildRow) -> list[str]:
    return [
        str(child.number),
        " ".join(child.name.split()) or NONE,
        number(child.aepe) + (f" [{child.interval}]" if child.interval else ""),
        number(child.seconds, 1),
        number(child.wall, 0),
        child.status,
        child.reason,
    ]


def _group_rows(sweep: SweepSummary) -> list[list[str]]:
    return [
        [
            " ".join(group.name.split()) or "all",
            str(group.count),
            *(number(value) for value in (group.mean, group.deviation, group.best)),
        ]
        for group in sweep.groups
    ]
