"""Frames whose flow is known without a network, and what estimates it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pwc_exp.data.formats.images import write_image

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
        self.fails: list[BaseException | None] = []  # in the next calls


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
        if self.model.fails and (error := self.model.fails.pop(0)):
            raise error
        steps = [
            255 * float(two.mean() - one.mean()) for one, two in zip(frames1, frames2, strict=True)
        ]
        steps = [4 * step if abs(step) > 200 else step for step in steps]
        return [np.full((*frames1[0].shape[:2], 2), (d, d / 2), np.float32) for d in steps]

    def account(self, height: int, width: int) -> dict[str, Any]:
        return {"padded_to": [height, width]}
