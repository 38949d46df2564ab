"""Frames whose flow is known without a network, what estimates it, and a very small network."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pwc_exp.data.formats.images import write_image
from pwc_exp.prediction import command, estimation
from pwc_exp.weights import WeightsInfo

HEIGHT, WIDTH = 30, 46
# Two levels: every part of a PWC-Net once or twice, soon compiled.
SMALL = (
    "model=tiny",
    "model.levels=3",
    "model.feature_channels=[4,6,8]",
    "model.estimator_channels=[8,6]",
    "model.context_channels=[8,6]",
    "model.context_dilations=[1,2]",
    "loss.level_weights=[1,1]",
)


def grey(path: Path, level: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A frame of one grey level; the flow of two is the difference of their levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*size, 3), level, np.uint8))
    return path


class BrightnessEstimator:
    """Stands for the network: the flow is (d, d/2), if frame 2 is brighter by d levels.

    More than 200 levels count four times.
    """

    def __init__(self, model: Any, **knobs: Any) -> None:
        self.model = model
        self.knobs = knobs

    def __call__(
        self, frames1: Sequence[np.ndarray], frames2: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        if "batch_size" in self.knobs:  # not the first pass
            self.model.batches.append((len(frames1), frames1[0].shape[:2]))
        if self.model.fails:
            raise self.model.fails.pop()
        flows = []
        for frame1, frame2 in zip(frames1, frames2, strict=True):
            step = 255 * float(frame2.mean() - frame1.mean())
            step *= 4 if abs(step) > 200 else 1
            flows.append(
                np.broadcast_to(
                    np.array([step, step / 2], np.float32), (*frame1.shape[:2], 2)
                ).copy()
            )
        return flows

    def account(self, height: int, width: int) -> dict[str, Any]:
        return {"padded_to": [height, width]}


class Model:
    """What `BrightnessEstimator` notes."""

    class Policy(NamedTuple):
        name: str = "float32"

    dtype_policy = Policy()

    def __init__(self) -> None:
        self.batches: list[tuple[int, tuple[int, int]]] = []
        self.fails: list[BaseException] = []


class Network(NamedTuple):
    model: Model
    info: WeightsInfo


def without_network(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Model:
    """Makes the command estimate without a network; the batches that it asks for are noted."""
    model = Model()
    weights = folder / "weights"
    weights.write_bytes(b"weights")

    def load(**knobs: Any) -> Network:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        return Network(
            model, WeightsInfo(path=weights, sha256=digest, format="", project="", licence="")
        )

    monkeypatch.setattr(command, "load_network", load)
    for module in (command, estimation):
        monkeypatch.setattr(module, "Estimator", BrightnessEstimator)
    return model


def predicting(configure: Callable[..., Any], folder: Path) -> Callable[..., Path]:
    """(frames, *overrides) -> the folder of the results, folder/out."""

    def call(frames: Path | str, *overrides: str) -> Path:
        out = folder / "out"
        places = (f"weights={folder}/weights", f"frames={frames}", f"out={out}")
        command.predict(configure("predict", "model=tiny", *places, *overrides))
        return out

    return call
