"""A training step in bfloat16 beside one in float32."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import machine
from pwc_exp.build import build_loss, build_model, build_source
from pwc_exp.config.data import Split
from pwc_exp.data.pipeline import eval_batches

NETWORK = "model.normalize_features=false"
SIZE = ("data.crop=[64,96]", "data.val_size=2", "model.center_frames=true")


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def gradients(config: Any) -> dict[str, np.ndarray]:
    """Of the loss on two generated scenes, for each weight of a fresh network."""
    keras.utils.set_random_seed(1)
    model = build_model(config.model, config.precision)
    loss_fn = build_loss(config.loss, model)
    scenes = eval_batches(build_source(config.data, Split.val), range(2), batch_size=2, multiple=1)
    batch = next(iter(scenes))

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            flows = model((batch.frame1, batch.frame2), training=True)
            assert {flow.dtype for flow in flows.values()} == {tf.float32}
            loss = loss_fn(flows, batch.flow, batch.valid)
        return tape.gradient(loss, model.trainable_variables)

    found = zip(model.trainable_variables, step(), strict=True)
    return {weight.path: gradient.numpy().ravel() for weight, gradient in found}


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.fixture(scope="module")
def exact(configure: Callable[..., Any]) -> dict[str, np.ndarray]:
    return gradients(configure("train", "model=tiny", NETWORK, *SIZE))


@pytest.mark.parametrize("bfloat16", [True, False])
def test_gradients_in_bfloat16_point_where_those_in_float32_do(
    bfloat16: bool,
    exact: dict[str, np.ndarray],
    configure: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)
    half = gradients(configure("train", "model=tiny", NETWORK, *SIZE, "precision=bf16"))
    layers = {path.rpartition("/")[0] for path in exact}
    assert len(layers) > 20
    for layer in layers:
        parts = [f"{layer}/kernel", f"{layer}/bias"]
        pair = (np.concatenate([found[part] for part in parts]) for found in (exact, half))
        # Of up_flow, the gradients are sums of many terms that nearly cancel.
        assert cosine(*pair) >= (0.95 if "up_flow" in layer else 0.99), layer
    assert cosine(*(np.concatenate(list(found.values())) for found in (exact, half))) >= 0.999
