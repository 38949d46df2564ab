"""Exports: whole folders that describe themselves, or nothing; every format has the flow."""

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from variants import VARIANTS, make_network

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.cli import check_places
from pwc_exp.config.commands import Format
from pwc_exp.errors import ConfigError, DataError, OutputError, ParityError
from pwc_exp.export import formats
from pwc_exp.export.formats import (
    Bound,
    Runner,
    Shape,
    engines_of,
    export,
    frames,
    graph_runner,
    installed_formats,
    network_runner,
    trace,
)
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.weights import load_weights


def fast_only(chosen: str) -> list[Any]:
    """All variants; those that are not `chosen` are slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=[] if name == chosen else slow) for name in VARIANTS]


COMPARED = "compared=[[1,33,50],[2,16,72]]"


@pytest.fixture(scope="module")
def weights(configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a tiny network, on disk."""
    state = checkpoints.named_state(make_network(configure, "tiny"))
    folder = tmp_path_factory.mktemp("weights")
    return checkpoints.save(folder, step=0, state=state, metrics={}, fingerprint={})


@pytest.fixture(scope="module")
def exported(
    configure: Callable[..., Any], weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A network in the format that others are made of."""
    out = tmp_path_factory.mktemp("export") / "deep/out"
    asked = f"weights={weights}", f"out={out}", "formats=[savedmodel]"
    export(configure("export", "model=tiny", *asked, COMPARED))
    return out


def test_each_format_has_a_card_with_units_weights_and_differences(exported: Path) -> None:
    card = json.loads((exported / "savedmodel/card.json").read_text())
    assert card["format"] == "savedmodel" and card["shapes"] == "any"
    assert card["units"].startswith("pixels") and card["order"] == "x (right), y (down)"
    assert len(card["weights"]["sha256"]) == 64
    assert card["versions"]["tensorflow"] == tf.__version__
    assert [each["shape"] for each in card["differences_px"]] == [[1, 33, 50], [2, 16, 72]]
    assert all(each["mean"] <= card["bound_px"]["mean"] for each in card["differences_px"])
    rows = json.loads((exported / "parity.json").read_text())
    assert [row["format"] for row in rows] == ["savedmodel"] * 2


def test_tensorflow_alone_loads_the_savedmodel(exported: Path) -> None:
    network = tf.saved_model.load(str(exported / "savedmodel"))
    signature = network.signatures["serving_default"]
    frame1, frame2 = map(tf.constant, frames(Shape(2, 21, 43)))
    assert signature(frame1=frame1, frame2=frame2)["flow"].shape == (2, 21, 43, 2)


def test_the_archive_and_the_tensors_beside_it_hold_the_network(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_network(configure, "lg")
    formats.write_keras(model, tmp_path, [])
    archived = keras.saving.load_model(tmp_path / "flow.keras")
    assert archived.get_config() == model.get_config()
    fresh = PWCNet(**model.get_config())
    load_weights(fresh, tmp_path / "weights.safetensors")
    for mine, *others in zip(model.weights, archived.weights, fresh.weights, strict=True):
        for other in others:
            np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_a_folder_that_is_there_is_left_alone(
    exported: Path, configure: Callable[..., Any], weights: Path
) -> None:
    config = configure("export", "model=tiny", f"weights={weights}", f"out={exported}")
    with pytest.raises(OutputError, match="exists; choose another folder"):
        check_places(config, Path())


def test_by_default_the_formats_that_are_installed_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = dict.fromkeys(Format.onnx.packages, ModuleType("installed"))
    for package, module in every.items():
        module.__spec__ = ModuleSpec(package, None)
        monkeypatch.setitem(sys.modules, package, module)
    assert installed_formats() == [Format.keras, Format.savedmodel, Format.onnx]
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert installed_formats() == [Format.keras, Format.savedmodel]
    assert "onnx: left out; onnx not installed: pip install 'onnx<2" in capsys.readouterr().out


def test_a_format_that_is_not_the_network_leaves_nothing(
    configure: Callable[..., Any], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = formats.KINDS[Format.onnx]._replace(bound=Bound(mean=1e-3, largest=0.0))
    monkeypatch.setitem(formats.KINDS, Format.onnx, strict)
    asked = f"weights={weights}", f"out={tmp_path}/out", "formats=[onnx]"
    with pytest.raises(ParityError, match="onnx in ONNX Runtime at 1 x 33 x 50") as refused:
        export(configure("export", "model=tiny", *asked, COMPARED))
    assert refused.value.exit_code == 70
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_refused(configure: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be the folder of one format"):
        engines_of(tmp_path)
    with pytest.raises(ConfigError, match=r"shapes must hold \[batch, height, width\]"):
        configure("export", "weights=w", "out=o", "shapes=[[448,1024]]")
    with pytest.raises(ConfigError, match="formats"):
        configure("export", "weights=w", "out=o", "formats=[caffe]")
    with pytest.raises(ConfigError, match="run or weights must be given, at most one of them"):
        configure("export", "out=o", "run=r", "weights=w")


@pytest.mark.slow
def test_keras_and_litert_give_the_networks_flow(
    configure: Callable[..., Any], weights: Path, tmp_path: Path
) -> None:
    asked = (f"weights={weights}", f"out={tmp_path}/out", "formats=[keras,tflite,tflite_fp16]")
    export(configure("export", "model=tiny", *asked, COMPARED, "shapes=[[1,20,40],[2,33,16]]"))
    sizes = []
    for name in ("tflite", "tflite_fp16"):
        (run,) = engines_of(tmp_path / "out" / name).values()
        with pytest.raises(DataError, match=r"is for frames .* 1 x 20 x 40, 2 x 33 x 16"):
            run(*frames(Shape(1, 8, 8)))
        sizes.append((tmp_path / "out" / name / "flow_1x20x40.tflite").stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]


def assert_gives_flow_of(model: PWCNet, *runs: Runner) -> None:
    for shape in (Shape(1, 33, 50), Shape(2, 16, 72)):
        pair = frames(shape)
        expected = network_runner(model)(*pair)
        assert expected.std() > 0.1
        for run in runs:
            np.testing.assert_allclose(run(*pair), expected, atol=2e-3)


@pytest.mark.parametrize("variant", fast_only("lg"))
def test_one_trace_gives_the_networks_flow_at_any_size(
    configure: Callable[..., Any], variant: str
) -> None:
    model = make_network(configure, variant)
    assert_gives_flow_of(model, graph_runner(model))


def test_it_holds_plain_operations_only(configure: Callable[..., Any]) -> None:
    operations = trace(make_network(configure, "tiny")).graph.get_operations()
    assert not {"PartitionedCall", "StatefulPartitionedCall", "IdentityN"} & {
        operation.type for operation in operations
    }


def test_in_bfloat16_the_flow_is_float32_and_nearly_the_same(configure: Callable[..., Any]) -> None:
    model = make_network(configure, "tiny")
    config = configure("train", "model=tiny", "precision=bf16")
    try:
        rounded = build_model(config.model, config.precision)
        rounded.set_weights(model.get_weights())
        pair = frames(Shape(1, 33, 50))
        flow, expected = graph_runner(rounded)(*pair), graph_runner(model)(*pair)
    finally:
        keras.config.set_dtype_policy("float32")
    assert flow.dtype == np.float32
    difference = np.linalg.norm(flow - expected, axis=-1).mean()
    assert 0 < difference < 0.1 * np.linalg.norm(expected, axis=-1).mean()


@pytest.mark.skipif(find_spec("onnx") is None, reason="needs onnx")
@pytest.mark.parametrize("variant", fast_only("official"))
def test_both_runtimes_give_the_networks_flow(
    configure: Callable[..., Any], variant: str, tmp_path: Path
) -> None:
    model = make_network(configure, variant)
    formats.write_onnx(model, tmp_path, [])
    engines = formats.run_onnx(tmp_path)
    assert len(engines) == 2
    assert_gives_flow_of(model, *engines.values())
