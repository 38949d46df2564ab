"""Weights from every place: the right ones, all of them or none, and what is known about them."""

import json
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.schema import BEST_KEY, to_yaml
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.tfoptflow import convert
from pwc_exp.weights import STARTED_FROM, WeightsInfo, load_network, load_weights

sys.path.append(str(Path(__file__).parent / "models"))
from torch_reference import LAYOUTS, random_state
from torch_writer import save_2018, save_zip

Tensors = dict[str, np.ndarray]
Network = Callable[[str], PWCNet]


@pytest.fixture(scope="module")
def original(shared: Path) -> Callable[[str], Tensors]:
    """(sm or lg) -> tfoptflow's variables by their names."""
    return runpy.run_path(str(shared / "parity/make_checkpoint.py"))["weights"]


@pytest.fixture(scope="module")
def built(configure: Callable[..., Any]) -> Network:
    models: dict[str, PWCNet] = {}

    def get(name: str) -> PWCNet:
        if name not in models:
            config = configure("describe", f"model={name}").model
            models[name] = build_model(config, PrecisionConfig(policy=Precision.fp32))
        return models[name]

    return get


@pytest.fixture
def network(built: Network) -> Network:
    """(name) -> the network with every weight 0.5."""

    def get(name: str) -> PWCNet:
        model = built(name)
        for variable in model.variables:
            variable.assign(np.full(variable.shape, 0.5))
        return model

    return get


def is_untouched(model: PWCNet) -> bool:
    return all((variable.numpy() == 0.5).all() for variable in model.variables)


def has(model: PWCNet, tensors: Tensors) -> bool:
    """Whether the weights are the original's `tensors`."""
    weights = convert(tensors)
    values = {v.path.removeprefix("pwcnet/"): v.numpy() for v in model.variables}
    same = (np.array_equal(values[name], weights[name]) for name in weights)
    return values.keys() == weights.keys() and all(same)


def save_tensors(tensors: Mapping[str, np.ndarray], prefix: Path) -> Path:
    """Writes what TensorFlow 1's Saver writes."""
    values = [tf.constant(value) for value in tensors.values()]
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(values),
        tensors=values,
    )
    return prefix


def save_step(
    folder: Path, model: PWCNet, step: int, value: float, metrics: Mapping[str, float]
) -> Path:
    state = {name: np.full(v.shape, value, "f4") for name, v in named(model).items()}
    return checkpoints.save(folder, step=step, state=state, metrics=metrics, fingerprint={})


def named(model: PWCNet) -> dict[str, checkpoints.Variable]:
    return checkpoints.named_state(model)


