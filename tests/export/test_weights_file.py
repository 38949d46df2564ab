"""Weights in float16 with a card: what is written, what the card says, and what is measured."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_runs import COMPLETE

from pwc_exp import checkpoints, pretrained
from pwc_exp.build import build_model
from pwc_exp.config.schema import BEST_KEY, CONFIG_FILE, to_yaml
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.errors import ConfigError, DataError, OutputError
from pwc_exp.evaluation.evaluator import evaluate
from pwc_exp.export import weights_file
from pwc_exp.export.formats import Shape
from pwc_exp.export.weights_file import export_weights, measure
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.pretrained import Card
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Point
from pwc_exp.weights import STARTED_FROM, load_weights

SMALL = (
    *COMPLETE,
    "data.crop=[32,48]",
)
COMMAND = "python -m pwc_exp.train 'name=a b' 'hydra.run.dir=/somewhere'"
FLOW = weights_file._flow
Configure = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds in which a network is compiled, to see what rounding moves."""
    monkeypatch.setattr(weights_file, "_flow", lambda model: np.zeros((1, 2, 2, 2)))


@pytest.fixture
def model(configure: Configure) -> PWCNet:
    config = configure("train", *SMALL)
    keras.utils.set_random_seed(6)
    return build_model(config.model, config.precision)


def make_run(
    folder: Path, model: PWCNet, config: Any, about: Mapping[str, str] | None = None
) -> Path:
    """A run that was interrupted for hours: steps 2 (best) and 5 are kept, 9 was the last."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(to_yaml(config))
    state = checkpoints.named_state(model)
    for step, factor in ((2, 1.0), (5, 2.0)):
        checkpoints.save(
            folder / "checkpoints",
            step=step,
            state={name: factor * np.asarray(variable) for name, variable in state.items()},
            metrics={BEST_KEY: factor},
            fingerprint={"devices": "1 CPU", "processor": "some"},
        )
    for step, hour in ((2, "10:30"), (3, "11:00"), (5, "20:30"), (9, "23:00")):
        moment = datetime.fromisoformat(f"2026-01-01T{hour}:00+0000")
        journal.append(folder / journal.FILE, Point(step, int(moment.timestamp() * 1000), {"a": 1}))
    record = {
        **{"name": f"train/{folder.name}", "run_uid": "b", "command": COMMAND},
        **{"started": "2026-01-01T10:00:00+0000", "datasets": [], "ended": None},
        "resumed": [{"step": 3, "time": "2026-01-01T20:00:00+0000", "changes": {}}],
        "replay_mismatches": 0,
    }
    (folder / "run.json").write_text(json.dumps({**record, **(about or {})}))
    return folder


@pytest.fixture
def run_dir(model: PWCNet, configure: Configure, tmp_path: Path) -> Path:
    return make_run(tmp_path / "first", model, configure("train", *SMALL))


@pytest.fixture
def flow(no_flow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's own flow, of a small pair."""
    monkeypatch.setattr(weights_file, "_flow", FLOW)
    monkeypatch.setattr(weights_file, "COMPARED", Shape(1, 48, 64))


def exported(configure: Configure, out: Path, *overrides: str) -> Card:
    export_weights(configure("export_weights", f"out={out}", *overrides))
    card = pretrained.card_of(out)
    assert card is not None
    return card


@pytest.mark.usefixtures("flow")
def test_the_best_checkpoint_is_written_in_float16_and_read_without_a_model(
    run_dir: Path, configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep/net.safetensors"
    card = exported(configure, out, f"run={run_dir}")
    saved = checkpoints.load(run_dir / "checkpoints/step-00000002").arrays
    arrays = checkpoints.load(out).arrays
    assert arrays.keys() == saved.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, saved[name].astype(np.float16))
    selection = pretrained.select(run=None, weights=str(out), model=None)
    assert selection.model == configure("train", *SMALL).model
    assert card.float16_error is not None and 0 < card.float16_error < 0.1
    assert f"sha256 {card.sha256}" in capsys.readouterr().out


