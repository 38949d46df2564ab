"""Learning-rate schedules that Keras does not have. The step counts the updates made so far."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any  # a tensor of the Keras backend in use


class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """The same rate at every step.

    Args:
        rate: the learning rate. As a number, Keras would make it a variable of the optimizer.
    """

    def __init__(self, *, rate: float) -> None:
        self.rate = rate

    def __call__(self, step: Tensor) -> Tensor:
        """The rate, whatever the step."""
        return ops.convert_to_tensor(self.rate, "float32")

    def get_config(self) -> dict[str, Any]:
        """What makes the same schedule again."""
        return {"rate": self.rate}


class Cyclic(keras.optimizers.schedules.LearningRateSchedule):
    """Triangles between two rates (Smith, https://arxiv.org/abs/1506.01186).

    Args:
        base: lowest rate, at the start of each triangle.
        peak: rate at the top of the first triangle.
        half_cycle: steps from the start of a triangle to its top.
        policy: what becomes of the height. "triangular": it stays; "triangular2": it is halved
            from one triangle to the next; "exp_range": it is multiplied by `gamma` at every step.
        gamma: factor of "exp_range".
    """

    def __init__(
        self, *, base: float, peak: float, half_cycle: int, policy: str, gamma: float
    ) -> None:
        self.base = base
        self.peak = peak
        self.half_cycle = half_cycle
        self.policy = str(policy)
        self.gamma = gamma

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        step = ops.cast(step, "float32")
        position = step / self.half_cycle
        cycle = ops.floor(1 + position / 2)
        height = ops.maximum(0.0, 1 - ops.abs(position - 2 * cycle + 1))
        return self.base + (self.peak - self.base) * height * self._damping(step, cycle)

    def _damping(self, step: Tensor, cycle: Tensor) -> Tensor:
        match self.policy:
            case "triangular":
                return 1.0
            case "triangular2":
                return 1 / 2 ** (cycle - 1)
            case "exp_range":
                # As a float32, gamma itself would be off by some percent after a million steps.
                return ops.exp(math.log(self.gamma) * step)
            case _:
                raise ValueError(
                    f"policy must be triangular, triangular2 or exp_range. Received: {self.policy}"
                )

    def get_config(self) -> dict[str, Any]:
        """What makes the same schedule again."""
        return {
            "base": self.base,
            "peak": self.peak,
            "half_cycle": self.half_cycle,
            "policy": self.policy,
            "gamma": self.gamma,
        }


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Up once, then down to next to nothing (Smith and Topin, https://arxiv.org/abs/1708.07120).

    The rates are those of PyTorch's `OneCycleLR` with two phases: the peak comes after
    `warmup_share * total - 1` steps, the last rate after `total - 1`, and then it stays.

    Args:
        peak: highest rate.
        total: steps of the whole cycle.
        warmup_share: share of `total` that goes up; 0: it starts at the peak.
        start_divisor: the first rate is peak / start_divisor.
        final_divisor: the last rate is the first one / final_divisor.
        anneal: "linear", or "cosine" for half a wave in each phase.
    """

    def __init__(
        self,
        *,
        peak: float,
        total: int,
        warmup_share: float,
        start_divisor: float,
        final_divisor: float,
        anneal: str,
    ) -> None:
        self.peak = peak
        self.total = total
        self.warmup_share = warmup_share
        self.start_divisor = start_divisor
        self.final_divisor = final_divisor
        self.anneal = str(anneal)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        step = ops.cast(step, "float32")
        top, end = self.warmup_share * self.total - 1, self.total - 1
        start = self.peak / self.start_divisor
        final = start / self.final_divisor
        rise = ops.clip(step / max(top, 1e-6), 0.0, 1.0)
        # Measured from the end, so that the last rates are exact although they are tiny.
        fall = ops.clip((end - step) / (end - top), 0.0, 1.0)
        return ops.where(
            step < top,
            start + (self.peak - start) * self._annealed(rise),
            final + (self.peak - final) * self._annealed(fall),
        )

    def _annealed(self, share: Tensor) -> Tensor:
        match self.anneal:
            case "linear":
                return share
            case "cosine":
                return (1 - ops.cos(math.pi * share)) / 2
            case _:
                raise ValueError(f"anneal must be linear or cosine. Received: {self.anneal}")

    def get_config(self) -> dict[str, Any]:
        """What makes the same schedule again."""
        return {
            "peak": self.peak,
            "total": self.total,
            "warmup_share": self.warmup_share,
            "start_divisor": self.start_divisor,
            "final_divisor": self.final_divisor,
            "anneal": self.anneal,
        }


class Restarts(keras.optimizers.schedules.LearningRateSchedule):
    """Rounds of equal length: each starts at a rate of its own, which is halved again and again.

    Steps count as in Caffe: the update after `halvings[i]` others of its round is the first with
    the lower rate. After the last round its last rate stays.

    Args:
        bases: rate at the start of each round.
        round_steps: steps of a round.
        halvings: steps of a round at which the rate is halved, increasing.
    """

    def __init__(self, *, bases: Sequence[float], round_steps: int, halvings: Sequence[int]):
        self.bases = list(bases)
        self.round_steps = round_steps
        self.halvings = list(halvings)

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        step = ops.cast(step, "float32")
        starts = [self.round_steps * i for i in range(1, len(self.bases))]
        finished = _passed(step, starts)  # rounds
        halved = _passed(step - self.round_steps * finished, self.halvings)
        base = ops.take(ops.convert_to_tensor(self.bases, "float32"), ops.cast(finished, "int32"))
        return base / 2**halved

    def get_config(self) -> dict[str, Any]:
        """What makes the same schedule again."""
        return {
            "bases": self.bases,
            "round_steps": self.round_steps,
            "halvings": self.halvings,
        }


def _passed(step: Tensor, marks: Sequence[int]) -> Tensor:
    """How many of `marks` are at most `step`."""
    return ops.sum(ops.cast(step >= ops.convert_to_tensor(marks, "float32"), "float32"))
