"""Pages: text stays text, figures that are unknown are dashes, pictures are inside."""

import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

from pwc_exp.report.page import facts, number, page, picture, table


def test_what_a_user_names_cannot_become_markup() -> None:
    made = page("<b>&", [facts({"<i>": "</td><script>"})])
    assert "<title>&lt;b&gt;&amp;</title>" in made
    assert "<i>" not in made and "<script>" not in made


@pytest.mark.parametrize(
    ("value", "expected"), [(1234.5678, "1,234.568"), (float("nan"), "\u2013"), (np.inf, "\u221e")]
)
def test_figures_have_three_digits_or_are_dashes(value: float, expected: str) -> None:
    assert number(value) == expected


def test_a_lossless_picture_comes_back_pixel_by_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    made = picture(pixels, "noise", lossless=True)
    data = re.search(r"data:image/png;base64,([^\"]+)", made)
    assert data is not None
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data[1])))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert 'width="7" height="5"' in made


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["1"]])
