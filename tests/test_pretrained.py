"""Weights that ship: found by their name, checked against their card, in the right precision."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy
import skimage
from small_runs import COMPLETE

import pwc_exp
from pwc_exp import checkpoints, pretrained, storage, weights
from pwc_exp.build import build_model
from pwc_exp.cli import check_places
from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.config.training import InferencePrecision, Precision
from pwc_exp.errors import ConfigError, DataError, MissingInputError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.pretrained import Card, Result, Stage, TrainingData, select
from pwc_exp.training.health import spread_over_inputs
from pwc_exp.weights import choose_precision, load_network, load_weights

Configure = Callable[..., Any]
MOVES = "bfloat16 moves the flow by"


@pytest.fixture
def model(configure: Configure) -> PWCNet:
    config = configure("train", *COMPLETE)
    keras.utils.set_random_seed(5)
    return build_model(config.model, config.precision)


def ship(model: PWCNet, configure: Configure, path: Path, **values: Any) -> Path:
    """Writes the weights of `model` in float16, with their card."""
    state = checkpoints.named_state(model)
    halved = {name: np.asarray(variable).astype("f2") for name, variable in state.items()}
    path.write_bytes(safetensors.numpy.save(halved))
    facts: dict[str, Any] = {
        "network": configure("describe", *COMPLETE, "size=[64,64]").model,
        "parameters": model.count_params(),
        "sha256": storage.sha256_of(path),
        "stages": [Stage(run="first", steps=100, hours=0.5), Stage(run="second")],
        "data": [TrainingData(name="synthetic", licence="MIT")],
        "licence": "MIT",
        "bfloat16_error": 0.01,
    }
    pretrained.write_card(path, Card(**facts | values))
    return path


@pytest.fixture
def shipped(
    model: PWCNet, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder in the place of the package's, with `small` and `fast`."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    for name in ("small", "fast"):
        ship(model, configure, folder / f"{name}.safetensors")
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


def selected(weights: str | None = None, model: Any = None) -> pretrained.Selection:
    return select(run=None, weights=weights, model=model)


def test_a_name_means_a_file_of_the_package_and_the_model_of_its_card(
    shipped: Path, configure: Configure
) -> None:
    found = selected("fast")
    assert (found.path, found.shipped) == (shipped / "fast.safetensors", "fast")
    assert found.model == configure("describe", *COMPLETE, "size=[64,64]").model


def test_without_a_name_the_first_of_small_and_fast_that_ships_is_used(shipped: Path) -> None:
    assert selected().shipped == "small"
    (shipped / "small.safetensors").unlink()
    assert selected().shipped == "fast"
    (shipped / "fast.safetensors").unlink()
    with pytest.raises(ConfigError, match="run or weights must be given.*Received: none"):
        selected()


@pytest.mark.parametrize("command", ["predict", "export", "serve"])
def test_commands_that_need_no_weights_named_say_so_when_none_ship(
    command: str, shipped: Path, configure: Configure
) -> None:
    places = {"predict": ["frames=."], "export": ["out=o"], "serve": []}
    config = configure(command, *places[command])
    check_places(config, Path())
    for path in shipped.iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="run or weights must be given"):
        check_places(config, Path())


@pytest.mark.parametrize("command", ["predict", "train"])
def test_an_unknown_name_is_refused_with_the_known_ones(
    command: str, shipped: Path, configure: Configure
) -> None:
    key = "init_from" if command == "train" else "weights"
    more = ["frames=."] if command == "predict" else []
    check_places(configure(command, f"{key}=small", *more), Path("outputs"))
    line = f"{key}: no such file or folder: smal. Shipped weights: fast, small; or give a path"
    with pytest.raises(MissingInputError, match=line):
        check_places(configure(command, f"{key}=smal", *more), Path("outputs"))


def test_a_model_that_contradicts_the_card_is_refused(shipped: Path, configure: Configure) -> None:
    network = configure("describe", *COMPLETE, "size=[64,64]").model
    selected("small", dataclasses.replace(network, name="other"))
    contradiction = dataclasses.replace(network, search_range=3)
    line = r"weights=small have search_range=4\. Received: search_range=3$"
    with pytest.raises(ConfigError, match=line):
        selected("small", contradiction)


def test_weights_that_say_nothing_of_their_model_need_one(tmp_path: Path) -> None:
    (tmp_path / "bare.safetensors").touch()
    with pytest.raises(ConfigError, match=r"model must be chosen: weights=.*bare.safetensors"):
        selected(f"{tmp_path}/bare.safetensors")


def test_a_run_says_which_model_its_weights_are_for(configure: Configure, tmp_path: Path) -> None:
    config = configure("train", *COMPLETE, "precision=bf16")
    (tmp_path / CONFIG_FILE).write_text(to_yaml(config))
    checkpoint = tmp_path / "checkpoints/step-00000003"
    checkpoint.mkdir(parents=True)
    for place in (tmp_path, checkpoint):
        found = selected(str(place))
        assert (found.path, found.model, found.precision) == (place, config.model, config.precision)
        with pytest.raises(ConfigError, match="model must be that of the weights"):
            selected(str(place), dataclasses.replace(config.model, search_range=2))


def test_weights_in_float16_are_loaded_in_float32(
    model: PWCNet, shipped: Path, configure: Configure
) -> None:
    expected = [np.asarray(variable).astype("f2").astype("f4") for variable in model.variables]
    assert load_weights(model, Path("small")).path == shipped / "small.safetensors"
    for variable, value in zip(model.variables, expected, strict=True):
        assert variable.dtype == "float32"
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_damaged_file_is_refused_with_both_sums(model: PWCNet, shipped: Path) -> None:
    path = shipped / "small.safetensors"
    card = pretrained.card_of(path)
    assert card is not None
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    sums = f"small.safetensors is damaged.*{card.sha256}. Received: {storage.sha256_of(path)}"
    with pytest.raises(DataError, match=sums):
        load_weights(model, Path("small"))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("sha256: ", "sha256: 0", "sha256 must be 64 hexadecimal digits"),
        ("licence: MIT\nf", "f", "licence"),
        ("parameters:", "paramters:", "paramters"),
        ("levels: 3", "levels: three", "levels|three"),
        ("levels: 3", "levels: ${oc.env:HOME}", "interpolations and aliases are refused"),
        ("hours: 0.5", "hours: -1", "stages.hours must be at least 0"),
    ],
)
def test_an_invalid_card_is_refused_by_its_path(
    shipped: Path, old: str, new: str, line: str
) -> None:
    place = shipped / "small.yaml"
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=f"small.yaml: not the card of weights; .*({line})"):
        selected("small")


def test_shipped_weights_without_a_card_are_refused(shipped: Path) -> None:
    (shipped / "small.yaml").unlink()
    with pytest.raises(MissingInputError, match=r"small.yaml: no such file; the card of weights"):
        selected("small")


def test_a_card_is_read_as_it_was_written(shipped: Path, tmp_path: Path) -> None:
    card = pretrained.card_of(shipped / "small.safetensors")
    assert card is not None
    card.add(Result(name="a", pairs=1, pixels=10, aepe=1.5, bfloat16_error=0.1, command="c"))
    shutil.copy(shipped / "small.safetensors", tmp_path / "copy.safetensors")
    pretrained.write_card(tmp_path / "copy.safetensors", card)
    assert pretrained.card_of(tmp_path / "copy.safetensors") == card


def test_the_bfloat16_error_of_a_card_is_a_mean_over_pixels_and_a_set_counts_once(
    shipped: Path,
) -> None:
    card = pretrained.card_of(shipped / "small.safetensors")
    assert card is not None
    for name, pixels, error in (("a", 100, 9.0), ("b", 300, 0.2), ("a", 100, 0.6)):
        card.add(
            Result(name=name, pairs=1, pixels=pixels, aepe=1, bfloat16_error=error, command="c")
        )
    assert [result.name for result in card.results] == ["b", "a"]
    assert card.bfloat16_error == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("hardware", "error", "chosen"),
    [
        (False, 0.01, (Precision.fp32, "this processor has no bfloat16 arithmetic")),
        (True, 0.049, (Precision.bf16, f"{MOVES} 0.049 px")),
        (True, 0.05, (Precision.fp32, f"{MOVES} 0.050 px, 0.05 px or more")),
        (True, None, (Precision.fp32, "no card says how far bfloat16 moves the flow")),
    ],
)
def test_auto_takes_bfloat16_where_it_is_fast_and_accurate(
    shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    hardware: bool,
    error: float | None,
    chosen: tuple[Precision, str],
) -> None:
    monkeypatch.setattr(weights.machine, "has_bfloat16", lambda: hardware)
    card = pretrained.card_of(shipped / "small.safetensors")
    assert card is not None
    card.bfloat16_error = error
    assert choose_precision(card) == chosen
    assert choose_precision(None)[0] is Precision.fp32


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True)])
def test_with_a_gpu_its_arithmetic_decides_and_not_the_processors(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], has: bool
) -> None:
    monkeypatch.setattr(weights.machine, "has_bfloat16", lambda: not has)
    config = weights.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: ["a GPU"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
    chosen, reason = choose_precision(pretrained.card_of(shipped / "small.safetensors"))
    assert (chosen is Precision.bf16) == has
    assert has or reason == "this GPU has no bfloat16 arithmetic"


def test_the_default_weights_and_the_precision_that_auto_decides_are_named(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights.machine, "has_bfloat16", lambda: True)
    try:
        network = load_network(
            run=None, weights=None, model=None, precision=InferencePrecision.auto
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.model.compute_dtype == "bfloat16"
    assert network.info.licence == "MIT" and network.info.data == ("synthetic (MIT)",)
    assert capsys.readouterr().out.splitlines() == [
        "weights: small (shipped, 0.0M parameters)",
        "precision: bfloat16 (bfloat16 moves the flow by 0.010 px)",
    ]


def test_a_given_precision_wins_over_that_of_the_run(
    model: PWCNet, configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("train", *COMPLETE, "precision=fp16")
    (tmp_path / CONFIG_FILE).write_text(to_yaml(config))
    state = checkpoints.named_state(model)
    checkpoints.save(tmp_path / "checkpoints", step=1, state=state, metrics={}, fingerprint={})
    expected = {
        None: "mixed_float16",
        InferencePrecision.fp32: "float32",
        InferencePrecision.bf16: "mixed_bfloat16",
    }
    try:
        for precision, policy in expected.items():
            run = str(tmp_path)
            network = load_network(run=run, weights=None, model=None, precision=precision)
            assert network.model.dtype_policy.name == policy
    finally:
        keras.config.set_dtype_policy("float32")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", pretrained.names() or [None])
def test_what_ships_is_small_intact_and_described(name: str | None) -> None:
    if name is None:
        pytest.skip("no weights ship")
    path = pretrained.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= 10e6
    card = pretrained.card_of(path)
    assert card is not None
    pretrained.verify(path, card)
    assert card.stages and card.data and card.results
    assert card.bfloat16_error is not None


@pytest.mark.parametrize("name", pretrained.names() or [None])
def test_every_level_of_what_ships_depends_on_the_frames(name: str | None) -> None:
    if name is None:
        pytest.skip("no weights ship")
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.astronaut()[200:]]
    motions = np.array([(24, 0), (0, -24), (-16, 16)])  # (x, y) px
    frame1 = np.stack([photograph[30:222, 40:232] for photograph in photographs])
    frame2 = np.stack(
        [
            photograph[30 - y : 222 - y, 40 - x : 232 - x]
            for photograph, (x, y) in zip(photographs, motions, strict=True)
        ]
    )
    levels = pwc_exp.load(name, "fp32").levels(frame1, frame2)
    spreads = spread_over_inputs(levels)
    true = spread_over_inputs({0: motions.reshape(3, 1, 1, 2)})[0]
    print(f"{name}: spread of the flow in px, true {true:.1f}", spreads)
    assert min(spreads.values()) > 2.0
    assert all(0.8 < spreads[level] / true < 1.2 for level in (4, 3, 2))
    centres = levels[2][:, 12:36, 12:36].mean(axis=(1, 2))
    np.testing.assert_allclose(centres, motions, atol=2.0)


@pytest.mark.parametrize("command", ["predict", "serve", "evaluate", "submit"])
def test_the_precision_of_inference_is_chosen_like_that_of_training(
    configure: Configure, command: str
) -> None:
    needed = {
        "predict": ("frames=[a,b]",),
        "evaluate": ("data=synthetic", "estimate=zero"),
        "submit": ("benchmark=sintel", "root=there", "weights=there"),
    }.get(command, ())
    for choice in InferencePrecision:
        assert configure(command, *needed, f"precision={choice}").precision.policy is choice
    default = InferencePrecision.auto if command in ("predict", "serve") else None
    assert configure(command, *needed).precision.policy is default
