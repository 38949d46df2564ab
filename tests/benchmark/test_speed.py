"""Timing: works take turns, and a rate is operations per median second."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import skimage.data
from small_sets import write_chairs

from pwc_exp import checkpoints
from pwc_exp.benchmark import speed
from pwc_exp.benchmark.speed import WARM_UPS, Work, benchmark, measure
from pwc_exp.build import build_model
from pwc_exp.cli import check_places
from pwc_exp.config.composition import read_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import ConfigError, MissingInputError

SMALLEST = (
    "model=tiny",
    "model.levels=2",
    "model.feature_channels=[4,8]",
    "model.search_range=1",
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=clock))
    return clock


def test_works_take_turns_after_they_have_been_warmed_up(clock: Clock) -> None:
    calls = []
    works = {name: Work(lambda name=name: calls.append(name), 1.0) for name in "abc"}  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):  # no second has passed
        measure(works, repeats=3)
    assert "".join(calls) == "a" * WARM_UPS + "b" * WARM_UPS + "c" * WARM_UPS + "abc" * 3


def test_the_time_of_a_work_is_its_median_and_its_rate_comes_from_that(clock: Clock) -> None:
    def work(*seconds: float) -> Work:
        times = iter([1000.0] * WARM_UPS + list(seconds))

        def call() -> None:
            clock.now += next(times)

        return Work(call, 6e9)

    timings = measure({"quick": work(2, 90, 1), "slow": work(4, 3, 5)}, repeats=3)
    assert timings["quick"][:3] == (2, 1, 3)
    assert timings["slow"][:3] == (4, 3, 1.5)
    assert 0 < timings["quick"].peak_megabytes <= timings["slow"].peak_megabytes


def rows_of(printed: str, kind: str) -> list[list[str]]:
    return [
        line.removeprefix(kind).split() for line in printed.splitlines() if line.startswith(kind)
    ]


SIZES = ("inference_size=[16,32]", "train_size=[16,16]", "train_batch_size=2")
SMALL = (*SMALLEST, *SIZES, "repeats=1", "xla=false", "augment=none")


@pytest.fixture
def timed(
    configure: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    """(*overrides) -> what the command prints, everything being quick to time."""
    monkeypatch.setattr(speed, "MATRIX_SIDE", 64)
    monkeypatch.setattr(speed, "PIPELINE_STEPS", 1)

    def call(*overrides: str) -> str:
        benchmark(configure("benchmark", *SMALL, *overrides))
        return capsys.readouterr().out

    return call


def test_a_precision_is_timed_beside_float32_and_against_both_matrix_products(
    timed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "has_bfloat16", lambda: True)
    left, right, _ = skimage.data.stereo_motorcycle()
    pair = (left[:64, :64], right[:64, :64], None)
    monkeypatch.setattr(skimage.data, "stereo_motorcycle", lambda: pair)
    printed = timed("precision=bf16")
    assert [row[:5] for row in rows_of(printed, "matrix product")] == [
        [precision, "8", "of", "64", "x"] for precision in ("fp32", "bf16")
    ]
    assert "of fp32  of bf16   speed  fastest s   speed   peak MB" in printed.splitlines()[1]
    for kind in ("inference", "training step  "):
        float32, bfloat16 = rows_of(printed, kind)
        assert (float32[:2], bfloat16[:2]) == (["tiny", "fp32"], ["tiny", "bf16"])
        for speed_column in (-4, -2):
            assert float32[speed_column] == "1.00" and float(bfloat16[speed_column]) > 0
        for row in (float32, bfloat16):
            assert all(share.endswith("%") for share in row[-6:-4])
            assert float(row[-7]) > 0 and float(row[-1].replace(",", "")) > 100
            assert row[-3] == row[-8]  # one repeat is the median and the fastest
    assert "flow in bf16 against fp32 on the pair stereo_motorcycle of scikit-image" in printed
    assert "the weights are random" in printed


def test_other_models_are_timed_in_the_same_run_and_their_speed_is_relative_to_the_first(
    timed: Callable[..., str], configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "has_bfloat16", lambda: False)
    other = configure("describe", *SMALLEST, "model.feature_channels=[64,128]").model
    monkeypatch.setattr(speed, "read_model", lambda name: replace(other, name=name))
    printed = timed("models=[large]")
    for kind in ("inference", "training step  "):
        tiny, large = rows_of(printed, kind)
        assert (tiny[0], large[0]) == ("tiny", "large")
        assert tiny[-2] == "1.00" and float(large[-2]) > 0
    (product,) = rows_of(printed, "matrix product")
    assert product[0] == "fp32" and product[-2] == "1.00"
    assert "bf16 matrix product: not timed, as this processor has no bfloat16" in printed
    assert "against fp32" not in printed


def test_the_samples_of_the_pipeline_stand_beside_those_of_the_training_step(
    timed: Callable[..., str], tmp_path: Path
) -> None:
    root, cache = write_chairs(tmp_path, 3), tmp_path / "cache"
    printed = timed("data=flyingchairs", f"data.root={root}", f"data.cache={cache}")
    (step,) = re.findall(r"training step, tiny fp32: ([\d.]+) samples/s", printed)
    found = re.findall(r"input pipeline, (.+): ([\d.]+) samples/s, ([\d.]+) times", printed)
    assert [name for name, _, _ in found] == ["flyingchairs, cached", "synthetic"]
    for line, (_, rate, ratio) in zip(printed.splitlines()[-2:], found, strict=True):
        assert float(ratio) == pytest.approx(float(rate) / float(step), abs=0.1)
        slower = "training step" if float(rate) > float(step) else "input pipeline"
        assert f"the {slower} is the bottleneck" in line
    assert any(cache.iterdir())


def test_the_error_of_a_precision_is_that_of_the_given_weights_on_the_given_pairs(
    timed: Callable[..., str], configure: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure("benchmark", *SMALL)
    model = build_model(config.model, PrecisionConfig(policy=Precision.fp32))
    for variable in model.trainable_variables:
        variable.assign(0 * variable.value)  # a flow of zero in any precision
    state = checkpoints.named_state(model)
    weights = checkpoints.save(tmp_path / "w", step=1, state=state, metrics={}, fingerprint={})
    root = write_chairs(tmp_path / "chairs", 3)
    data = ("data=flyingchairs", f"data.root={root}")
    printed = timed("precision=bf16", f"weights={weights}", *data)
    line = "flow in bf16 against fp32 on 3 pairs of flyingchairs: differs by 0.0000 px on average"
    assert line in printed
    assert "random" not in printed


def test_exported_formats_that_take_the_size_are_timed_beside_the_network(
    timed: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = {"onnx": "any", "tflite": [[1, 16, 32]], "tflite_fp16": [[2, 16, 32]], "keras": "any"}
    for name, shapes in formats.items():
        (tmp_path / name).mkdir()
        card = json.dumps({"format": name, "shapes": shapes})
        (tmp_path / name / "card.json").write_text(card)
    called = []
    engines = {"here": lambda *frames: called.append([frame.shape for frame in frames])}
    monkeypatch.setattr(speed, "engines_of", lambda folder: engines)
    printed = timed(f"exported={tmp_path}")
    found = [row[:2] for row in rows_of(printed, "inference")]
    assert found == [["tiny", "fp32"], ["onnx,", "here"], ["tflite,", "here"]]
    assert called == [[(1, 16, 32, 3)] * 2] * 2 * (WARM_UPS + 1)
    with pytest.raises(MissingInputError, match="no format for frames of 1 x 16 x 16"):
        timed("inference_size=[16,16]", f"exported={tmp_path}/tflite")


def test_impossible_choices_are_refused_before_anything_is_built(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="run or weights"):
        configure("benchmark", "run=a", "weights=b")
    with pytest.raises(ConfigError, match="frames must be two"):
        configure("benchmark", "frames=[a]")
    with pytest.raises(ConfigError, match=r"unknown choice 'nosuch', not one of .*lg.*tiny"):
        check_places(configure("benchmark", "models=[sm,nosuch]"), tmp_path)


def test_a_model_that_is_read_by_name_is_the_one_that_hydra_composes(
    configure: Callable[..., Any],
) -> None:
    for name in ("sm", "official-small", "tiny"):
        assert read_model(name) == configure("describe", f"model={name}").model
