"""Renders the templates of pages, and formats numbers and tables for pages and terminals.

On a page everything is escaped, and nothing is loaded from elsewhere. Letters: h, w height and
width of a picture.
"""

import base64
import functools
import io
import math
import re
from collections.abc import Container, Sequence
from pathlib import Path

import jinja2
import numpy as np
import PIL.Image

NONE = "\u2013"  # a figure that could not be measured
_LEAST = 12  # characters that a column keeps that is cut
_QUALITY = 88  # of JPEG, at which fine edges of colour survive


def render(template: str, **context: object) -> str:
    """The page of `templates/<template>`."""
    return _environment().get_template(template).render(context)


def number(value: float, digits: int = 3) -> str:
    """A figure; a dash where it could not be measured."""
    if math.isnan(value):
        return NONE
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"


def interval(found: tuple[float, float] | None) -> str:
    """An interval; a dash where there is none."""
    if found is None or math.isnan(found[0]):
        return NONE
    return f"{number(found[0])} to {number(found[1])}"


def p_value(p: float) -> str:
    """A p value; a very small one is not written as 0."""
    return "< 0.0001" if p < 0.0001 else number(p, 4)


def duration(seconds: float) -> str:
    """A time in the units that people use."""
    if not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def shortened(value: str, most: int) -> str:
    """At most `most` characters: of a longer text the beginning and the end."""
    if len(value) <= most:
        return value
    end = (most - 1) // 3
    return f"{value[: most - 1 - end]}…{value[len(value) - end :]}"


def aligned(
    rows: Sequence[Sequence[str]],
    *,
    right: Container[int] = (),
    width: int | None = None,
    cut: int = 0,
) -> list[str]:
    """Lines for a terminal, in columns as wide as their texts.

    Args:
        rows: the heading among them.
        right: columns that are aligned at the right.
        width: of a line, at most; column `cut` is shortened for it. None: any.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - width
        widths[cut] = min(widths[cut], max(widths[cut] - over, _LEAST))
    return [
        "  ".join(
            f"{shortened(cell, size):{'>' if place in right else '<'}{size}}"
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown_table(
    rows: Sequence[Sequence[str]], *, right: Container[int] = (), padded: bool = False
) -> list[str]:
    """Lines of a table in Markdown; the first row is the heading. Cells are Markdown.

    padded: columns as wide as their texts, to be read in a terminal too.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) if padded else 3 for column in columns]
    rule = ["-" * (w - 1) + (":" if n in right else "-") for n, w in enumerate(widths)]
    if padded:
        rows = [
            [cell.rjust(w) if n in right else cell.ljust(w) for n, (cell, w) in enumerate(cells)]
            for cells in (zip(row, widths, strict=True) for row in rows)
        ]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]


def literal(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", " ".join(text.split()))


def image_data(content: np.ndarray | bytes, *, lossless: bool = False) -> str:
    """The address of a picture inside the page.

    Args:
        content: [h, w, 3] uint8 RGB, or the bytes of a PNG file.
        lossless: PNG, else JPEG.
    """
    kind = "png"
    if isinstance(content, np.ndarray):
        file = io.BytesIO()
        image = PIL.Image.fromarray(content)
        if lossless:
            image.save(file, "PNG", optimize=True)
        else:
            kind = "jpeg"
            image.save(file, "JPEG", quality=_QUALITY, subsampling=0)
        content = file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["NONE"] = NONE
    for function in (number, interval, p_value, duration, shortened, image_data):
        environment.filters[function.__name__] = function
    environment.filters["signed"] = lambda value: NONE if math.isnan(value) else f"{value:+.3f}"
    environment.filters["count"] = lambda value: f"{value:,.0f}"
    return environment
