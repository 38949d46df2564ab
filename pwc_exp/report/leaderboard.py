"""A leaderboard as text, as Markdown and as a page: the same cells in each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pwc_exp.report.page import page, table, text

RUN = "run"  # the column of names
RUN_ID = "MLflow run"  # and that of MLflow's


@dataclass(frozen=True, kw_only=True)
class Board:
    """The cells of a leaderboard, as they are shown."""

    title: str
    head: list[str]
    rows: list[list[str]]  # cells, one for each of `head`
    alike: dict[str, str] = field(default_factory=dict)  # columns whose cells are all the same
    notes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # where the run of each row is seen; "": nowhere


def as_text(board: Board) -> str:
    """Columns for a terminal."""
    cells = [board.head, *board.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    alike = [f"in all: {_listed(board.alike)}"] if board.alike else []
    return "\n".join([board.title, *alike, "", *lines, "", *board.notes])


def as_markdown(board: Board) -> str:
    """A table of Markdown, with what is to be said about it."""
    rows = [board.head, ["---"] * len(board.head), *board.rows]
    lines = ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    alike = [f"In all: {_escaped(_listed(board.alike))}.", ""] if board.alike else []
    notes = [f"- {_escaped(note)}" for note in board.notes]
    return "\n".join([f"# {_escaped(board.title)}", "", *alike, *lines, "", *notes, ""])


def as_html(board: Board) -> str:
    """A whole page."""
    return page(board.title, _sections(board))


def _sections(board: Board) -> Iterator[str]:
    yield f"<h1>{text(board.title)}</h1>"
    if board.alike:
        yield f"<p>In all: {text(_listed(board.alike))}.</p>"
    rows = [
        [_cell(name, cell, link) for name, cell in zip(board.head, row, strict=True)]
        for row, link in zip(board.rows, board.links, strict=True)
    ]
    columns = list(zip(*board.rows, strict=True))
    words = {n for n, cells in enumerate(columns) if not all(cell[:1].isdigit() for cell in cells)}
    yield table([*map(text, board.head)], rows, texts={board.head.index(RUN)}, words=words)
    yield from (f'<p class="note">{text(note)}</p>' for note in board.notes)


def _cell(name: str, cell: str, link: str) -> str:
    if name == RUN and link:
        return f'<a href="{text(link)}">{text(cell)}</a>'
    return f"<code>{text(cell)}</code>" if name == RUN_ID else text(cell)


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
