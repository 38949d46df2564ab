"""Weights of other projects' PWC-Nets: the converted network gives the flows of the original."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from torch_reference import LAYOUTS, NumpyOps, TorchOps, flows, random_state

from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError
from pwc_exp.models.torch_weights import convert

SIZES: dict[str, Any] = {
    "pyramid": (3, 4, 5, 6, 7, 8),
    "estimator": (6, 5, 4, 3, 3),
    "context": (5, 5, 4, 4, 3, 3),
}
MODELS = {
    "nvlabs": "official",
    "nvlabs old": "official-old",
    "ptlflow": "official",
    "ptlflow nodc": "official-nodc",
    "mmflow": "official",
}
PROJECTS = {
    "nvlabs": "NVlabs/PWC-Net",
    "ptlflow": "hmorimitsu/ptlflow",
    "mmflow": "open-mmlab/mmflow",
}


def original(name: str) -> dict[str, np.ndarray]:
    """A small state_dict; NVlabs' has a layer that it does not use."""
    state = random_state(LAYOUTS[name], **SIZES)
    if name.startswith("nvlabs"):
        state["deconv2.weight"] = np.ones((2, 2, 4, 4), np.float32)
        state["deconv2.bias"] = np.ones(2, np.float32)
    return state


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    coarse = rng.random((2, 16, 24, 3)).astype(np.float32)
    first, second = (np.kron(frame, np.ones((8, 8, 1), np.float32)) for frame in coarse)
    return first, 0.5 * first + 0.5 * second


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_converted_network_gives_the_flows_of_the_original(
    name: str, frames: tuple[np.ndarray, np.ndarray], configure: Callable[..., Any]
) -> None:
    found = check_flows(name, frames, configure, NumpyOps())
    # Otherwise nothing of what follows the first level would be seen.
    assert all(np.abs(flow).max() > 0.05 for flow in found.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_so_it_does_by_the_operations_of_pytorch(
    name: str, frames: tuple[np.ndarray, np.ndarray], configure: Callable[..., Any]
) -> None:
    torch = pytest.importorskip("torch")
    check_flows(name, frames, configure, TorchOps(torch))


def check_flows(
    name: str,
    frames: tuple[np.ndarray, np.ndarray],
    configure: Callable[..., Any],
    ops: NumpyOps,
) -> dict[int, np.ndarray]:
    state = original(name)
    converted = convert(state, source="file")
    assert converted.project == PROJECTS[name.partition(" ")[0]]
    assert converted.fits == MODELS[name]
    keras.config.set_dtype_policy("float32")
    sizes = [
        f"model.{part}_channels={list(SIZES[key])}"
        for part, key in (
            ("feature", "pyramid"),
            ("estimator", "estimator"),
            ("context", "context"),
        )
    ]
    config = configure("describe", f"model={MODELS[name]}", *sizes).model
    model = build_model(config, PrecisionConfig(policy=Precision.fp32))
    variables = {v.path.removeprefix("pwcnet/"): v for v in model.variables}
    assert variables.keys() == converted.weights.keys()
    for key, variable in variables.items():
        variable.assign(converted.weights[key])
    expected = flows(state, LAYOUTS[name], *frames, ops)
    for level, flow in model(tuple(frame[None] for frame in frames)).items():
        truth = expected[level].transpose(1, 2, 0)
        np.testing.assert_allclose(flow[0], truth, atol=2e-5 * max(1.0, np.abs(truth).max()))
    return expected


def test_a_network_of_the_right_size_takes_every_weight(configure: Callable[..., Any]) -> None:
    sizes: dict[str, Any] = {
        "pyramid": (16, 32, 64, 96, 128, 196),
        "estimator": (128, 128, 96, 64, 32),
        "context": (128, 128, 128, 96, 64, 32),
    }
    state = random_state(LAYOUTS["nvlabs"], **sizes)
    weights = convert(state, source="file").weights
    assert sum(value.size for value in weights.values()) == 9_374_274


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: {"update.weight": state["conv1a.0.weight"]},
            "PWC-Net as of .*update.weight",
        ),
        (lambda state: {**state, "fnet.0.weight": state["conv1a.0.weight"]}, "'fnet.0.weight'"),
        (
            lambda state: {**state, "conv1a.0.weight": np.ones((3, 3, 3, 3, 1))},
            "conv1a.0.weight must",
        ),
        (lambda state: {**state, "conv1a.0.bias": np.ones(3, int)}, "conv1a.0.bias must"),
        (lambda state: {k: v for k, v in state.items() if k != "conv1a.0.weight"}, "Received"),
    ],
    ids=["another network", "a further layer", "dimensions", "integers", "the first is missing"],
)
def test_what_no_known_network_has_is_refused(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], said: str
) -> None:
    with pytest.raises(DataError, match=said) as refused:
        convert(change(original("nvlabs")), source="some.pth")
    assert re.match(r"some\.pth", str(refused.value)) and "\n" not in str(refused.value)


def test_kernels_that_do_not_fit_together_are_refused() -> None:
    for name in ("mmflow", "nvlabs old"):
        state = original(name)
        layer = LAYOUTS[name].head(3)
        state[f"{layer}.weight"] = state[f"{layer}.weight"][:, :40]
        weights = None
        try:
            weights = convert(state, source="some.pth").weights
        except DataError as error:
            assert "do not fit together" in str(error)
        if weights is not None:  # then the shape is another, which assigning refuses
            assert weights["estimator3/flow/kernel"].shape[2] == 40
