"""Fixtures: the command, and test splits of a few frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import FRAMES, HEIGHT, LAYOUTS, WIDTH

from pwc_exp.config.commands import BenchmarkName
from pwc_exp.data.formats.images import write_image
from pwc_exp.submission import BENCHMARKS, submit


@pytest.fixture
def run(configure: Callable[..., Any]) -> Callable[..., None]:
    """The command: (overrides) -> None."""
    return lambda *overrides: submit(configure("submit", *overrides))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """(benchmark) -> a test split of a few frames, which counts as complete."""

    def make(name: str) -> Path:
        for frame in FRAMES[name]:
            path = tmp_path / name / frame
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, np.full((HEIGHT, WIDTH, 3), len(frame), np.uint8))
        key = BenchmarkName(name)
        benchmark = BENCHMARKS[key]
        files = dict(benchmark.parts(LAYOUTS[name]))
        monkeypatch.setitem(BENCHMARKS, key, benchmark._replace(files=files))
        return tmp_path / name

    return make
