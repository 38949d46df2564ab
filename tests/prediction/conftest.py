"""Fixtures: the command without a network."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grey_frames import BrightnessEstimator, Model

from pwc_exp.prediction import command
from pwc_exp.storage import sha256_of
from pwc_exp.weights import WeightsInfo


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Model:
    """Makes the command estimate without a network; the batches that it asks for are noted."""
    model = Model()
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")

    def load(**settings: Any) -> SimpleNamespace:
        info = WeightsInfo(path=weights, sha256=sha256_of(weights), licence="")
        return SimpleNamespace(model=model, info=info)

    monkeypatch.setattr(command, "load_network", load)
    monkeypatch.setattr(command, "Estimator", BrightnessEstimator)
    return model


@pytest.fixture
def predict(model: Model, configure: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """(frames, *overrides) -> the folder of the results, out."""

    def call(frames: Path | str, *overrides: str) -> Path:
        out = tmp_path / "out"
        places = (f"weights={tmp_path}/weights", f"frames={frames}", f"out={out}")
        command.predict(configure("predict", "model=tiny", *places, *overrides))
        return out

    return call
