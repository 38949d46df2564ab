"""Checkpoints: nothing is lost, damage is noticed, and weights are assigned whole or not at all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from pwc_exp import checkpoints
from pwc_exp.errors import DataError, MissingInputError, ResumeError

KEY = "val/aepe"
ARRAYS = {"model/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "model/step": np.array(7)}


def save(
    folder: Path,
    step: int = 1,
    state: Mapping[str, checkpoints.Variable | np.ndarray] = ARRAYS,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    return checkpoints.save(
        folder, step=step, state=state, metrics=metrics or {}, fingerprint={"keras": "3é"}
    )


def make_network() -> tuple[keras.Model, keras.Optimizer]:
    """A network with random and loss-scale state, named as the first of a process."""
    keras.utils.clear_session()  # Keras numbers seed generators per process
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="dense"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="dropout", seed=1),
        ],
        name="network",
    )
    inner = keras.optimizers.Adam(name="adam")
    optimizer = keras.optimizers.LossScaleOptimizer(inner, name="loss_scale")
    optimizer.build(model.trainable_variables)
    return model, optimizer


def train(model: keras.Model, optimizer: keras.Optimizer, steps: int) -> None:
    frames = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    for _ in range(steps):
        model(frames, training=True)
        gradients = [keras.ops.ones_like(variable) for variable in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)


def values(state: Mapping[str, checkpoints.Variable]) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable).copy() for name, variable in state.items()}


def test_network_and_optimizer_continue_with_the_same_bits(tmp_path: Path) -> None:
    network = make_network()
    train(*network, steps=3)
    path = save(tmp_path, state=checkpoints.named_state(*network))
    train(*network, steps=2)
    uninterrupted = values(checkpoints.named_state(*network))

    resumed = make_network()
    state = checkpoints.named_state(*resumed)
    checkpoints.restore(state, checkpoints.load(path))
    train(*resumed, steps=2)
    assert uninterrupted.keys() == state.keys()
    for name, value in values(state).items():
        np.testing.assert_array_equal(value, uninterrupted[name], err_msg=name, strict=True)


def test_state_lists_what_stock_savers_lose() -> None:
    names = set(checkpoints.named_state(*make_network()))
    assert {
        "model/network/dense/kernel",
        "model/network/norm/moving_mean",
        "model/seed_generator/seed_generator_state",
        "optimizer/adam/iteration",
        "optimizer/adam/network_dense_kernel_velocity",
        "optimizer/loss_scale/dynamic_scale",
        "optimizer/loss_scale/step_counter",
    } <= names


def test_two_variables_of_one_name_are_refused() -> None:
    model, optimizer = make_network()
    twins = SimpleNamespace(variables=[*model.variables, model.variables[0]])
    with pytest.raises(ValueError, match=r"name of its own.*model/network/dense/kernel$"):
        checkpoints.named_state(twins, optimizer)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint16", "int64", "uint64", "float16", ml_dtypes.bfloat16, "float32", "<f8"],
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3), (2, 0)])
def test_every_type_and_shape_comes_back_exactly(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    array = array.view(dtype).reshape(shape)
    loaded = checkpoints.load(save(tmp_path, state={"a": array})).arrays["a"]
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()
    turned = checkpoints.load(save(tmp_path, 2, {"a": array.T})).arrays["a"]
    assert turned.tobytes() == array.T.tobytes()


def test_manifest_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, step=1000, metrics={KEY: 0.1, "val/nan": math.nan})
    assert path.name == "step-00001000"
    step, _, read, _ = checkpoints.load(path)
    assert (step, read.step) == (1000, 1000)
    assert read.fingerprint == {"keras": "3é"}
    assert read.metrics[KEY] == 0.1
    assert math.isnan(read.metrics["val/nan"])
    text = (path / checkpoints.MANIFEST_FILE).read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_checkpoint_folder_may_be_absent(tmp_path: Path) -> None:
    assert checkpoints.list_checkpoints(tmp_path / "absent") == []
    assert checkpoints.latest(tmp_path / "absent") is None
    assert checkpoints.best(tmp_path / "absent", key=KEY) is None


def test_last_is_by_step_and_best_by_metric(tmp_path: Path) -> None:
    for step, aepe in ((100_000_000, 3.0), (99_999_999, 2.0), (3_000, 1.0), (4_000, math.nan)):
        save(tmp_path, step=step, metrics={KEY: aepe})
    save(tmp_path, step=5_000)
    save(tmp_path, step=2_000, metrics={KEY: 1.0})  # the later of equals is better
    (tmp_path / ".tmp-step-00009000").mkdir()
    (tmp_path / "notes").mkdir()
    assert checkpoints.latest(tmp_path) == tmp_path / "step-100000000"
    assert checkpoints.best(tmp_path, key=KEY) == tmp_path / "step-00003000"
    assert len(checkpoints.list_checkpoints(tmp_path)) == 6


@pytest.mark.parametrize(
    ("keep_best", "kept"), [(0, [5, 6]), (1, [2, 5, 6]), (2, [2, 4, 5, 6]), (9, [1, 2, 4, 5, 6])]
)
def test_last_two_and_best_are_kept(tmp_path: Path, keep_best: int, kept: list[int]) -> None:
    for step, aepe in enumerate((3.0, 1.0, math.nan, 2.0, math.inf, math.nan), start=1):
        save(tmp_path, step=step, metrics={KEY: aepe})
    (tmp_path / ".del-step-00000009").mkdir()
    checkpoints.retain(tmp_path, keep_best=keep_best, key=KEY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{k:08d}" for k in kept]


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, metrics={KEY: 1.5})
    positions = 0
    for name in (checkpoints.STATE_FILE, checkpoints.MANIFEST_FILE):
        file = path / name
        intact = file.read_bytes()
        for position in range(len(intact)):
            for bit in (1, 0x20):  # that of small and capital letters
                damaged = bytearray(intact)
                damaged[position] ^= bit
                file.write_bytes(damaged)
                with pytest.raises(DataError, match=r"step-00000001"):
                    checkpoints.load(path)
            positions += 1
        file.write_bytes(intact)
    assert positions > 450
    assert checkpoints.load(path).step == 1


@pytest.mark.parametrize("size", [0, 7, 8, 100, 10_000])
def test_state_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    path = save(tmp_path)
    file = path / checkpoints.STATE_FILE
    file.write_bytes(file.read_bytes().ljust(size)[:size])
    with pytest.raises(DataError, match=rf"state.safetensors must have .* Received: {size}$"):
        checkpoints.load(path)


def test_format_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "FORMAT", 3)
        patched.setattr(checkpoints, "__version__", "9.8")
        path = save(tmp_path)
    message = r"manifest.json must be of format 2. Received: 3, written by pwc_exp 9.8$"
    for read in (checkpoints.load, lambda path: checkpoints.newest_intact(path.parent)):
        with pytest.raises(ResumeError, match=message):
            read(path)
    assert checkpoints.list_checkpoints(tmp_path) == [path]


def test_damaged_checkpoint_is_never_the_best(tmp_path: Path) -> None:
    paths = [save(tmp_path, step=step, metrics={KEY: float(step)}) for step in (1, 2)]
    (paths[0] / checkpoints.MANIFEST_FILE).write_text("{")
    assert checkpoints.best(tmp_path, key=KEY) == paths[1]


def test_incomplete_checkpoint_is_named(tmp_path: Path) -> None:
    path = save(tmp_path)
    (path / checkpoints.STATE_FILE).unlink()
    with pytest.raises(MissingInputError, match=r"step-00000001/state.safetensors is missing"):
        checkpoints.load(path)
    for absent in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MissingInputError, match=r"not a checkpoint: manifest.json is missing"):
            checkpoints.load(absent)


def test_bare_file_is_weights(tmp_path: Path) -> None:
    path = tmp_path / "pwcnet.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    step, arrays, _, _ = checkpoints.load(path)
    assert step == 0
    np.testing.assert_array_equal(arrays["model/kernel"], ARRAYS["model/kernel"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" * 9, b"\xff" * 64, b"\x80\x04pickle" * 9])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights.safetensors is not a safetensors file"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model/network/dense/kernel": None}, r"1 missing \(model/network/dense/kernel\)"),
        (
            {"model/network/dense/kernel": None, "model/extra": np.zeros(1)},
            r"1 missing .*; 1 unexpected \(model/extra\)",  # all at once
        ),
        (
            {"model/network/dense/kernel": np.zeros((3, 4))},
            r"1 of another shape \(model/network/dense/kernel \(3, 4\), not \(4, 3\)\)",
        ),
        ({f"model/extra{k}": np.zeros(1) for k in range(7)}, r"7 unexpected .*extra4, …\)"),
        (
            {"model/network/norm/beta": np.array([0, np.nan, 0], "f4")},
            r"NaN or infinity .*norm/beta",
        ),
        (
            {"model/network/norm/beta": np.array([0, np.inf, 0], "f4")},
            r"NaN or infinity .*norm/beta",
        ),
    ],
)
def test_nothing_is_assigned_unless_all_fits(
    change: dict[str, np.ndarray | None], problem: str
) -> None:
    model, _ = make_network()
    state = checkpoints.named_state(model)
    before = values(state)
    changed = {name: np.ones_like(value) for name, value in before.items()} | change
    arrays = {name: value for name, value in changed.items() if value is not None}
    nothing = checkpoints.Manifest(0, {}, {}, {})
    checkpoint = checkpoints.Checkpoint(0, arrays, nothing, Path("run/step-00000001"))

    with pytest.raises(DataError, match=problem) as not_assigned:
        checkpoints.assign_weights(state, arrays, source="weights.safetensors")
    with pytest.raises(ResumeError, match=problem) as not_restored:
        checkpoints.restore(state, checkpoint)
    for error, source in ((not_assigned, "weights.safetensors"), (not_restored, "run/step-")):
        assert str(error.value).startswith(source)
        assert "\n" not in str(error.value)
    for name, value in values(state).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_weights_are_taken_from_a_checkpoint_of_a_whole_run(tmp_path: Path) -> None:
    trained = make_network()
    train(*trained, steps=2)
    arrays = checkpoints.load(save(tmp_path, state=checkpoints.named_state(*trained))).arrays
    model, optimizer = make_network()
    checkpoints.assign_weights(checkpoints.named_state(model), arrays, source="run")
    np.testing.assert_array_equal(model.layers[0].kernel, trained[0].layers[0].kernel)
    assert int(optimizer.iterations) == 0


def test_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, metrics={KEY: 1.0})
    path = save(tmp_path, metrics={KEY: 2.0})
    assert checkpoints.load(path).manifest.metrics == {KEY: 2.0}
    assert list(tmp_path.iterdir()) == [path]
