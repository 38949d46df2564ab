"""The skeleton of a page: one file, readable in light, in dark and on paper.

Letters: h, w height and width of a picture.
"""

import base64
import html
import io
import math
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import PIL.Image

_QUALITY = 88  # of JPEG, where fine edges of colour still hold
NONE = "\u2013"  # a figure that could not be measured

_STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --raised: #ffffff; --ink: #0b0b0b;
  --soft: #52514e; --faint: #8a8883; --line: #e3e1dc;
  --s0: #2a78d6; --s1: #c2570c; --s2: #0e8a5f; --s3: #8a4fc9; --s4: #b58900; --s5: #c23a6b;
  --r0: #440154; --r1: #46277a; --r2: #3e4a89; --r3: #31678e; --r4: #26828e; --r5: #1f9d88;
  --r6: #3fb471; --r7: #6cc05a; --r8: #9fca3c; }
@media (prefers-color-scheme: dark) { :root { --paper: #161615; --raised: #1f1f1d; --ink: #f4f3f0;
  --soft: #c3c2b7; --faint: #8f8d85; --line: #383734;
  --s0: #5b9df0; --s1: #ef8f4c; --s2: #35bd8a; --s3: #b78ae6; --s4: #d9b13b; --s5: #ec7ba3;
  --r0: #fde725; --r1: #bddf26; --r2: #7ad151; --r3: #44bf70; --r4: #22a884; --r5: #21918c;
  --r6: #2a788e; --r7: #3b5f93; --r8: #54509a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 1180px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .3rem 0 .8rem; max-width: 80ch; } p, .note { color: var(--soft); }
.note { font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.wrap { white-space: normal; overflow-wrap: anywhere; text-align: left; min-width: 12rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--raised); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem 1rem; min-width: 9.5rem; max-width: 21rem; overflow-wrap: anywhere; }
.tile b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
.tile span { display: block; color: var(--soft); font-size: .82rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  gap: 1.2rem 2rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--soft); margin-bottom: .25rem; }
.sample { margin: 1rem 0 1.4rem; break-inside: avoid; }
.pictures { display: grid; gap: .5rem; grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 250px), 1fr)); }
img { max-width: 100%; height: auto; display: block; border: 1px solid var(--line); }
.pictures img { width: 100%; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
svg text { fill: var(--soft); font-size: 11px; font-family: inherit; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--faint); }
.key { display: inline-flex; align-items: center; gap: .35rem; margin-right: 1rem;
  font-size: .85rem; color: var(--soft); }
svg .over { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; fill: var(--ink); }
svg .reach { fill: none; stroke: transparent; stroke-width: 8px; }
svg .mark:hover > :nth-child(2) { stroke-width: 5px; }
svg.bar { width: 190px; } svg.dash { width: 26px; } svg.cross { width: 10px; }
.key.ramp { gap: 0; } .key.ramp i { height: 10px; border-radius: 0; }
.key.ramp i:first-of-type { margin-left: .35rem; }
.key.ramp i:last-of-type { margin-right: .35rem; }
.key i { width: 14px; height: 3px; border-radius: 2px; }
.good { color: var(--s2); } .bad { color: var(--s5); }
details summary { cursor: pointer; color: var(--soft); font-size: .9rem; margin: .5rem 0; }
code { font: .85em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.legends { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-end; }
.swatch { display: inline-block; width: 1.1rem; height: 1.1rem; vertical-align: middle; }
@media (max-width: 800px) { table { font-size: .8rem; } th, td { padding-right: .55rem; }
  svg.bar { width: 90px; } }
@media print { :root { --paper: #fff; --raised: #fff; --ink: #000; --soft: #333; --line: #ccc; }
  body { max-width: none; padding: 0; font-size: 11px; } h2 { break-after: avoid; }
  .pictures { grid-template-columns: repeat(4, 1fr); } }
"""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole HTML document; `sections` are HTML, `title` is text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def text(value: object) -> str:
    """A value as HTML: every character stands for itself."""
    return html.escape(str(value))


def shortened(value: str, most: int) -> str:
    """At most `most` characters: of a longer text the beginning and the end."""
    if len(value) <= most:
        return value
    end = (most - 1) // 3
    return f"{value[: most - 1 - end]}…{value[len(value) - end :]}"


def heading(title: str, explanation: str = "") -> str:
    """The beginning of a section."""
    return f"<h2>{text(title)}</h2>" + (f"<p>{text(explanation)}</p>" if explanation else "")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    texts: Container[int] = (),
    words: Container[int] = (),
) -> str:
    """A table of HTML cells: numbers, but for the first column, and the columns that are named.

    Args:
        texts: columns whose cells may have many lines.
        words: columns of short texts.
    """
    places = range(len(head))
    classes = ["wrap" if n in texts else "text" if n in words else "" for n in places]
    kinds = [f' class="{name}"' if name else "" for name in classes]
    heads = [' class="text"' if name else "" for name in classes]
    cells = "".join(f"<th{kind}>{cell}</th>" for kind, cell in zip(heads, head, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Names and texts, a line for each."""
    rows = "".join(
        f'<tr><td class="text">{text(name)}</td><td class="wrap">{text(value)}</td></tr>'
        for name, value in pairs.items()
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def headline(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Large figures: (name, value, what is to be said beside it)."""
    boxes = (
        f'<div class="tile"><span>{text(name)}</span><b>{text(value)}</b>'
        f"<span>{text(note)}</span></div>"
        for name, value, note in tiles
    )
    return f'<div class="tiles">{"".join(boxes)}</div>'


def picture(pixels: np.ndarray, caption: str, *, lossless: bool = False) -> str:
    """A figure of `pixels`, [h, w, 3] uint8 RGB, inside the page."""
    file = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    if lossless:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    kind = "png" if lossless else "jpeg"
    data = base64.b64encode(file.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f"<figure><figcaption>{text(caption)}</figcaption>"
        f'<img alt="{text(caption)}" width="{width}" height="{height}" '
        f'src="data:image/{kind};base64,{data}"></figure>'
    )


def png(data: bytes, caption: str) -> str:
    """A figure of the picture in a PNG file, inside the page."""
    return (
        f'<figure><figcaption>{text(caption)}</figcaption><img alt="{text(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></figure>'
    )


def number(value: float, digits: int = 3) -> str:
    """A figure; a dash where it could not be measured."""
    if math.isnan(value):
        return NONE
    return f"{value:,.{digits}f}" if math.isfinite(value) else "∞"
