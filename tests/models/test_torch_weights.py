"""PyTorch files: weights are read exactly, converted networks give the flow of the originals.

Everything else in a file is refused, and nothing in it is run.
"""

import copyreg
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hostile import hostile_files
from hostile_programs import CALLS, live_pickle
from torch_reference import LAYOUTS, flows, random_state
from torch_writer import Weight, in_one_row, name, pickled, save_2018, save_zip, zipped

from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.models.torch_weights import (
    MMFLOW,
    NVLABS,
    PTLFLOW,
    convert,
    is_torch_file,
    read_state_dict,
)

ARRAYS: dict[str, np.ndarray] = {
    "conv1a.0.weight": np.arange(16 * 3 * 9, dtype=np.float32).reshape(16, 3, 3, 3),
    "conv1a.0.bias": np.linspace(-1, 1, 16).astype(np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "steps": np.array(7, dtype=np.int64),
}


def same(read: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> bool:
    return list(read) == list(arrays) and all(
        np.array_equal(read[key], arrays[key]) and read[key].dtype == arrays[key].dtype
        for key in arrays
    )


@pytest.mark.parametrize("save", [save_zip, save_2018], ids=["zip", "2018"])
@pytest.mark.parametrize(
    "around",
    [{}, {"epoch": 3, "best_EPE": 2.5, "arch": "pwc_dc_net", "hooks": None, "ok": True}],
    ids=["alone", "in a dictionary"],
)
def test_a_state_dict_is_read_exactly(save: Any, around: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / "pwc_net.pth.tar", ARRAYS, **around)
    assert is_torch_file(path)
    assert same(read_state_dict(path), ARRAYS)


def test_names_of_data_parallel_and_other_keys_are_understood(tmp_path: Path) -> None:
    wrapped = {f"module.{key}": value for key, value in ARRAYS.items()}
    assert same(read_state_dict(save_zip(tmp_path / "a.pt", wrapped, epoch=1)), ARRAYS)
    content = pickled({"model": {"state_dict": {"x": Weight("0", ARRAYS["half"])}}})
    (tmp_path / "b.pt").write_bytes(zipped(content, {"0": ARRAYS["half"].tobytes()}))
    assert same(read_state_dict(tmp_path / "b.pt"), {"x": ARRAYS["half"]})


def test_settings_beside_weights_are_passed_over(tmp_path: Path) -> None:
    settings = b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00mdK\x04sb"
    state = pickled(OrderedDict(x=Weight("0", ARRAYS["half"])))[2:-1]
    content = b"\x80\x02}(X\x04\x00\x00\x00args" + settings
    content += b"X\x0a\x00\x00\x00state_dict" + state + b"u."
    (tmp_path / "a.ckpt").write_bytes(zipped(content, {"0": ARRAYS["half"].tobytes()}))
    assert same(read_state_dict(tmp_path / "a.ckpt"), {"x": ARRAYS["half"]})


def test_views_and_transposed_tensors_are_read(tmp_path: Path) -> None:
    row = np.arange(12, dtype=np.float32)
    reference = b"(X\x07\x00\x00\x00storage" + name("torch", "FloatStorage")
    reference += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0c"
    view = b"(X\x01\x00\x00\x00vK\x02K\x08t"  # 8 numbers from the third on
    shape = b"K\x01K\x02K\x03\x86K\x01K\x02\x86"  # offset 1, shape (2, 3), strides (1, 2)
    made = name("torch._utils", "_rebuild_tensor") + b"(" + reference + view + b"tQ" + shape + b"tR"
    content = b"\x80\x02}X\x01\x00\x00\x00x" + made + b"s."
    (tmp_path / "a.pth").write_bytes(in_one_row(content, {"0": (12, row.tobytes())}))
    (array,) = read_state_dict(tmp_path / "a.pth").values()
    np.testing.assert_array_equal(array, row[3:9].reshape(3, 2).T)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_what_pytorch_saves_is_read_exactly(new: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ConvTranspose2d(8, 2, 4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    expected = {key: value.numpy() for key, value in model.state_dict().items()}
    assert same(read_state_dict(tmp_path / "a.pth"), expected)


def test_every_hostile_file_is_refused_in_one_line_and_none_is_run(tmp_path: Path) -> None:
    target, path = tmp_path / "was-run", tmp_path / "hostile.pth"
    count = 0
    before = set(sys.modules)
    for label, content in hostile_files(str(target)):
        path.write_bytes(content)
        with pytest.raises(DataError) as refused:
            pytest.fail(f"{label}: read as {read_state_dict(path)}")
        message = str(refused.value)
        assert message.startswith(str(path)) and "\n" not in message and len(message) < 400, label
        assert not target.exists(), label
        count += 1
    assert count >= 250
    assert not {"antigravity", "torch", "pip", "pdb"} & (set(sys.modules) - before)


def test_a_function_that_another_module_registered_as_a_number_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    monkeypatch.setitem(copyreg._extension_cache, 1, lambda: called.append(1))  # type: ignore[attr-defined]
    (tmp_path / "a.pth").write_bytes(zipped(b"\x80\x02\x82\x01)R.", {}))
    with pytest.raises(DataError, match="names the extension 1"):
        read_state_dict(tmp_path / "a.pth")
    assert not called


def test_the_programs_among_them_are_live(tmp_path: Path) -> None:
    """Otherwise it would mean nothing that none is run."""
    known = {"os.system", "subprocess.call", "builtins.exec", "builtins.open", "os.mkdir"}
    calls = [call for call in CALLS if f"{call[0]}.{call[1]}" in known]
    assert len(calls) == len(known)
    for call in calls:
        target, path = tmp_path / f"made-by-{call[1]}", tmp_path / "live.pkl"
        path.write_bytes(live_pickle(call, str(target)))
        program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-I", "-c", program, path], check=True)
        assert target.exists(), call


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    marks = ("bomb", "2^", "stride", "doubled", "hash", "lie")
    bombs = [item for item in hostile_files("x") if any(mark in item[0] for mark in marks)]
    assert len(bombs) > 20
    for label, content in bombs:
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DataError):
            read_state_dict(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20 + 3 * len(content), label


@pytest.mark.parametrize("save", [save_zip, save_2018], ids=["zip", "2018"])
def test_a_flipped_bit_changes_values_or_is_refused(save: Any, tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.pth", ARRAYS, epoch=3).read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "flipped.pth"
    refused = 0
    for place in rng.choice(len(whole), 300, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            arrays = read_state_dict(path)
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
    assert refused > 30


def test_missing_and_other_files_are_told_from_pytorchs(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nosuch.pth"):
        read_state_dict(tmp_path / "nosuch.pth")
    for content in (b"<!DOCTYPE html>", b""):
        (tmp_path / "a").write_bytes(content)
        assert not is_torch_file(tmp_path / "a")


SIZES: dict[str, Any] = {
    "pyramid": (3, 4, 5, 6, 7, 8),
    "estimator": (6, 5, 4, 3, 3),
    "context": (5, 5, 4, 4, 3, 3),
}
MODELS = {
    "nvlabs": (NVLABS, "official"),
    "nvlabs old": (NVLABS, "official-old"),
    "ptlflow": (PTLFLOW, "official"),
    "ptlflow nodc": (PTLFLOW, "official-nodc"),
    "mmflow": (MMFLOW, "official"),
}


def original(name: str) -> dict[str, np.ndarray]:
    """A small state_dict; NVlabs' has a layer that it does not use."""
    state = random_state(LAYOUTS[name], **SIZES)
    if name.startswith("nvlabs"):
        state["deconv2.weight"] = np.ones((2, 2, 4, 4), np.float32)
        state["deconv2.bias"] = np.ones(2, np.float32)
    return state


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_converted_network_gives_the_flows_of_the_original(
    name: str, configure: Callable[..., Any]
) -> None:
    state = original(name)
    converted = convert(state, source="file")
    assert (converted.project, converted.fits) == MODELS[name]
    keras.config.set_dtype_policy("float32")
    parts = {"feature": "pyramid", "estimator": "estimator", "context": "context"}
    sizes = [f"model.{part}_channels={list(SIZES[key])}" for part, key in parts.items()]
    config = configure("describe", f"model={converted.fits}", *sizes).model
    model = build_model(config, PrecisionConfig(policy=Precision.fp32))
    variables = {v.path.removeprefix("pwcnet/"): v for v in model.variables}
    assert variables.keys() == converted.weights.keys()
    for key, variable in variables.items():
        variable.assign(converted.weights[key])
    coarse = np.random.default_rng(3).random((2, 16, 24, 3)).astype(np.float32)
    first, second = (np.kron(frame, np.ones((8, 8, 1), np.float32)) for frame in coarse)
    frames = first, 0.5 * first + 0.5 * second
    expected = flows(state, LAYOUTS[name], *frames)
    for level, flow in model(tuple(frame[None] for frame in frames)).items():
        target = expected[level].transpose(1, 2, 0)
        np.testing.assert_allclose(flow[0], target, atol=2e-5 * max(1.0, np.abs(target).max()))
        assert np.abs(target).max() > 0.05  # or later levels would not matter


def test_a_network_of_the_right_size_takes_every_weight() -> None:
    state = random_state(
        LAYOUTS["nvlabs"],
        pyramid=(16, 32, 64, 96, 128, 196),
        estimator=(128, 128, 96, 64, 32),
        context=(128, 128, 128, 96, 64, 32),
    )
    weights = convert(state, source="file").weights
    assert sum(value.size for value in weights.values()) == 9_374_274


FIRST = "conv1a.0.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {"update.weight": state[FIRST]}, "PWC-Net as of .*update.weight"),
        (lambda state: {**state, "fnet.0.weight": state[FIRST]}, "'fnet.0.weight'"),
        (lambda state: {**state, FIRST: np.ones((3, 3, 3, 3, 1))}, f"{FIRST} must"),
        (lambda state: {**state, "conv1a.0.bias": np.ones(3, int)}, "conv1a.0.bias must"),
        (lambda state: {k: v for k, v in state.items() if k != FIRST}, "Received"),
    ],
    ids=["another network", "a further layer", "dimensions", "integers", "the first is missing"],
)
def test_what_no_known_network_has_is_refused(
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], said: str
) -> None:
    with pytest.raises(DataError, match=rf"^some\.pth.*{said}"):
        convert(change(original("nvlabs")), source="some.pth")


def test_kernels_that_do_not_fit_together_are_refused() -> None:
    state = original("nvlabs old")
    layer = LAYOUTS["nvlabs old"].head(3)
    state[f"{layer}.weight"] = state[f"{layer}.weight"][:, :40]
    with pytest.raises(DataError, match=r"^some\.pth .* do not fit together$"):
        convert(state, source="some.pth")
