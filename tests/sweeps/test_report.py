"""The page of a sweep: every child is told, the best is marked, and odd sweeps break nothing."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest

from pwc_exp.sweeps.folder import Child, Objective, Outcome, Status
from pwc_exp.sweeps.report import SweepSummary, markdown_table, render, text_table

LONG = "x<y&\"'" + "very_long_" * 20
PNG = b"\x89PNG not read"
KEY = "val/aepe"
Result = tuple[Child, Outcome]


def child(
    number: int,
    settings: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    aepe: float | None = None,
    lower: float | None = None,
    **changes: Any,
) -> Result:
    """A finished child; its AEPE is 3 + number, within 0.25."""
    aepe = 3.0 + number if aepe is None else aepe
    if settings is None:
        settings = {"model": f"m{number}", "optimizer.lr": f"{10.0**-number}"}
    if name is None:
        name = f"model=m{number} lr={10.0**-number}"
    ends = {f"{KEY}_lower": aepe - 0.25 if lower is None else lower, f"{KEY}_upper": aepe + 0.25}
    outcome: dict[str, Any] = {
        "status": Status.FINISHED,
        "values": {KEY: aepe, **ends},
        "curve": [(20.0, aepe + 1), (40.0, aepe)],
        "steps": 40,
        "seconds": 10.0 + number,
    }
    made = Child(number, f"{number}_model-m{number}", name, dict(settings), [])
    return made, Outcome(**{**outcome, **changes})


def failed(number: int, reason: str = "Out of memory", **changes: Any) -> Result:
    unknown = {"status": Status.FAILED, "values": {}, "curve": ()}
    return child(number, reason=reason, **{**unknown, **changes})


def sweep(*results: Result, **changes: Any) -> SweepSummary:
    values = {
        "title": "quickstart/2026",
        "command": "python -m pwc_exp.train -m model=m0,m1",
        "children": [made for made, _ in results],
        "outcomes": {made.number: outcome for made, outcome in results},
        "objectives": [Objective(KEY)],
    }
    return SweepSummary(**{**values, **changes})


EARLY: dict[str, Any] = {"status": Status.PRUNED, "reason": "Worse than the median", "steps": 10}
TWO = [Objective(KEY), Objective("seconds")]
SWEEPS = {
    "none": sweep(),
    "one": sweep(child(0)),
    "two": sweep(child(0), child(1)),
    "all failed": sweep(*(failed(n) for n in range(3))),
    "fifty": sweep(
        *(child(0), child(1, **EARLY), failed(2), failed(3)),
        *(child(n, {"model": "m", "optimizer.lr": f"{n}"}, aepe=5 + n / 50) for n in range(4, 50)),
    ),
    "no settings": sweep(*(child(n, {}, name="") for n in range(2))),
    "eight settings": sweep(
        *(child(n, {f"a{k}.key": f"{n * k}" for k in range(8)}) for n in range(3))
    ),
    "long": sweep(child(0, {LONG: LONG}, name=LONG), failed(1, LONG, name="")),
    "equal": sweep(*(child(n, {"a": "1"}, aepe=3.0, seconds=1.0) for n in range(3))),
    "infinite": sweep(child(0), child(1, aepe=math.inf, curve=[(1.0, math.inf)])),
    "far apart": sweep(child(0, aepe=0.001, lower=-1.0), child(1, aepe=1e6)),
    "unlike settings": sweep(child(0, {"a": "1"}), child(1, {"b": "null"})),
    "waiting": sweep(child(0), failed(1, "", status=Status.WAITING, seconds=math.nan, steps=0)),
    "two objectives": sweep(
        *(child(n, seconds=40.0 - n) for n in range(4)), objectives=TWO, front=[0, 3]
    ),
    "a front without values": sweep(
        child(0), child(1, seconds=math.nan), failed(2), objectives=TWO, front=[0, 1]
    ),
}


@functools.cache
def page_of(name: str) -> str:
    return render(SWEEPS[name])


@pytest.mark.parametrize("name", SWEEPS)
def test_every_child_is_in_every_form_and_every_number_is_drawn(name: str) -> None:
    made = SWEEPS[name]
    page, lines, markdown = page_of(name), text_table(made), markdown_table(made)
    assert "<script" not in page and "http" not in page
    drawings = " ".join(re.findall(r' (?:[xy]|d)="([^"]*)"', page))
    assert "nan" not in drawings and "inf" not in drawings
    assert (page.count("<svg") > 0) == any(math.isfinite(row.value) for row in made.rows)
    for each in made.children:
        assert each.folder in page
        assert re.search(rf"^[* ]?\s+{each.number}  ", lines, re.MULTILINE)
        assert re.search(rf"^\| \**{each.number}\** \|", markdown, re.MULTILINE)
    assert max(len(line) for line in lines.splitlines()) <= 120


def test_children_are_listed_best_first_and_failed_last_with_their_reasons() -> None:
    made = sweep(failed(0), child(1, aepe=0.5, **EARLY), child(2, aepe=7.0), child(3, aepe=6.0))
    numbers = re.findall(r"^\| \**(\d)\** \|", markdown_table(made), re.MULTILINE)
    assert numbers == ["3", "2", "1", "0"]
    page = render(made)
    assert page.index("Worse than the median") < page.index("Out of memory")
    assert "Out of memory" in text_table(made) and "Out of memory" in markdown_table(made)


def test_the_best_child_is_marked_and_its_lead_is_shown() -> None:
    made = SWEEPS["two"]
    assert re.search(r"^\* +0  model=m0", text_table(made), re.MULTILINE)
    assert "| **0** | **model=m0" in markdown_table(made)
    (best,) = re.findall(r'<tr class="best">.*?</tr>', page_of("two"), re.DOTALL)
    assert "m0" in best and "m1" not in best
    assert "the intervals do not overlap" in page_of("two")
    assert "the intervals overlap" in render(sweep(child(0), child(1, lower=3.2)))
    maximized = sweep(child(0), child(1), objectives=[Objective(KEY, maximize=True)])
    assert maximized.best == 1


def test_what_a_user_names_stays_text() -> None:
    page = page_of("long")
    assert "<y&" not in page and "x&lt;y&amp;" in page
    assert r"a\|b\_c\<d\>" in markdown_table(sweep(child(0, name="a|b_c<d>")))


def test_what_was_not_measured_is_a_dash() -> None:
    lines = text_table(sweep(child(0), failed(1)))
    assert re.search(r"1  model=m1 lr=0.1 +\u2013 +11.0 +\u2013  FAILED", lines)
    assert "nan" not in page_of("all failed")


def test_seeds_have_a_mean_a_deviation_and_the_best() -> None:
    made = sweep(
        child(0, {"model": "a", "seed": "0"}, aepe=3.5),
        child(1, {"model": "a", "seed": "1"}, aepe=3.0),
        child(2, {"model": "b", "seed": "0"}, aepe=2.5),
        failed(3, settings={}),
    )
    assert made.seeds == [
        ["model=b", "1", "2.500", "\u2013", "2.500"],
        ["model=a", "2", "3.250", "0.354", "3.000"],
    ]
    for told in (render(made), text_table(made), markdown_table(made)):
        assert all(value in told for value in ("3.250", "0.354"))
    assert "Seeds" not in page_of("two") and SWEEPS["two"].seeds == []


def test_objectives_pictures_notes_and_the_command_are_on_the_page() -> None:
    assert "2 children that no other beats" in page_of("two objectives")
    assert "Pareto front" not in page_of("two")
    made = sweep(child(0), pictures={"Importance <1>": PNG}, notes=["TPE, seed 1"])
    page = render(made)
    assert "data:image/png;base64,iVBORyBub3QgcmVhZA==" in page and "Importance &lt;1&gt;" in page
    assert "TPE, seed 1" in page and made.command in page
