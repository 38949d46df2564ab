"""Pages: text stays text, unknown figures are dashes, pictures are inside."""

import base64
import io

import numpy as np
import PIL.Image
import pytest

from pwc_exp.report import pages
from pwc_exp.report.pages import duration, image_data, interval, number, p_value, shortened


def test_what_a_user_names_cannot_become_markup() -> None:
    template = pages._environment().from_string("{{ name }} <b title='{{ name }}'>")
    assert template.render(name="<i>\"'&") == (
        "&lt;i&gt;&#34;&#39;&amp; <b title='&lt;i&gt;&#34;&#39;&amp;'>"
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (number(1234.5678), "1,234.568"),
        (number(float("nan")), "\u2013"),
        (number(np.inf), "\u221e"),
        (interval((0.5, 1.25)), "0.500 to 1.250"),
        (interval((np.nan, np.nan)), "\u2013"),
        (interval(None), "\u2013"),
        (p_value(0.00001), "< 0.0001"),
        (p_value(0.04), "0.0400"),
        (duration(59.94), "59.9 s"),
        (duration(61), "1 min 01 s"),
        (duration(3 * 3600 + 62), "3 h 01 min"),
        (duration(float("nan")), "\u2013"),
        (shortened("a" * 9, 9), "a" * 9),
        (shortened("abcdefghij", 7), "abcd…ij"),
    ],
)
def test_figures_are_rounded_and_what_is_unknown_is_a_dash(made: str, expected: str) -> None:
    assert made == expected


def test_a_lossless_picture_comes_back_pixel_by_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    kind, _, data = image_data(pixels, lossless=True).partition(",")
    assert kind == "data:image/png;base64"
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert image_data(pixels).startswith("data:image/jpeg;base64,")
