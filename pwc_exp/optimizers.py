"""Optimizer and schedules: AdamW in one fused update, and learning rates by step."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import ops

Tensor = Any  # a tensor of the Keras backend in use


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A dataclass that maps a step to a rate."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that this schedule was made with."""
        return asdict(self)


@dataclass(eq=False, kw_only=True)
class Constant(_Schedule):
    """The same rate at every step. A number, Keras would make a variable of the optimizer."""

    rate: float

    def __call__(self, step: Tensor) -> Tensor:
        """The rate, whatever the step."""
        return ops.convert_to_tensor(self.rate, "float32")


@dataclass(eq=False, kw_only=True)
class Cyclic(_Schedule):
    """Triangles between two rates (Smith, https://arxiv.org/abs/1506.01186).

    policy: what becomes of the height. "triangular": it stays; "triangular2": it is halved from one
    triangle to the next; "exp_range": it is multiplied by `gamma` at every step.
    """

    base: float  # lowest rate, at the start of each triangle
    peak: float  # rate at the top of the first triangle
    half_cycle: int  # steps from the start of a triangle to its top
    policy: str
    gamma: float

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


@dataclass(eq=False, kw_only=True)
class OneCycle(_Schedule):
    """Up once, then down to next to nothing (Smith and Topin, https://arxiv.org/abs/1708.07120).

    The rates are those of PyTorch's `OneCycleLR` with two phases: the peak comes after
    `warmup_share * total - 1` steps, the last rate after `total - 1`, and then it stays.
    """

    peak: float  # highest rate
    total: int  # steps of the whole cycle
    warmup_share: float  # share of `total` that goes up; 0: it starts at the peak
    start_divisor: float  # the first rate is peak / start_divisor
    final_divisor: float  # the last rate is the first one / final_divisor
    anneal: str  # "linear", or "cosine" for half a wave in each phase

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


@dataclass(eq=False, kw_only=True)
class Restarts(_Schedule):
    """Rounds of equal length: each starts at a rate of its own, which is halved again and again.

    Steps count as in Caffe: the update after `halvings[i]` others of its round is the first with
    the lower rate. After the last round its last rate stays.
    """

    bases: Sequence[float]  # rate at the start of each round
    round_steps: int  # steps of a round
    halvings: Sequence[int]  # steps of a round at which the rate is halved, increasing

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        step = ops.cast(step, "float32")
        starts = [self.round_steps * i for i in range(1, len(self.bases))]
        finished = _passed(step, starts)  # rounds
        halved = _passed(step - self.round_steps * finished, self.halvings)
        base = ops.take(ops.convert_to_tensor(self.bases, "float32"), ops.cast(finished, "int32"))
        return base / 2**halved


def _passed(step: Tensor, marks: Sequence[int]) -> Tensor:
    """How many of `marks` are at most `step`."""
    return ops.sum(ops.cast(step >= ops.convert_to_tensor(marks, "float32"), "float32"))


class Adam(keras.optimizers.Adam):
    """Keras's Adam, or with `weight_decay` its AdamW; bits, names and variables are the same.

    What all weights share is computed once, and each sum of a product is one operation.
    TensorFlow's `ResourceApplyAdam`, one operation for each weight, rounds 1 - beta otherwise: the
    second moments differ by 1e-5 of their value.
    """

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Is part of the update."""

    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        number = tf.cast(self.iterations.value + 1, tf.float32)
        bias1, bias2 = (1.0 - tf.pow(beta, number) for beta in (self.beta_1, self.beta_2))
        variables = [variable.value for variable in trainable_variables]
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._update,
            self._distribution_strategy,
            self._all_reduce_sum_gradients(list(zip(grads, variables, strict=True))),
            rate,
            rate * tf.sqrt(bias2) / bias1,
        )

    def _update(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[tuple[tf.Tensor, tf.Variable]],
        rate: tf.Tensor,
        corrected_rate: tf.Tensor,
    ) -> None:
        for gradient, variable in gradients:
            strategy.extended.update(
                variable, self._update_one, args=(gradient, rate, corrected_rate), group=False
            )

    def _update_one(
        self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor, corrected_rate: tf.Tensor
    ) -> None:
        index = self._get_variable_index(variable)
        mean, mean_square = self._momentums[index].value, self._velocities[index].value
        _subtract(mean, self.beta_1 - 1.0, gradient - mean)
        _subtract(mean_square, self.beta_2 - 1.0, tf.square(gradient) - mean_square)
        if self.weight_decay is not None and self._use_weight_decay(variable):
            # Keras's own expression: TensorFlow may reorder its products, and here does so alike.
            variable.assign_sub(variable * self.weight_decay * rate)
        variable.assign_sub(mean * corrected_rate / (tf.sqrt(mean_square) + self.epsilon))


def _subtract(variable: tf.Variable, factor: tf.Tensor | float, values: tf.Tensor) -> None:
    """Subtracts factor · values."""
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=factor, delta=values)


class Average:
    """Exponential moving average of a network's weights, held by a second network.

    In its first updates it forgets faster, as TensorFlow's `ExponentialMovingAverage` does with
    `num_updates`: after n updates the decay is min(decay, (1 + n) / (10 + n)).

    Args:
        model: of the same architecture as the trained one, with weights of its own; it holds the
            average and can be evaluated like any other. On the devices of the strategy in scope.
        decay: share of the average that one update leaves.
    """

    def __init__(self, model: keras.Model, *, decay: float) -> None:
        self.model = model
        self.decay = decay
        self._strategy = tf.distribute.get_strategy()

    def start(self, weights: Sequence[keras.Variable]) -> None:
        """Sets the average to `weights`, in the order of the model's trainable variables."""
        for mean, weight in zip(self.model.trainable_variables, weights, strict=True):
            mean.assign(weight.value)

    def follow(self, weights: Sequence[keras.Variable], updates: tf.Tensor) -> None:
        """Moves the average towards `weights`; in a compiled step, outside of replicas.

        updates: how many there have been, this one included.
        """
        count = tf.cast(updates, tf.float32)
        share = 1.0 - tf.minimum(self.decay, (1.0 + count) / (10.0 + count))

        for mean, weight in zip(self.model.trainable_variables, weights, strict=True):
            self._strategy.extended.update(
                mean.value, _move, args=(weight.value, share), group=False
            )


def _move(mean: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    mean.assign_sub(share * (mean - weight))
