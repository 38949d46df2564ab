"""Variables are set from a checkpoint exactly, all or none, and never to NaN."""

from collections.abc import Mapping
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.errors import DataError, NonFiniteError, ResumeError

KERNEL = {"model/kernel": np.arange(64, dtype=np.float32)}


def save(
    folder: Path, step: int, state: Mapping[str, checkpoints.Variable | np.ndarray] = KERNEL
) -> Path:
    return checkpoints.save(folder, step=step, state=state, metrics={}, fingerprint={})


def variables() -> dict[str, checkpoints.Variable]:
    """Variables of all kinds, with values that arithmetic would change."""
    floats = np.array([-0.0, 0.0, 1.0, -1.5, 6e-8, 3e4], np.float64)
    found: dict[str, checkpoints.Variable] = {
        f"{prefix}{dtype}": keras.Variable(floats.astype(dtype), dtype=dtype)
        for prefix in ("model/", "ema/", "optimizer/")
        for dtype in ("float32", "float16", ml_dtypes.bfloat16)
    }
    found |= {
        f"optimizer/{dtype}": keras.Variable(
            np.array([0, 1, np.iinfo(dtype).max], dtype), dtype=dtype, trainable=False
        )
        for dtype in ("int32", "int64", "uint8", "uint32")
    }
    found["optimizer/nan"] = keras.Variable(np.array([np.nan, np.inf], "f4"), dtype="float32")
    found["optimizer/bool"] = keras.Variable(np.array([True, False]), dtype="bool")
    found["optimizer/scalar"] = keras.Variable(7, dtype="int64", trainable=False)
    found["random/generator"] = tf.random.Generator.from_seed(1).state
    return found


def as_bytes(state: Mapping[str, checkpoints.Variable]) -> dict[str, bytes]:
    return {name: np.asarray(variable).tobytes() for name, variable in state.items()}


def test_every_kind_of_variable_is_restored_to_the_bit(tmp_path: Path) -> None:
    state = variables()
    before = as_bytes(state)
    save(tmp_path, 1, state)
    for variable in state.values():
        variable.assign(np.zeros_like(np.asarray(variable)))
    assert as_bytes(state) != before
    checkpoint = checkpoints.newest_intact(tmp_path)
    assert checkpoint is not None
    checkpoints.restore(state, checkpoint)
    assert as_bytes(state) == before


def test_state_of_another_type_is_not_restored(tmp_path: Path) -> None:
    path = save(tmp_path, 1, {"model/a": np.zeros(2, np.float16), "model/b": np.ones(2, "f4")})
    state = {name: keras.Variable(np.full(2, 5, "f4")) for name in ("model/a", "model/b")}
    message = r"optimizer: 1 of another type \(model/a float16, not float32\)$"
    with pytest.raises(ResumeError, match=message):
        checkpoints.restore(state, checkpoints.load(path))
    assert all((np.asarray(variable) == 5).all() for variable in state.values())


@pytest.mark.parametrize("name", ["model/kernel", "ema/kernel"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_checkpoint_of_a_broken_network_is_never_written(
    tmp_path: Path, name: str, value: float, dtype: type
) -> None:
    save(tmp_path, 1)
    broken = KERNEL | {name: np.array([0, value]).astype(dtype)}
    with pytest.raises(NonFiniteError, match=rf"^step 2: weights must be finite.*\({name}\)"):
        save(tmp_path, 2, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_averaged_weights_are_preferred() -> None:
    arrays = {
        "model/a": np.zeros(2, "f4"),
        "model/statistics": np.full(2, 3, "f4"),
        "ema/a": np.ones(2, "f4"),
        "optimizer/a": np.zeros(2, "f4"),
    }
    state = {name: keras.Variable(np.zeros(2, "f4")) for name in ("model/a", "model/statistics")}
    assert {name: array[0] for name, array in checkpoints.weights_of(arrays).items()} == {
        "model/a": 1,
        "model/statistics": 3,
    }
    checkpoints.assign_weights(state, arrays, source="run")
    np.testing.assert_array_equal(state["model/a"], [1, 1])
    np.testing.assert_array_equal(state["model/statistics"], [3, 3])
    with pytest.raises(DataError, match=r"1 unexpected \(model/b\)"):
        checkpoints.assign_weights(state, arrays | {"ema/b": np.ones(2, "f4")}, source="run")
