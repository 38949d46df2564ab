"""The page of a sweep: every child is told, the best is marked, and odd sweeps break nothing."""

import functools
import math
import re
from collections.abc import Sequence

import pytest

from pwc_exp.report.sweep import (
    ChildRow,
    SeedGroup,
    SweepSummary,
    markdown_table,
    render,
    text_table,
)

LONG = "x<y&\"'" + "very_long_" * 20
PNG = b"\x89PNG not read"


def child(number: int, **changes: object) -> ChildRow:
    aepe = 3.0 + number
    values: dict[str, object] = {
        "number": number,
        "name": f"model=m{number} lr={10.0**-number}",
        "values": {"model": f"m{number}", "optimizer.lr": f"{10.0**-number}"},
        "status": "FINISHED",
        "aepe": aepe,
        "lower": aepe - 0.25,
        "upper": aepe + 0.25,
        "seconds": 10.0 + number,
        "steps": 40,
        "folder": f"{number}_model=m{number}",
        "curve": [(20.0, aepe + 1), (40.0, aepe)],
    }
    return ChildRow(**{**values, **changes})  # type: ignore[arg-type]


def failed(number: int, reason: str = "Out of memory", **changes: object) -> ChildRow:
    unknown = {"aepe": math.nan, "lower": math.nan, "upper": math.nan, "curve": ()}
    return child(number, **{"status": "FAILED", "reason": reason, **unknown, **changes})


def sweep(children: Sequence[ChildRow], **changes: object) -> SweepSummary:
    values: dict[str, object] = {
        "title": "quickstart/2026",
        "command": "python -m pwc_exp.train -m model=m0,m1",
        "children": children,
        "best": 0 if children and children[0].status == "FINISHED" else None,
    }
    return SweepSummary(**{**values, **changes})  # type: ignore[arg-type]


def many() -> SweepSummary:
    early = {"status": "PRUNED", "reason": "Worse than the median", "steps": 10}
    children = [child(0), child(1, **early), *(failed(n) for n in (2, 3))]
    children += [
        child(n, values={"model": "m", "optimizer.lr": f"{n}"}, aepe=5 + n / 50, status="FINISHED")
        for n in range(4, 50)
    ]
    return sweep(children)


def two_objectives() -> SweepSummary:
    children = [child(n, seconds=40.0 - n) for n in range(4)]
    seconds = {n: 40.0 - n for n in range(4)}
    return sweep(
        children,
        fronts=[0, 3],
        objectives={"aepe, px": {n: 3.0 + n for n in range(4)}, "s": seconds},
    )


SWEEPS = {
    "none": sweep([]),
    "one": sweep([child(0)]),
    "two": sweep([child(0), child(1)]),
    "all failed": sweep([failed(n) for n in range(3)]),
    "fifty": many(),
    "no knobs": sweep([child(n, values={}, name="") for n in range(2)]),
    "eight knobs": sweep(
        [child(n, values={f"a{k}.key": f"{n * k}" for k in range(8)}) for n in range(3)]
    ),
    "long": sweep([child(0, name=LONG, values={LONG: LONG}), failed(1, LONG, values={LONG: "1"})]),
    "equal": sweep([child(n, values={"a": "1"}, aepe=3.0, seconds=1.0) for n in range(3)]),
    "infinite": sweep([child(0), child(1, aepe=math.inf, curve=[(1.0, math.inf)])]),
    "far apart": sweep([child(0, aepe=0.001, lower=-1.0), child(1, aepe=1e6)]),
    "unlike knobs": sweep([child(0, values={"a": "1"}), child(1, values={"b": "null"})]),
    "waiting": sweep([child(0), failed(1, "", status="WAITING", seconds=math.nan, steps=0)]),
    "two objectives": two_objectives(),
    "a front without values": sweep(
        [child(n) for n in range(3)], fronts=[0, 1, 2], objectives={"a": {0: 1.0}, "b": {1: 2.0}}
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
    assert (page.count("<svg") > 0) == any(math.isfinite(row.aepe) for row in made.children)
    for row in made.children:
        assert row.folder in page
        assert re.search(rf"^[* ]?\s+{row.number}  ", lines, re.MULTILINE)
        assert re.search(rf"^\| \**{row.number}\** \|", markdown, re.MULTILINE)
    assert max(len(line) for line in lines.splitlines()) <= 120


def test_children_are_listed_best_first_and_failed_last_with_their_reasons() -> None:
    pruned = child(1, aepe=0.5, status="PRUNED", reason="Worse than the median")
    made = sweep([failed(0), pruned, child(2, aepe=7.0), child(3, aepe=6.0)], best=3)
    numbers = re.findall(r"^\| \**(\d)\** \|", markdown_table(made), re.MULTILINE)
    assert numbers == ["3", "2", "1", "0"]
    page = render(made)
    assert page.index("Worse than the median") < page.index("Out of memory")
    assert "Out of memory" in text_table(made) and "Out of memory" in markdown_table(made)


def test_the_best_child_is_marked() -> None:
    made = sweep([child(0), child(1)], best=0)
    assert re.search(r"^\* +0  model=m0", text_table(made), re.MULTILINE)
    assert "| **0** | **model=m0" in markdown_table(made)
    (best,) = re.findall(r'<tr class="best">.*?</tr>', render(made), re.DOTALL)
    assert "m0" in best and "m1" not in best
    made = sweep([child(0, aepe=1.0), child(1, aepe=2.0)], best=None, lower_is_better=False)
    assert [row.number for row in made.ranked] == [1, 0]


def test_the_lead_of_the_best_child_is_shown_with_what_is_known_about_it() -> None:
    assert "the intervals do not overlap" in render(sweep([child(0), child(1)]))
    assert "the intervals overlap" in render(sweep([child(0), child(1, lower=3.2)]))


def test_what_a_user_names_stays_text() -> None:
    page = page_of("long")
    assert "<y&" not in page and "x&lt;y&amp;" in page
    row = next(line for line in markdown_table(sweep([child(0, name="a|b_c<d>")])).splitlines()[2:])
    assert r"a\|b\_c\<d\>" in row


def test_what_was_not_measured_is_a_dash() -> None:
    assert re.search(
        r"1  model=m1 lr=0.1 +\u2013 +11.0 +\u2013  FAILED",
        text_table(sweep([child(0), failed(1)])),
    )
    assert "nan" not in page_of("all failed")


def test_groups_of_seeds_have_a_mean_and_a_deviation() -> None:
    groups = [
        SeedGroup(name="model=a", count=3, mean=3.25, deviation=0.125, best=3.125),
        SeedGroup(name="model=b", count=1, mean=2.5, deviation=math.nan, best=2.5),
    ]
    made = sweep([child(0)], groups=groups)
    for told in (render(made), text_table(made), markdown_table(made)):
        assert all(value in told for value in ("3.250", "0.125", "3.125", "2.500", "\u2013"))


def test_objectives_pictures_notes_and_the_command_are_on_the_page() -> None:
    assert "2 children that no other beats" in page_of("two objectives")
    assert "Pareto front" not in page_of("two")
    made = sweep([child(0)], pictures={"Importance <1>": PNG}, notes=["TPE, seed 1"])
    page = render(made)
    assert "data:image/png;base64,iVBORyBub3QgcmVhZA==" in page and "Importance &lt;1&gt;" in page
    assert "TPE, seed 1" in page and made.command in page
