"""The network on JAX: the same file, the same weights, the same flow."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig

ROOT = Path(__file__).resolve().parents[2]
# Keras itself may import TensorFlow whatever its backend is, so only what this project adds counts.
SCRIPT = """
import json, sys
import jax
import keras
import numpy as np
before = "tensorflow" in sys.modules
from pwc_exp.models.pwcnet import PWCNet
assert keras.backend.backend() == "jax"
for name in sys.argv[1:]:
    with open(f"{name}.json") as file:
        model = PWCNet(**json.load(file))
    data = dict(np.load(f"{name}.npz"))
    frames = data.pop("frame1"), data.pop("frame2")
    model.set_weights([data[variable.path] for variable in model.variables])
    np.save(f"{name}_flow.npy", np.asarray(jax.jit(model.estimate)(*frames)))
assert "pwc_exp.flow.tensorflow_ops" not in sys.modules
assert before or "tensorflow" not in sys.modules
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_computes_the_flow_that_tensorflow_computes(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    expected = {}
    frames = np.random.default_rng(2).random((2, 1, 60, 125, 3)).astype(np.float32)
    for name in ("tiny", "sm"):
        config = configure("describe", f"model={name}").model
        keras.utils.set_random_seed(1)
        model = build_model(config, PrecisionConfig(policy=Precision.fp32))
        arguments = {key: value for key, value in asdict(config).items() if key != "name"}
        (tmp_path / f"{name}.json").write_text(json.dumps(arguments))
        weights = {variable.path: variable.numpy() for variable in model.variables}
        np.savez(tmp_path / f"{name}.npz", frame1=frames[0], frame2=frames[1], **weights)
        expected[name] = model.estimate(tf.constant(frames[0]), tf.constant(frames[1])).numpy()
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": path}
    command = [sys.executable, "-c", SCRIPT, *expected]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for name, flow in expected.items():
        assert np.abs(flow).max() > 0.1
        np.testing.assert_allclose(np.load(tmp_path / f"{name}_flow.npy"), flow, atol=1e-3)