def test_a_checkpoint_of_the_original_loads_by_its_prefix_or_any_of_its_files(
    original: Callable[[str], Tensors],
    network: Network,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = tmp_path / "pwcnet.ckpt-595000"
    script = shared / "parity/make_checkpoint.py"
    monkeypatch.setattr(sys, "argv", [str(script), "sm", str(prefix)])
    runpy.run_path(str(script), run_name="__main__")
    files = [path for path in tmp_path.iterdir() if path.name.startswith(prefix.name)]
    assert len(files) == 2
    for path in (prefix, *files):
        model = network("sm")
        assert load_weights(model, path).path == prefix
        assert has(model, original("sm"))


def test_what_an_optimizer_and_mixed_precision_kept_is_no_hindrance(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    tensors = {f"fp32_vars/{name}": value for name, value in original("sm").items()}
    slots = {
        f"{name}/{slot}": np.full_like(value, np.nan)
        for name, value in tensors.items()
        for slot in ("Adam", "Adam_1")
    }
    others: Tensors = {"global_step": np.array(7), "beta1_power": np.array(0.5)}
    prefix = save_tensors({**tensors, **slots, **others}, tmp_path / "fp16.ckpt")
    model = network("sm")
    load_weights(model, prefix)
    assert has(model, original("sm"))


def test_a_variable_that_no_network_has_is_refused(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    unknown = {"pwcnet/featpyr/conv9a/gamma/kernel": np.zeros(3, np.float32)}
    prefix = save_tensors({**original("sm"), **unknown}, tmp_path / "new.ckpt")
    model = network("sm")
    with pytest.raises(DataError, match="unknown variable.*featpyr/conv9a/gamma/kernel"):
        load_weights(model, prefix)
    assert is_untouched(model)


def test_weights_of_another_architecture_are_refused_by_name(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    prefix = save_tensors(original("lg"), tmp_path / "lg.ckpt")
    model = network("sm")
    with pytest.raises(DataError) as refused:
        load_weights(model, prefix)
    message = str(refused.value)
    assert str(prefix) in message
    assert "56 unexpected" in message and "context" in message
    assert "of another shape" in message and "(3, 3, 209, 128), not (3, 3, 128, 128)" in message
    assert is_untouched(model)


def test_weights_need_the_conventions_they_were_trained_in(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    prefix = save_tensors({"pwcnet/featpyr/conv1a/bias": np.zeros(16)}, tmp_path / "sm.ckpt")
    model = network("official")
    with pytest.raises(DataError) as refused:
        load_weights(model, prefix)
    for convention in (
        "model.warp_border=edge",
        "model.stride_padding=same",
        "model.upsample_alignment=corner",
        "model.level_units=grid",
    ):
        assert convention in str(refused.value)
    assert is_untouched(model)


def test_a_checkpoint_of_something_else_is_refused(network: Network, tmp_path: Path) -> None:
    model = network("sm")
    prefix = save_tensors({"resnet/conv1/kernel": np.zeros(3)}, tmp_path / "resnet.ckpt")
    with pytest.raises(DataError, match="pwcnet/.*Received: none"):
        load_weights(model, prefix)
    (tmp_path / "damaged.ckpt.index").write_bytes(b"not an index")
    with pytest.raises(DataError, match="not a readable TensorFlow checkpoint"):
        load_weights(model, tmp_path / "damaged.ckpt")
    assert is_untouched(model)


def test_a_weight_that_is_not_finite_is_refused(
    original: Callable[[str], Tensors], network: Network, tmp_path: Path
) -> None:
    tensors = original("sm")
    tensors["pwcnet/featpyr/conv1a/bias"][3] = np.nan
    model = network("sm")
    with pytest.raises(DataError, match="NaN.*conv1a/bias"):
        load_weights(model, save_tensors(tensors, tmp_path / "nan.ckpt"))
    assert is_untouched(model)


def test_a_runs_weights_are_its_best_and_otherwise_its_last(
    network: Network, tmp_path: Path
) -> None:
    model, folder = network("tiny"), tmp_path / "checkpoints"
    save_step(folder, model, 1, 0.1, {})
    last = save_step(folder, model, 2, 0.2, {})
    assert load_weights(model, tmp_path).path == last
    assert model.variables[0].numpy().flat[0] == np.float32(0.2)
    best = save_step(folder, model, 3, 0.3, {BEST_KEY: 2.0})
    save_step(folder, model, 4, 0.4, {BEST_KEY: 2.5})
    assert load_weights(model, tmp_path).path == best
    assert model.variables[-1].numpy().flat[0] == np.float32(0.3)


def test_a_checkpoint_or_its_file_alone_will_do(network: Network, tmp_path: Path) -> None:
    model = network("tiny")
    path = save_step(tmp_path, model, 3, 0.25, {})
    for place in (path, path / checkpoints.STATE_FILE):
        network("tiny")
        assert load_weights(model, place).path == place
        assert all((v.numpy() == 0.25).all() for v in model.variables)


def test_the_optimizers_variables_are_left_where_they_are(network: Network, tmp_path: Path) -> None:
    model = network("tiny")
    arrays = {name: np.full(v.shape, 0.75, "f4") for name, v in named(model).items()}
    arrays["optimizer/adam/iteration"] = np.array(7)
    safetensors.numpy.save_file(arrays, tmp_path / "tiny.safetensors")
    load_weights(model, tmp_path / "tiny.safetensors")
    assert model.variables[0].numpy().flat[0] == 0.75


FP32 = PrecisionConfig(policy=Precision.fp32)
FULL: dict[str, Any] = {
    "pyramid": (16, 32, 64, 96, 128, 196),
    "estimator": (128, 128, 96, 64, 32),
    "context": (128, 128, 128, 96, 64, 32),
}


@pytest.fixture(scope="module")
def model(configure: Callable[..., Any]) -> Callable[..., PWCNet]:
    def build(name: str, *overrides: str) -> PWCNet:
        keras.config.set_dtype_policy("float32")
        return build_model(configure("describe", f"model={name}", *overrides).model, FP32)

    return build


@pytest.fixture(scope="module")
def nvlabs() -> dict[str, np.ndarray]:
    state = random_state(LAYOUTS["nvlabs"], **FULL)
    deconv2 = {"weight": np.ones((2, 2, 4, 4), np.float32), "bias": np.ones(2, np.float32)}
    return state | {f"deconv2.{kind}": value for kind, value in deconv2.items()}


def test_nvlabs_file_of_2018_loads_exactly_and_says_what_it_is(
    nvlabs: dict[str, np.ndarray], model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    path = save_2018(tmp_path / "pwc_net.pth.tar", nvlabs)
    official = model("official")
    origin = load_weights(official, path)
    values = {v.path.removeprefix("pwcnet/"): v.numpy() for v in official.variables}
    # By hand: BGR to RGB, kernels [H, W, in, out] and the names of level 6, deconvolutions.
    first = values["pyramid/conv1a/kernel"]
    np.testing.assert_array_equal(first[1, 2, 0], nvlabs["conv1a.0.weight"][:, 2, 1, 2])
    np.testing.assert_array_equal(
        values["pyramid/conv6a/kernel"], nvlabs["conv6aa.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        values["up_features3/kernel"][3, 0], nvlabs["upfeat3.weight"][:, :, 3, 0].T
    )
    np.testing.assert_array_equal(values["context2/conv7/bias"], nvlabs["dc_conv7.bias"])
    assert origin.path == path and origin.project == "NVlabs/PWC-Net"
    assert origin.format == "PyTorch file" and origin.licence == "CC BY-NC-SA 4.0"
    assert origin.restricted and len(origin.sha256) == 64
    assert json.loads(json.dumps(origin.record()))["path"] == str(path)


@pytest.mark.parametrize(
    ("layout", "name"),
    [("ptlflow", "official"), ("ptlflow nodc", "official-nodc"), ("mmflow", "official")],
)
def test_the_networks_of_other_projects_build(
    layout: str, name: str, model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    path = save_zip(tmp_path / "a.ckpt", random_state(LAYOUTS[layout], **FULL), epoch=1)
    load_weights(model(name), path)


def test_the_model_that_weights_are_for_is_named(
    nvlabs: dict[str, np.ndarray], model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    path = save_zip(tmp_path / "a.pth", nvlabs)
    with pytest.raises(DataError, match=r"a.pth \(those of model=official\) holds .*context2"):
        load_weights(model("official-nodc"), path)
    with pytest.raises(DataError, match="NVlabs.*have model.warp_border=zero.*level_units=scaled"):
        load_weights(model("sm"), path)
    with pytest.raises(DataError, match="have model.normalize_features=false"):
        load_weights(model("official", "model.normalize_features=true"), path)


def test_a_file_of_another_kind_gets_the_list_of_formats(
    model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    tiny = model("tiny")
    with pytest.raises(
        MissingInputError, match=r"nosuch: no such weights.*\.pth.*ptlflow or mmflow"
    ):
        load_weights(tiny, tmp_path / "nosuch")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(MissingInputError, match="checkpoints must hold a checkpoint"):
        load_weights(tiny, tmp_path)
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF")
    with pytest.raises(
        DataError, match=r"weights.h5 is not a known kind.*Expected: .*a run.*mmflow"
    ):
        load_weights(tiny, tmp_path / "weights.h5")
    path = save_zip(tmp_path / "raft.pth", {"fnet.conv1.weight": np.ones((2, 3, 7, 7), np.float32)})
    with pytest.raises(DataError, match="PWC-Net as of NVlabs.*mmflow.*fnet.conv1.weight"):
        load_weights(tiny, path)


@pytest.fixture
def run_dir(model: Callable[..., PWCNet], configure: Callable[..., Any], tmp_path: Path) -> Path:
    """A run of the tiny network on Sintel, with one checkpoint."""
    config = configure("train", "model=tiny", "data=sintel", "data.root=.")
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    state = checkpoints.named_state(model("tiny"))
    checkpoints.save(tmp_path / "checkpoints", step=3, state=state, metrics={}, fingerprint={})
    return tmp_path


def write_record(run_dir: Path, origin: WeightsInfo) -> None:
    record = {"name": "a", "run_uid": "b", "started": "c", "datasets": [], "resumed": []}
    further = {"ended": None, "replay_mismatches": 0, STARTED_FROM: json.dumps(origin.record())}
    (run_dir / "run.json").write_text(json.dumps({**record, **further}))


def test_a_runs_weights_know_their_data_and_what_they_started_from(
    run_dir: Path, model: Callable[..., PWCNet]
) -> None:
    origin = load_weights(model("tiny"), run_dir)
    assert origin.project == "pwc_exp" and origin.started_from is None
    assert origin.data[0].startswith("sintel (none stated by its authors")
    assert not origin.restricted and origin.notice() is None
    before = WeightsInfo(
        path=Path("x.pth"), sha256="0", format="", project="NVlabs", licence="CC BY-NC"
    )
    write_record(run_dir, before)
    after = load_weights(model("tiny"), run_dir)
    assert after.restricted
    assert "started from those of NVlabs, CC BY-NC" in str(after.notice())
    for _ in range(5):  # of one run after the other
        write_record(run_dir, load_weights(model("tiny"), run_dir))
    last = load_weights(model("tiny"), run_dir)
    assert last.restricted and len(json.dumps(last.record())) < 2000


def test_a_runs_weights_need_the_conventions_of_the_run(
    run_dir: Path, model: Callable[..., PWCNet]
) -> None:
    with pytest.raises(DataError, match="its run has model.normalize_features=true"):
        load_weights(
            model("tiny", "model.normalize_features=false"), run_dir / "checkpoints/step-00000003"
        )


def test_a_file_alone_says_nothing_of_its_licence(
    run_dir: Path, model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    origin = load_weights(model("tiny"), run_dir / "checkpoints/step-00000003/state.safetensors")
    assert origin.licence == "not stated" and origin.data == ()


def test_a_network_tells_on_stderr_what_restricts_its_use(
    nvlabs: dict[str, np.ndarray],
    configure: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save_zip(tmp_path / "a.pth", nvlabs)
    config = configure("describe", "model=official").model
    network = load_network(run=None, weights=str(path), model=config, precision=None)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("weights of NVlabs/PWC-Net, CC BY-NC-SA 4.0; trained on FlyingChairs")
    assert network.source == network.info.path == path
