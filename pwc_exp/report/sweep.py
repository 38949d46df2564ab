"""The page of a sweep: which child is best, how surely, what the knobs did, and what went wrong."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from pwc_exp.report.axes import Column, column
from pwc_exp.report.charts import coloured_key
from pwc_exp.report.page import heading, headline, number, page, png, shortened, text
from pwc_exp.report.parallel import parallel_coordinates
from pwc_exp.report.sweep_charts import Mark, curves, ramp_key, scatter, shade
from pwc_exp.report.sweep_summary import ChildRow, SeedGroup, SweepSummary
from pwc_exp.report.sweep_tables import duration, folders, front, groups, ranking, unranked

__all__ = ["ChildRow", "SeedGroup", "SweepSummary", "render"]

_LONG = 5  # times the spread of the values, of an interval that is not drawn beside them
_MOST_COLOURS = 6  # of curves that are told apart by colour; more are coloured by rank


def render(sweep: SweepSummary) -> str:
    """The whole page, as HTML."""
    return page(sweep.title, _sections(sweep))


def _sections(sweep: SweepSummary) -> Iterator[str]:
    marks = _marks(sweep)
    yield f"<h1>{text(sweep.title)}</h1>"
    yield _headline(sweep)
    yield from ranking(sweep, marks[: len(sweep.ranked)])
    if sweep.groups:
        yield heading("Seeds", "Children alike but for the seed; deviation of single runs (n - 1).")
        yield groups(sweep)
    yield from unranked(sweep)
    if len(sweep.objectives) > 1:
        yield from _front(sweep)
    yield from _knobs(sweep, marks)
    yield from _curves(sweep, marks)
    if sweep.pictures:
        yield heading("The search")
        drawn = "".join(png(data, caption) for caption, data in sweep.pictures.items())
        yield f'<div class="charts">{drawn}</div>'
    yield heading("To repeat it")
    yield f"<p><code>{text(sweep.command)}</code></p>"
    yield from (f"<p>{text(note)}</p>" for note in sweep.notes)
    yield folders(sweep)


def _headline(sweep: SweepSummary) -> str:
    name, _, unit = sweep.objective.partition(", ")
    counts = Counter(child.status.lower() for child in sweep.children)
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    seconds = [child.seconds for child in sweep.children if math.isfinite(child.seconds)]
    longest = f"longest child {duration(max(seconds))}" if seconds else ""
    tiles = [
        ("Children", f"{len(sweep.children):,}", told),
        ("Training time", duration(sum(seconds)), longest),
    ]
    match sweep.ranked:
        case [best, second, *_]:
            lead = f"{number(abs(second.aepe - best.aepe))} {unit}"
            tiles.insert(0, ("Ahead of the second", lead, _overlap(best, second)))
    if sweep.ranked:
        best = sweep.ranked[0]
        note = f"child {best.number}: {shortened(sweep.short_name(best), 120)}"
        tiles.insert(0, (f"Best {name}", f"{number(best.aepe)} {unit}", note))
    return headline(tiles)


def _overlap(best: ChildRow, second: ChildRow) -> str:
    if not (best.interval and second.interval):
        return f"child {second.number}"
    apart = best.upper < second.lower or second.upper < best.lower
    return f"child {second.number}; the intervals {'do not overlap' if apart else 'overlap'}"


def _marks(sweep: SweepSummary) -> list[Mark]:
    """Of the children with a rank, then of the others."""
    unit = sweep.objective.partition(", ")[2]
    ranked = sweep.ranked
    marks = []
    for place, child in enumerate([*ranked, *sweep.unranked]):
        early = place >= len(ranked)
        value = f"{number(child.aepe)} {unit}" + (f" ({child.interval})" if child.interval else "")
        end = f", {child.status}" if early else ""
        colour = "var(--faint)" if early else shade(place, len(ranked))
        best = child.number == sweep.best
        note = f"{child.number}: {child.name}\n{value}{end}"
        marks.append(Mark(note, colour, child.aepe, child.lower, child.upper, best, early))
    return marks


def _knobs(sweep: SweepSummary, marks: Sequence[Mark]) -> Iterator[str]:
    children = [*sweep.ranked, *sweep.unranked]
    names = sweep.short_knobs
    columns = {names[knob]: _column(sweep, knob, children) for knob in sweep.knobs}
    lines = parallel_coordinates(columns, sweep.objective, marks)
    if lines:
        yield heading("What the knobs did", "A line for each child; a hover tells which it is.")
        yield ramp_key(marks)
        yield lines
    columns["training steps took, s"] = Column([child.seconds for child in children], [])
    shown = _with_legible_whiskers(marks)
    drawn = [scatter(values, shown, x=name, y=sweep.objective) for name, values in columns.items()]
    if any(drawn):
        bars = "Bars are 95 % intervals." if any(mark.whiskers for mark in shown) else ""
        if shown != marks:
            bars = "Intervals are left out: they are many times as long as the values are apart."
        yield heading("Knob by knob", bars)
        yield _side_by_side(drawn)


def _with_legible_whiskers(marks: Sequence[Mark]) -> Sequence[Mark]:
    """`marks`; without intervals where these would press the values into one place."""
    values = [mark.value for mark in marks if math.isfinite(mark.value)]
    lengths = sorted(mark.upper - mark.lower for mark in marks if mark.whiskers)
    if not lengths or lengths[len(lengths) // 2] < _LONG * (max(values) - min(values)):
        return marks
    return [mark._replace(lower=math.nan, upper=math.nan) for mark in marks]


def _column(sweep: SweepSummary, knob: str, children: Sequence[ChildRow]) -> Column:
    """The values of `children`; categories in the order in which the sweep has them."""
    found = column([child.values.get(knob) for child in sweep.children])
    values = {child.number: v for child, v in zip(sweep.children, found.values, strict=True)}
    return Column([values[child.number] for child in children], found.categories)


def _curves(sweep: SweepSummary, marks: Sequence[Mark]) -> Iterator[str]:
    children = [*sweep.ranked, *sweep.unranked]
    shown = [(child, mark) for child, mark in zip(children, marks, strict=True) if child.curve]
    if not shown:
        return
    lines = [child.curve for child, _ in shown]
    drawn = [mark for _, mark in shown]
    yield heading(
        "Curves",
        "The whole and, where there is more than a point, the second half. The best child is drawn "
        "thick; a hover tells which one a line is.",
    )
    if len(shown) <= _MOST_COLOURS:
        names = [(m.colour, f"{c.number}: {shortened(c.name, 60)}") for c, m in shown]
        yield f"<p>{coloured_key(names)}</p>"
    else:
        yield ramp_key(drawn)
    middle = max(step for line in lines for step, _ in line) / 2
    late = max(sum(step >= middle for step, _ in line) for line in lines) > 1
    starts = (0, middle) if late else (0,)
    drawings = [curves(lines, drawn, x="step", y=sweep.objective, start=s) for s in starts]
    yield _side_by_side(drawings)


def _front(sweep: SweepSummary) -> Iterator[str]:
    on_front = [child for child in sweep.children if child.number in sweep.fronts]
    off_front = [child for child in sweep.children if child.number not in sweep.fronts]
    first, *others = sweep.objectives
    yield heading(
        "Pareto front",
        f"{len(on_front)} children that no other beats in every objective, joined by a line.",
    )
    children = [*on_front, *off_front]
    values = {
        name: [found.get(child.number, math.nan) for child in children]
        for name, found in sweep.objectives.items()
    }
    marks = []
    for place, child in enumerate(children):
        told = [f"{name.partition(', ')[0]} {number(v[place])}" for name, v in values.items()]
        note = "\n".join([f"{child.number}: {child.name}", *told])
        chosen = place < len(on_front)
        colour = "var(--s0)" if chosen else "var(--faint)"
        marks.append(Mark(note, colour, values[first][place], best=chosen))
    yield _side_by_side(
        [scatter(Column(values[name], []), marks, x=name, y=first) for name in others]
    )
    yield front(sweep)


def _side_by_side(drawings: Sequence[str]) -> str:
    figures = "".join(f"<figure>{drawing}</figure>" for drawing in drawings if drawing)
    return f'<div class="charts">{figures}</div>'
