"""tfoptflow's weights, converted: the outputs are those that tfoptflow itself computed."""

import functools
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import inference
from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError
from pwc_exp.inference import make_estimate
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.tfoptflow import convert, weight_name

BOUND = 1e-4  # pixels of a level's grid
# Of the finest level's flow enlarged by 4; the original's own enlarging is float32, too.
FULL_BOUND = 4 * BOUND


@pytest.fixture(scope="module")
def original(shared: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """(sm or lg) -> tfoptflow's variables by their names."""
    return runpy.run_path(str(shared / "parity/make_checkpoint.py"))["weights"]


@pytest.fixture(scope="module")
def network(
    original: Callable[[str], dict[str, np.ndarray]], configure: Callable[..., Any]
) -> Callable[[str], PWCNet]:
    """(sm or lg) -> the network with the original's weights."""

    @functools.cache
    def get(name: str) -> PWCNet:
        config = configure("describe", f"model={name}").model
        model = build_model(config, PrecisionConfig(policy=Precision.fp32))
        weights = convert(original(name))
        for variable in model.variables:
            variable.assign(weights.pop(variable.path.removeprefix("pwcnet/")))
        assert not weights
        return model

    return get


class Case:
    """Frames [1, H, W, 3] and what the original made of them."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays: Mapping[str, np.ndarray] = dict(file)
        self.frame1, self.frame2 = (
            tf.constant(self.arrays[name].reshape(-1, *self.arrays[name].shape[-3:]), tf.float32)
            / 255
            for name in ("img1", "img2")
        )

    def level(self, level: int) -> np.ndarray:
        """[H/2^level, W/2^level, 2]."""
        return np.squeeze(self.arrays[f"flow_pyr_lvl{level}"])

    @property
    def flow(self) -> np.ndarray:
        """[H, W, 2], the padding taken off."""
        height, width = self.frame1.shape[1:3]
        return np.squeeze(self.arrays["flow_full"])[:height, :width]


@pytest.mark.parametrize("name", ["sm", "lg"])
def test_every_level_and_the_flow_are_the_originals(
    name: str, network: Callable[[str], PWCNet], shared: Path
) -> None:
    case = Case(shared / f"parity/io_{name}_256x448.npz")
    model = network(name)
    flows = model((case.frame1, case.frame2))
    assert list(flows) == [6, 5, 4, 3, 2]
    for level, flow in flows.items():
        assert np.abs(case.level(level)).max() > 0.1
        np.testing.assert_allclose(flow[0], case.level(level), atol=BOUND)
    np.testing.assert_allclose(model.full_resolution(flows)[0], case.flow, atol=FULL_BOUND)


@pytest.mark.parametrize(
    ("case", "xla"), [("sm_256x448", True), ("lg_256x448", False), ("sm_436x1024", False)]
)
def test_the_compiled_estimate_is_the_originals_flow(
    case: str,
    xla: bool,
    network: Callable[[str], PWCNet],
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "xla_pays", lambda: True)  # on every machine
    data = Case(shared / f"parity/io_{case}.npz")
    estimate = make_estimate(network(case[:2]), xla=xla)
    flow = estimate(data.frame1, data.frame2)[0]
    assert flow.shape == data.flow.shape
    np.testing.assert_allclose(flow, data.flow, atol=FULL_BOUND)


def test_converting_leaves_the_originals_tensors_alone(
    original: Callable[[str], dict[str, np.ndarray]],
) -> None:
    tensors = original("sm")
    convert(tensors)
    for name, value in original("sm").items():
        np.testing.assert_array_equal(tensors[name], value)


@pytest.mark.parametrize(
    ("tf1_name", "name"),
    [
        ("pwcnet/featpyr/conv3aa/bias", "pyramid/conv3aa/bias"),
        ("fp32_vars/pwcnet/predict_flow/conv6_0/kernel", "estimator6/conv0/kernel"),
        ("pwcnet/predict_flow/flow2/kernel", "estimator2/flow/kernel"),
        ("pwcnet/upsample/up_feat4/kernel", "up_features4/kernel"),
        ("pwcnet/ctxt/dc_conv27/bias", "context2/conv7/bias"),
        ("pwcnet/featpyr/conv3aa/kernel/Adam_1", None),
        ("fp32_vars/pwcnet/featpyr/conv3aa/kernel/Adam", None),
        ("beta1_power", None),
        ("global_step", None),
        ("other/conv1/kernel", None),
    ],
)
def test_weights_are_told_from_what_an_optimizer_keeps(tf1_name: str, name: str | None) -> None:
    assert weight_name(tf1_name) == name


def test_a_weight_that_no_network_has_is_refused() -> None:
    with pytest.raises(DataError, match="pwcnet/featpyr/conv1c/kernel"):
        weight_name("pwcnet/featpyr/conv1c/kernel")
