"""Learning-rate schedules that Keras does not have. The step counts the updates made so far."""

from typing import Any

import keras
from keras import ops

Tensor = Any  # a tensor of the Keras backend in use


class Cyclic(keras.optimizers.schedules.LearningRateSchedule):
    """Triangles that halve in height each time: "triangular2" (Smith, https://arxiv.org/abs/1506.01186).

    Args:
        base: lowest rate, at the start of each triangle.
        peak: rate at the top of the first triangle.
        half_cycle: steps from the start of a triangle to its top.
    """

    def __init__(self, *, base: float, peak: float, half_cycle: int) -> None:
        self.base = base
        self.peak = peak
        self.half_cycle = half_cycle

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        position = ops.cast(step, "float32") / self.half_cycle
        cycle = ops.floor(1 + position / 2)
        height = ops.maximum(0.0, 1 - ops.abs(position - 2 * cycle + 1))
        return self.base + (self.peak - self.base) * height / 2 ** (cycle - 1)

    def get_config(self) -> dict[str, Any]:
        """What makes the same schedule again."""
        return {"base": self.base, "peak": self.peak, "half_cycle": self.half_cycle}
