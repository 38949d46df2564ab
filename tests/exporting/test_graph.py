"""The traced network: any size, the network's own flow, nothing that only this program has."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from variants import VARIANTS, make_network

from pwc_exp.build import build_model
from pwc_exp.exporting.engine import Shape
from pwc_exp.exporting.graph import runner, trace
from pwc_exp.exporting.keras_archive import runner as network_runner
from pwc_exp.exporting.parity import frames


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_trace_gives_the_networks_flow_at_any_size(
    configure: Callable[..., Any], variant: str
) -> None:
    model = make_network(configure, variant)
    run = runner(model)
    for shape in (Shape(1, 33, 50), Shape(2, 16, 72)):
        pair = frames(shape)
        flow = run(*pair)
        assert flow.shape == (*shape, 2)
        assert flow.std() > 0.1
        np.testing.assert_allclose(flow, network_runner(model)(*pair), atol=2e-3)


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
        flow, expected = runner(rounded)(*pair), runner(model)(*pair)
    finally:
        keras.config.set_dtype_policy("float32")
    assert flow.dtype == np.float32
    difference = np.linalg.norm(flow - expected, axis=-1).mean()
    assert 0 < difference < 0.1 * np.linalg.norm(expected, axis=-1).mean()
