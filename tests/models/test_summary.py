"""What a network is made of: its rows add up to the known totals."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.summary import summarize, total_flops

SINTEL = (448, 1024)


@pytest.fixture(scope="module")
def network(configure: Callable[..., Any]) -> Callable[[str], PWCNet]:
    @functools.cache
    def get(name: str) -> PWCNet:
        config = configure("describe", f"model={name}").model
        return build_model(config, PrecisionConfig(policy=Precision.fp32))

    return get


@pytest.mark.parametrize(
    ("name", "gflop"), [("sm", 76.8), ("official", 168.5), ("lg", 190.9), ("fast", 21.2)]
)
def test_operations_are_those_counted_for_the_original_and_every_parameter_is_in_one_row(
    name: str, gflop: float, network: Callable[[str], PWCNet]
) -> None:
    assert total_flops(network(name), SINTEL) == pytest.approx(1e9 * gflop, rel=3e-3)
    rows = summarize(network(name), SINTEL)
    assert sum(row.parameters for row in rows) == network(name).count_params()
    assert len({row.name for row in rows}) == len(rows)


def test_fast_has_less_than_a_third_of_the_weights_and_arithmetic_of_small(
    network: Callable[[str], PWCNet],
) -> None:
    fast, small = network("fast"), network("small")
    assert 3 * fast.count_params() < small.count_params()
    assert 3 * total_flops(fast, SINTEL) < total_flops(small, SINTEL)


def test_a_row_states_size_channels_and_operations_of_a_layer(
    network: Callable[[str], PWCNet],
) -> None:
    rows = {row.name: row for row in summarize(network("sm"), (64, 128))}
    assert rows["pyramid/conv2a"][1:] == (
        2,
        (16, 32),
        32,
        9 * 16 * 32 + 32,
        2 * 2 * 9 * 16 * 32 * 16 * 32,  # both frames, multiplication and addition
    )
    assert rows["cost_volume2"][1:] == (2, (16, 32), 81, 0, 2 * 81 * 32 * 16 * 32)
    assert rows["up_flow3"][1:] == (3, (16, 32), 2, 16 * 2 * 2 + 2, 2 * 16 * 2 * 2 * 8 * 16)
    assert rows["context2/conv7"].channels == 2
