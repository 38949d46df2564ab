"""Weights of PyTorch's PWC-Nets, from the file to the network, and where all weights are from."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.schema import to_yaml
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.weights import STARTED_FROM, WeightsInfo, load_network, load_weights

sys.path.append(str(Path(__file__).parent / "models"))
from torch_reference import LAYOUTS, random_state
from torch_writer import save_2018, save_zip

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


def test_weights_that_are_not_finite_are_refused(
    nvlabs: dict[str, np.ndarray], model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    bias = nvlabs["conv3b.0.bias"].copy()
    bias[5] = np.nan
    path = save_zip(tmp_path / "a.pth", nvlabs | {"conv3b.0.bias": bias})
    with pytest.raises(DataError, match="NaN.*pyramid/conv3b/bias"):
        load_weights(model("official"), path)


def test_a_file_of_another_kind_gets_the_list_of_formats(
    model: Callable[..., PWCNet], tmp_path: Path
) -> None:
    tiny = model("tiny")
    with pytest.raises(
        MissingInputError, match=r"nosuch: no such weights.*\.pth.*ptlflow or mmflow"
    ):
        load_weights(tiny, tmp_path / "nosuch")
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
