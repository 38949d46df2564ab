"""Renders the templates of pages: everything is escaped, and nothing is loaded from elsewhere.

Letters: h, w height and width of a picture.
"""

import base64
import functools
import io
import math
from pathlib import Path

import jinja2
import numpy as np
import PIL.Image

NONE = "\u2013"  # a figure that could not be measured
_QUALITY = 88  # of JPEG, at which fine edges of colour survive


def render(template: str, **context: object) -> str:
    """The page of `templates/<template>`.

    Raises:
        jinja2.UndefinedError: the template needs a name that `context` lacks.
    """
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
