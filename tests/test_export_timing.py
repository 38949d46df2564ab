"""The times of exported formats: beside the network's, of those that take the size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp import export_timing
from pwc_exp.errors import MissingInputError
from pwc_exp.export_timing import benchmark, table
from pwc_exp.timing import Timing
from pwc_exp.weights import Network, WeightsInfo


class FakeModel:
    """Stands for a network that costs nothing."""


def put(folder: Path, name: str, shapes: Any) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "card.json").write_text(json.dumps({"format": name, "shapes": shapes}))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of what would have been timed."""
    names: list[str] = []

    def measure(works: dict[str, Any], *, repeats: int) -> dict[str, Timing]:
        names.extend(works)
        return {name: Timing(2.0**number, 1.0, 1.0) for number, name in enumerate(works)}

    monkeypatch.setattr(export_timing, "measure", measure)
    monkeypatch.setattr(export_timing, "total_flops", lambda model, size: 1.0)
    monkeypatch.setattr(export_timing, "make_estimate", lambda model, xla: None)
    origin = WeightsInfo(path=tmp_path, sha256="", format="", project="", licence="")
    network = Network(FakeModel(), origin)  # type: ignore[arg-type]
    monkeypatch.setattr(export_timing, "load_network", lambda **_: network)
    monkeypatch.setattr(export_timing, "engines_of", lambda folder: {"here": None})
    return names


def test_formats_that_take_the_size_are_timed_beside_the_network(
    configure: Callable[..., Any],
    timed: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path, "onnx", "any")
    put(tmp_path, "tflite", [[1, 32, 48], [1, 64, 64]])
    put(tmp_path, "tflite_fp16", [[2, 32, 48]])
    put(tmp_path, "keras", "any")  # the network itself
    sizes = "size=[32,48]", "repeats=1"
    benchmark(
        configure("benchmark_export", "model=tiny", "weights=w", f"exported={tmp_path}", *sizes)
    )
    assert timed == ["network", "onnx, here", "tflite, here"]
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("one pair of 32 x 48")
    assert [row.split()[-1] for row in rows[2:]] == ["1.00", "2.00", "4.00"]


def test_an_export_without_that_size_is_refused(
    configure: Callable[..., Any], timed: list[str], tmp_path: Path
) -> None:
    put(tmp_path, "tflite", [[1, 64, 64]])
    asked = "weights=w", f"exported={tmp_path}", "size=[32,48]"
    with pytest.raises(MissingInputError, match="no format for frames of 1 x 32 x 48"):
        benchmark(configure("benchmark_export", "model=tiny", *asked))
    assert not timed


def test_a_ratio_is_that_of_medians(configure: Callable[..., Any]) -> None:
    config = configure("benchmark_export", "model=tiny", "weights=w", "exported=e")
    timings = {"network": Timing(0.5, 1.0, 1.0), "a": Timing(0.75, 1.0, 1.0)}
    assert table(config, timings).splitlines()[-1].split() == ["a", "0.750", "1.50"]