def test_the_card_says_how_the_weights_were_trained(
    run_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    card = exported(configure, tmp_path / "best.safetensors", f"run={run_dir}")
    (stage,) = card.stages
    assert (stage.run, stage.steps, stage.hours) == ("train/first", 2, 0.5)
    assert (stage.machine, stage.command) == ("1 CPU, some", "python -m pwc_exp.train 'name=a b'")
    assert [(each.name, each.licence) for each in card.data] == [("synthetic", "MIT")]
    assert card.licence == "MIT"
    last = exported(configure, tmp_path / "last.safetensors", f"run={run_dir}", "checkpoint=last")
    assert (last.stages[0].steps, last.stages[0].hours) == (5, 1.5)  # without the interruption


def test_the_card_goes_back_to_the_first_weights_as_far_as_they_are_found(
    run_dir: Path, model: PWCNet, configure: Configure, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    exported(configure, copy, f"run={run_dir}")
    for start, name in ((run_dir, "of_run"), (copy, "of_copy")):
        origin = json.dumps(load_weights(model, start).record())
        config = configure("train", *SMALL)
        second = make_run(tmp_path / name, model, config, {STARTED_FROM: origin})
        card = exported(configure, tmp_path / f"{name}.safetensors", f"run={second}")
        assert [stage.run for stage in card.stages] == ["train/first", f"train/{name}"]
        assert (len(card.data), card.licence) == (1, "MIT")
    for path in run_dir.iterdir():
        path.rename(path.with_name(f"{path.name}.gone"))
    card = exported(configure, tmp_path / "later.safetensors", f"run={tmp_path / 'of_run'}")
    assert card.stages[0].run == "first/checkpoints/step-00000002"
    assert card.stages[0].steps is None and card.licence != "MIT"


def test_weights_that_saw_other_pictures_or_data_are_not_under_the_licence_of_the_code(
    model: PWCNet, configure: Configure, tmp_path: Path
) -> None:
    for name, choice in (
        ("textures", ["data.textures=holidays"]),
        ("sintel", ["data=sintel", "data.root=."]),
    ):
        run = make_run(tmp_path / name, model, configure("train", *choice, *SMALL))
        card = exported(configure, tmp_path / f"{name}.safetensors", f"run={run}")
        assert card.licence == "that of the data it was trained on"
    chosen = (f"run={tmp_path}/sintel", "licence=mine")
    assert exported(configure, tmp_path / "mine.safetensors", *chosen).licence == "mine"


def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    run_dir: Path, model: PWCNet, configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "net.yaml").write_text("mine")
    with pytest.raises(OutputError, match="net.yaml is there already"):
        exported(configure, tmp_path / "net.safetensors", f"run={run_dir}")
    model.variables[0].assign(np.full(model.variables[0].shape, 1e5))
    run = make_run(tmp_path / "large", model, configure("train", *SMALL))
    with pytest.raises(DataError, match="too large for float16, in model/pwcnet/"):
        exported(configure, tmp_path / "other.safetensors", f"run={run}")
    assert not list(tmp_path.glob("*.safetensors"))


def test_choices_that_mean_nothing_are_refused(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out must be a file that ends with .safetensors"):
        configure("export_weights", "run=r", "out=net")
    with pytest.raises(ConfigError, match="checkpoint can only be chosen with run="):
        configure("export_weights", "weights=w", "out=n.safetensors", "checkpoint=last")
    with pytest.raises(ConfigError, match="data must be chosen"):
        configure("export_card", "weights=w")
    with pytest.raises(DataError, match=r"must have a card, .*bare.yaml"):
        measure(configure("export_card", "data=synthetic", f"weights={tmp_path}/bare.safetensors"))


def test_the_errors_of_a_card_are_those_of_evaluate(
    run_dir: Path, configure: Configure, tmp_path: Path
) -> None:
    out = tmp_path / "net.safetensors"
    exported(configure, out, f"run={run_dir}")
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    rng = np.random.default_rng(3)
    for number in range(2):
        for frame in (1, 2):
            pixels = rng.integers(0, 256, (33, 50, 3), np.uint8)
            write_image(pairs / f"{number}_{frame}.png", pixels)
        flow = rng.normal(size=(33, 50, 2)).astype(np.float32)
        flow[:9] = 1e10  # unknown
        write_flo(pairs / f"{number}.flo", flow)
    patterns = ("data.frame1=*_1.png", "data.frame2=*_2.png", "data.flow=*.flo")
    data = ("data=folder", f"data.root={pairs}", *patterns, f"weights={out}")
    try:
        measure(configure("export_card", *data, "label=noise"))
    finally:
        keras.config.set_dtype_policy("float32")
    card = pretrained.card_of(out)
    assert card is not None
    (result,) = card.results
    folder = tmp_path / "evaluation"
    aepe = evaluate(configure("evaluate", *data, "pictures=0", f"out={folder}"))
    assert result.aepe == pytest.approx(aepe, abs=2e-5)
    assert (result.name, result.pairs, result.pixels) == ("noise", 2, 2 * 33 * 50)
    assert card.bfloat16_error == result.bfloat16_error > 0
    assert json.loads((folder / "metrics.json").read_text())["precision"] == "float32"
