"""The children of a sweep as a table: for a terminal, and as Markdown."""

import re
from collections.abc import Container, Sequence

from pwc_exp.report.pages import NONE, number, shortened
from pwc_exp.report.sweep_summary import ChildRow, SweepSummary

_WIDTH = 120  # of a terminal's line
_NAME = 56  # characters of a name, beyond which settings are shortened to their last parts
_LEAST = 12  # characters that a column keeps that is cut
_GAP = "  "
_INDENT = "         "
_GROUPS = ["settings without the seed", "runs", "mean", "deviation", "best"]


def text_table(sweep: SweepSummary) -> str:
    """Lines of about 120 characters, best child first, marked `*`; reasons have own lines."""
    head = ["", "child", "name", sweep.objective, "seconds", "status"]
    rows, reasons = [], []
    for child in _in_order(sweep):
        _, name, *cells, reason = _cells(child)
        name = name if len(name) <= _NAME else _one_line(sweep.short_name(child))
        rows.append(["*" if child.number == sweep.best else "", str(child.number), name, *cells])
        reasons.append(reason)
    first, *lines = _aligned(head, rows, right=(1, 4), cut=2)
    found = [first]
    for line, reason in zip(lines, reasons, strict=True):
        found.append(line)
        if reason:
            found.append(_INDENT + shortened(reason, _WIDTH - len(_INDENT)))
    if sweep.groups:
        found += ["", *_aligned(_GROUPS, _group_rows(sweep), right=(1, 2, 3, 4), cut=0)]
    return "\n".join(found)


def markdown_table(sweep: SweepSummary) -> str:
    """The same as Markdown, uncut; the best child is bold."""
    head = ["child", "name", sweep.objective, "seconds", "status", "reason"]
    rows = []
    for child in _in_order(sweep):
        cells = [_literal(cell) for cell in _cells(child)]
        best = child.number == sweep.best
        rows.append([f"**{cell}**" if best and cell else cell for cell in cells])
    lines = _piped(head, rows, right=(0, 3))
    if sweep.groups:
        groups = [[_literal(cell) for cell in row] for row in _group_rows(sweep)]
        lines += ["", *_piped(_GROUPS, groups, right=(1, 2, 3, 4))]
    return "\n".join(lines) + "\n"


def _in_order(sweep: SweepSummary) -> list[ChildRow]:
    return sweep.ranked + sweep.unranked


def _cells(child: ChildRow) -> list[str]:
    return [
        str(child.number),
        _one_line(child.name) or NONE,
        number(child.aepe) + (f" [{child.interval}]" if child.interval else ""),
        number(child.seconds, 1),
        child.status,
        _one_line(child.reason),
    ]


def _group_rows(sweep: SweepSummary) -> list[list[str]]:
    return [
        [
            _one_line(group.name) or "all",
            str(group.count),
            *(number(value) for value in (group.mean, group.deviation, group.best)),
        ]
        for group in sweep.groups
    ]


def _aligned(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Container[int],
    cut: int,
) -> list[str]:
    """Columns as wide as their texts; column `cut` is shortened where a line would be too long."""
    table = [head, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    over = sum(widths) + len(_GAP) * (len(head) - 1) - _WIDTH
    widths[cut] = min(widths[cut], max(widths[cut] - over, _LEAST))
    return [
        _GAP.join(
            f"{shortened(cell, width):{'>' if place in right else '<'}{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _piped(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Container[int]
) -> list[str]:
    rule = ["---:" if place in right else "---" for place in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _literal(cell: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", cell)
