"""What a training run says on the terminal: advice at its start, and its progress."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from pwc_exp.training.console import advice, progress

MODERN = ("model.normalize_features=true", "model.center_frames=true")


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (
            ("model=lg", "schedule=cyclic"),
            ["the published recipe is experiment=tfoptflow-lg-cyclic data.root=..."],
        ),
        (("model=small", "schedule=cosine"), ["1,200,000 steps of generated scenes are a long"]),
        (("model=lg", "steps=500"), ["this network is not known to learn in 500 steps"]),
        (("model=lg", "steps=500", *MODERN), []),
        (("model=lg", "steps=500", "init_from=fast", "init_match=overlap"), []),
        (("experiment=quickstart",), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_run_that_would_disappoint_says_what_to_write_instead(
    arguments: tuple[str, ...], notes: list[str], configure: Callable[..., Any]
) -> None:
    lines = advice(configure("train", *arguments))
    assert len(lines) == len(notes)
    for line, note in zip(lines, notes, strict=True):
        assert line.startswith("note   ") and note in line


def test_progress_says_the_time_of_a_step_and_the_end() -> None:
    measured = {"train/loss": 2.5, "train/aepe": 1.0, "time/steps_per_second": 0.5}
    line = progress(measured, 400, 1000)
    assert line.startswith("step       400   loss 2.5, aepe 1.00 px, 2 s/step, 0:20:00 left, until")
    assert re.search(r"until \d\d:\d\d$", line)
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d$", progress(measured, 0, 100_000))
    assert progress(measured, 1000, 1000).endswith("2 s/step, done")
    assert "left" not in progress(measured | {"time/steps_per_second": 0.0}, 400, 1000)
