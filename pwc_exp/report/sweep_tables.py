"""The tables on the page of a sweep."""

import math
from collections.abc import Iterator, Sequence

from pwc_exp.report.axes import close
from pwc_exp.report.page import NONE, heading, number, shortened, table, text
from pwc_exp.report.sweep_charts import BAR_WIDTH, Mark, interval_bar
from pwc_exp.report.sweep_summary import ChildRow, SweepSummary

_MOST_KNOBS = 6  # that have columns of their own; more are told by the child's name
_MOST_ROWS = 20  # of a table that is open
_WORD, _NAME = 28, 60  # characters of a knob's value, and of a name


def ranking(sweep: SweepSummary, marks: Sequence[Mark]) -> Iterator[str]:
    """The section of the children that finished; `marks` are theirs, in their order."""
    ranked = sweep.ranked
    yield heading("Ranking", "" if ranked else "No child finished with a value.")
    if not ranked:
        return
    known = any(child.interval for child in ranked)
    intervals = ["95 % interval"] if known else []
    axis = close([v for m in marks for v in m.extent], 8, BAR_WIDTH - 8, room=0)
    knobs = _knob_heads(sweep)
    head = ["rank", "child", *knobs, text(sweep.objective), *intervals, "", "steps took", "steps"]
    rows = []
    for place, (child, mark) in enumerate(zip(ranked, marks, strict=True)):
        row = [f"{place + 1}", f"{child.number}", *_knob_cells(sweep, child), number(child.aepe)]
        row += [child.interval or NONE] * len(intervals)
        row = [f"<b>{cell}</b>" if child.number == sweep.best else cell for cell in row]
        row += [interval_bar(mark, axis, marks[0].value), duration(child.seconds)]
        rows.append([*row, f"{child.steps:,}"])
    words = range(2, 2 + len(knobs))
    yield table(head, rows[:_MOST_ROWS], words=words)
    if len(rows) > _MOST_ROWS:
        rest = table(head, rows[_MOST_ROWS:], words=words)
        yield f"<details><summary>{len(rows) - _MOST_ROWS} more</summary>{rest}</details>"


def unranked(sweep: SweepSummary) -> Iterator[str]:
    """The section of the other children, with reasons; nothing if there are none."""
    if not sweep.unranked:
        return
    yield heading("Without a rank", "Children that ended early, or have not ended.")
    knobs = _knob_heads(sweep)
    head = ["child", "status", "reason", *knobs, text(sweep.objective), "steps took", "steps"]
    rows = [
        [
            f"{child.number}",
            _status(child),
            text(child.reason) or NONE,
            *_knob_cells(sweep, child),
            number(child.aepe),
            duration(child.seconds),
            f"{child.steps:,}",
        ]
        for child in sweep.unranked
    ]
    yield table(head, rows, texts=(2,), words=[1, *range(3, 3 + len(knobs))])


def groups(sweep: SweepSummary) -> str:
    """Mean and deviation over seeds, best first."""
    sign = 1 if sweep.lower_is_better else -1
    found = sorted(sweep.groups, key=lambda g: (math.isnan(g.mean), sign * g.mean))
    marks = [
        Mark(
            f"{group.name}: {number(group.mean)} ± {number(group.deviation)}",
            "var(--s0)",
            group.mean,
            group.mean - group.deviation,
            group.mean + group.deviation,
        )
        for group in found
    ]
    extents = [value for mark in marks for value in mark.extent]
    axis = close(extents or [0.0], 8, BAR_WIDTH - 8, room=0)
    rows = [
        [
            text(group.name) or "all",
            f"{group.count}",
            *(number(value) for value in (group.mean, group.deviation, group.best)),
            interval_bar(mark, axis, marks[0].value),
        ]
        for group, mark in zip(found, marks, strict=True)
    ]
    return table(["alike", "runs", "mean", "deviation", "best", "mean ± deviation"], rows)


def front(sweep: SweepSummary) -> str:
    """The children on the Pareto front, by the first objective."""
    found = [child for child in sweep.children if child.number in sweep.fronts]
    values = sweep.objectives
    first = next(iter(values.values()))
    found.sort(key=lambda child: first.get(child.number, math.nan))
    rows = [
        [
            f"{child.number}",
            *_knob_cells(sweep, child),
            *(number(value.get(child.number, math.nan)) for value in values.values()),
        ]
        for child in found
    ]
    knobs = _knob_heads(sweep)
    head = ["child", *knobs, *(text(name) for name in values)]
    return table(head, rows, words=range(1, 1 + len(knobs)))


def folders(sweep: SweepSummary) -> str:
    """Where each child lies."""
    rows = [
        [f"{child.number}", text(child.name), f"<code>{text(child.folder)}</code>"]
        for child in sweep.children
    ]
    found = table(["child", "name", "folder"], rows, texts=(1, 2))
    return f"<details><summary>Folders of {len(rows)} children</summary>{found}</details>"


def duration(seconds: float) -> str:
    """A time as people say it."""
    if not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _status(child: ChildRow) -> str:
    status = text(child.status)
    return f'<span class="bad">{status}</span>' if child.status == "FAILED" else status


def _knob_heads(sweep: SweepSummary) -> list[str]:
    if not 0 < len(sweep.knobs) <= _MOST_KNOBS:
        return ["name"]
    return [_cut(name, knob) for knob, name in sweep.short_knobs.items()]


def _knob_cells(sweep: SweepSummary, child: ChildRow) -> list[str]:
    if not 0 < len(sweep.knobs) <= _MOST_KNOBS:
        return [_cut(sweep.short_name(child), child.name, _NAME)]
    return [_cut(value, value) for value in (child.values.get(k, NONE) for k in sweep.knobs)]


def _cut(value: str, whole: str, most: int = _WORD) -> str:
    """A text that fits; a hover tells all of it."""
    short = shortened(value, most)
    return text(short) if short == whole else f'<span title="{text(whole)}">{text(short)}</span>'
