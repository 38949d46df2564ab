"""Weights from every place they may lie in: the right ones, all of them, or none."""

import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.schema import BEST_KEY
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.tfoptflow import convert
from pwc_exp.weights import load_weights

Tensors = dict[str, np.ndarray]
Network = Callable[[str], PWCNet]


@pytest.fixture(scope="module")
def original(shared: Path) -> Callable[[str], Tensors]:
    """(sm or lg) -> tfoptflow's variables by their names."""
    return runpy.run_path(str(shared / "parity/make_checkpoint.py"))["weights"]


@pytest.fixture(scope="module")
def built(configure: Callable[..., Any]) -> Network:
    models: dict[str, PWCNet] = {}

    def get(name: str) -> PWCNet:
        if name not in models:
            config = configure("describe", f"model={name}").model
            models[name] = build_model(config, PrecisionConfig(policy=Precision.fp32))
        return models[name]

    return get


@pytest.fixture
def network(built: Network) -> Network:
    """(name) -> the network with every weight 0.5."""

    def get(name: str) -> PWCNet:
        model = built(name)
        for variable in model.variables:
            variable.assign(np.full(variable.shape, 0.5))
        return model

    return get


def is_untouched(model: PWCNet) -> bool:
    return all((variable.numpy() == 0.5).all() for variable in model.variables)


def has(model: PWCNet, tensors: Tensors) -> bool:
    """Whether the weights are the original's `tensors`."""
    weights = convert(tensors)
    values = {v.path.removeprefix("pwcnet/"): v.numpy() for v in model.variables}
    same = (np.array_equal(values[name], weights[name]) for name in weights)
    return values.keys() == weights.keys() and all(same)


def save_tensors(tensors: Mapping[str, np.ndarray], prefix: Path) -> Path:
    """Writes what TensorFlow 1's Saver writes."""
    values = [tf.constant(value) for value in tensors.values()]
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(values),
        tensors=values,
    )
    return prefix


def save_step(
    folder: Path, model: PWCNet, step: int, value: float, metrics: Mapping[str, float]
) -> Path:
    state = {name: np.full(v.shape, value, "f4") for name, v in named(model).items()}
    return checkpoints.save(folder, step=step, state=state, metrics=metrics, fingerprint={})


def named(model: PWCNet) -> dict[str, checkpoints.Variable]:
    return checkpoints.named_state(model)


