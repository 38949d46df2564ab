"""The children of a sweep as a table: for a terminal, and as Markdown."""

from pwc_exp.report.pages import NONE, aligned, literal, number, shortened
from pwc_exp.report.pages import markdown_table as piped
from pwc_exp.report.sweep_summary import ChildRow, SweepSummary

_WIDTH = 120  # of a terminal's line
_NAME = 56  # characters of a name, beyond which settings are shortened to their last parts
_INDENT = "         "
_GROUPS = ["settings without the seed", "runs", "mean", "deviation", "best"]


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
    lines = piped(rows, right=(0, 3, 4))
    if sweep.groups:
        groups = [[literal(cell) for cell in row] for row in _group_rows(sweep)]
        lines += ["", *piped([_GROUPS, *groups], right=(1, 2, 3, 4))]
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
