"""Input pipeline throughput: works take turns, and every stage of every source is measured."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from small_sets import write_chairs

from pwc_exp.benchmark.pipeline import measure, run

SMALL = ("crop=[32,48]", "seconds=0.03")


def test_a_work_that_costs_more_has_the_lower_rate() -> None:
    def cost(milliseconds: float) -> Callable[[tf.Tensor], tf.Tensor]:
        def burn(number: int) -> int:
            until = time.thread_time() + milliseconds / 1000
            while time.thread_time() < until:
                pass
            return number

        return lambda number: tf.numpy_function(burn, [number], tf.int64)

    rates = measure({"cheap": cost(1), "dear": cost(10)}, seconds=0.5)
    assert rates["cheap"] > 2 * rates["dear"]
    assert rates["dear"] < 110  # 100 a second of one core, at most


@pytest.mark.slow
def test_files_that_are_named_are_measured_beside_generated_scenes(
    configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_chairs(tmp_path, 4)
    run(configure("benchmark_pipeline", *SMALL, "data=flyingchairs", f"data.root={root}"))
    printed = capsys.readouterr().out
    for name in (
        "flyingchairs: bytes of the files",
        *(
            f"{source}: {stage}"
            for source in ("flyingchairs", "generated", "cached")
            for stage in ("example", "augment=none", "augment=modern")
        ),
        "at step 0",
        "at 1,000,000",
    ):
        assert name in printed
