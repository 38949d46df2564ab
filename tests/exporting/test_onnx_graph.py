"""The ONNX graph: in both runtimes the network's flow, for every convention, at any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from variants import VARIANTS, make_network

from pwc_exp.exporting import onnx_model
from pwc_exp.exporting.engine import Shape
from pwc_exp.exporting.keras_archive import runner
from pwc_exp.exporting.parity import frames

pytest.importorskip("onnx")


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_runtimes_give_the_networks_flow(
    configure: Callable[..., Any], variant: str, tmp_path: Path
) -> None:
    model = make_network(configure, variant)
    onnx_model.write(model, tmp_path, [])
    engines = onnx_model.engines(tmp_path)
    assert len(engines) == 2
    for shape in (Shape(1, 33, 50), Shape(2, 16, 72)):
        pair = frames(shape)
        flow = runner(model)(*pair)
        assert flow.std() > 0.1
        for run in engines.values():
            np.testing.assert_allclose(run(*pair), flow, atol=2e-3)
