"""Frames whose flow is known without a network, what estimates it, and a very small network."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from pwc_exp.data.formats.images import write_image
from pwc_exp.prediction import command
from pwc_exp.weights import WeightsInfo

HEIGHT, WIDTH = 30, 46


def grey(path: Path, level: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A frame of one grey level; the flow of two is the difference of their levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*size, 3), level, np.uint8))
    return path


class Model:
    """What `BrightnessEstimator` notes, and what it raises."""

    dtype_policy = SimpleNamespace(name="float32")

    def __init__(self) -> None:
        self.batches: list[tuple[int, tuple[int, int]]] = []
        self.fails: list[BaseException] = []


class BrightnessEstimator:
    """Stands for the network: the flow is (d, d/2), if frame 2 is brighter by d levels.

    More than 200 levels count four times.
    """

    def __init__(self, model: Model, **settings: Any) -> None:
        self.model = model
        self.settings = settings

    def __call__(
        self, frames1: Sequence[np.ndarray], frames2: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        if "batch_size" in self.settings:  # not the first pass
            self.model.batches.append((len(frames1), frames1[0].shape[:2]))
        if self.model.fails:
            raise self.model.fails.pop()
        steps = [
            255 * float(two.mean() - one.mean()) for one, two in zip(frames1, frames2, strict=True)
        ]
        steps = [4 * step if abs(step) > 200 else step for step in steps]
        return [np.full((*frames1[0].shape[:2], 2), (d, d / 2), np.float32) for d in steps]

    def account(self, height: int, width: int) -> dict[str, Any]:
        return {"padded_to": [height, width]}


class Network(NamedTuple):
    model: Model
    info: WeightsInfo


def without_network(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Model:
    """Makes the command estimate without a network; the batches that it asks for are noted."""
    model = Model()
    weights = folder / "weights"
    weights.write_bytes(b"weights")

    def load(**settings: Any) -> Network:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        info = WeightsInfo(path=weights, sha256=digest, format="", project="", licence="")
        return Network(model, info)

    monkeypatch.setattr(command, "load_network", load)
    monkeypatch.setattr(command, "Estimator", BrightnessEstimator)
    return model


def predicting(configure: Callable[..., Any], folder: Path) -> Callable[..., Path]:
    """(frames, *overrides) -> the folder of the results, folder/out."""

    def call(frames: Path | str, *overrides: str) -> Path:
        out = folder / "out"
        places = (f"weights={folder}/weights", f"frames={frames}", f"out={out}")
        command.predict(configure("predict", "model=tiny", *places, *overrides))
        return out

    return call