def test_a_checkpoint_of_the_original_loads_by_its_prefix_or_any_of_its_files(
    original: Callable[[str], Tensors],
    network: Network,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = tmp_path / "pwcnet.ckpt-595000"
    script = shared / "parity/make_checkpoint.py"
    monkeypatch.setattr(sys, "argv", [str(script), "sm", str(prefix)])
    runpy.run_path(str(script), run_name="__main__")
    files = [path for path in tmp_path.iterdir() if path.name.startswith(prefix.name)]
    assert len(files) == 2
    for path in (prefix, *files):
        model = network("sm")
        assert load_weights(model, path).path == prefix
        assert has(model, original("sm"))


def test_what_an_optimizer_and_mixed_precision_kept_is_no_hindrance(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    tensors = {f"fp32_vars/{name}": value for name, value in original("sm").items()}
    slots = {
        f"{name}/{slot}": np.full_like(value, np.nan)
        for name, value in tensors.items()
        for slot in ("Adam", "Adam_1")
    }
    others: Tensors = {"global_step": np.array(7), "beta1_power": np.array(0.5)}
    prefix = save_tensors({**tensors, **slots, **others}, tmp_path / "fp16.ckpt")
    model = network("sm")
    load_weights(model, prefix)
    assert has(model, original("sm"))


def test_a_variable_that_no_network_has_is_refused(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    unknown = {"pwcnet/featpyr/conv9a/gamma/kernel": np.zeros(3, np.float32)}
    prefix = save_tensors({**original("sm"), **unknown}, tmp_path / "new.ckpt")
    model = network("sm")
    with pytest.raises(DataError, match="unknown variable.*featpyr/conv9a/gamma/kernel"):
        load_weights(model, prefix)
    assert is_untouched(model)


def test_weights_of_another_architecture_are_refused_by_name(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    prefix = save_tensors(original("lg"), tmp_path / "lg.ckpt")
    model = network("sm")
    with pytest.raises(DataError) as refused:
        load_weights(model, prefix)
    message = str(refused.value)
    assert str(prefix) in message
    assert "56 unexpected" in message and "context" in message
    assert "of another shape" in message and "(3, 3, 209, 128), not (3, 3, 128, 128)" in message
    assert is_untouched(model)


def test_weights_need_the_conventions_they_were_trained_in(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    prefix = save_tensors({"pwcnet/featpyr/conv1a/bias": np.zeros(16)}, tmp_path / "sm.ckpt")
    model = network("official")
    with pytest.raises(DataError) as refused:
        load_weights(model, prefix)
    for convention in (
        "model.warp_border=edge",
        "model.stride_padding=same",
        "model.upsample_alignment=corner",
        "model.level_units=grid",
    ):
        assert convention in str(refused.value)
    assert is_untouched(model)


def test_a_checkpoint_of_something_else_is_refused(network: Network, tmp_path: Path) -> None:
    model = network("sm")
    prefix = save_tensors({"resnet/conv1/kernel": np.zeros(3)}, tmp_path / "resnet.ckpt")
    with pytest.raises(DataError, match="pwcnet/.*Received: none"):
        load_weights(model, prefix)
    assert is_untouched(model)


def test_a_damaged_tensorflow_checkpoint_is_refused(network: Network, tmp_path: Path) -> None:
    (tmp_path / "damaged.ckpt.index").write_bytes(b"not an index")
    with pytest.raises(DataError, match="not a readable TensorFlow checkpoint"):
        load_weights(network("sm"), tmp_path / "damaged.ckpt")


def test_a_weight_that_is_not_finite_is_refused(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    tensors = original("sm")
    tensors["pwcnet/featpyr/conv1a/bias"][3] = np.nan
    model = network("sm")
    with pytest.raises(DataError, match="NaN.*conv1a/bias"):
        load_weights(model, save_tensors(tensors, tmp_path / "nan.ckpt"))
    assert is_untouched(model)


def test_a_runs_weights_are_its_best_and_otherwise_its_last(
    network: Network, tmp_path: Path
) -> None:
    model, folder = network("tiny"), tmp_path / "checkpoints"
    save_step(folder, model, 1, 0.1, {})
    last = save_step(folder, model, 2, 0.2, {})
    assert load_weights(model, tmp_path).path == last
    assert model.variables[0].numpy().flat[0] == np.float32(0.2)
    best = save_step(folder, model, 3, 0.3, {BEST_KEY: 2.0})
    save_step(folder, model, 4, 0.4, {BEST_KEY: 2.5})
    assert load_weights(model, tmp_path).path == best
    assert model.variables[-1].numpy().flat[0] == np.float32(0.3)


def test_a_checkpoint_or_its_file_alone_will_do(network: Network, tmp_path: Path) -> None:
    model = network("tiny")
    path = save_step(tmp_path, model, 3, 0.25, {})
    for place in (path, path / checkpoints.STATE_FILE):
        network("tiny")
        assert load_weights(model, place).path == place
        assert all((v.numpy() == 0.25).all() for v in model.variables)


def test_the_optimizers_variables_are_left_where_they_are(network: Network, tmp_path: Path) -> None:
    model = network("tiny")
    arrays = {name: np.full(v.shape, 0.75, "f4") for name, v in named(model).items()}
    arrays["optimizer/adam/iteration"] = np.array(7)
    safetensors.numpy.save_file(arrays, tmp_path / "tiny.safetensors")
    load_weights(model, tmp_path / "tiny.safetensors")
    assert model.variables[0].numpy().flat[0] == 0.75


def test_a_place_without_weights_is_named(network: Network, tmp_path: Path) -> None:
    model = network("tiny")
    with pytest.raises(MissingInputError, match="nosuch"):
        load_weights(model, tmp_path / "nosuch")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(MissingInputError, match="checkpoints must hold a checkpoint"):
        load_weights(model, tmp_path)
    assert is_untouched(model)
