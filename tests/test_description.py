"""The description of a network: its layers and the sums that papers give."""

from collections.abc import Callable
from typing import Any

import pytest

from pwc_exp.describe import describe


def test_it_states_the_layers_the_parameters_and_the_operations(
    configure: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    describe(configure("describe", "model=sm"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "layer level output (H x W x C) parameters MFLOP"
    # The first layer, as counted by hand: 3 × 3 × 3 × 16 weights and 16 biases, for two frames.
    assert lines[1] == "pyramid/conv1a 1 224 x 512 x 16 448 198.2"
    assert "parameters 4,705,064" in lines
    assert "model sm: levels 6 to 2, warp_border edge, stride_padding same," in lines[-3]
    assert lines[-1].startswith("operations 76.8 GFLOP for a pair of 448 x 1024 (height x width)")


def test_it_counts_for_the_size_it_is_given(
    configure: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    describe(configure("describe", "model=tiny", "size=[32,64]"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1].startswith("pyramid/conv1a 1 16 x 32 x 8")
    assert "for a pair of 32 x 64 (height x width)" in lines[-1]
