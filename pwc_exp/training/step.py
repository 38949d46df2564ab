"""The training step: the gradients of a batch and the update they make, in one compiled call.

Gradients are summed over the replicas before they are used, so that all replicas decide alike;
Keras's `LossScaleOptimizer` and `global_clipnorm` would decide in each replica on its own.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.flow.losses import LossFn
from pwc_exp.flow.metrics import endpoint_error
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.optimizers import Average

TrainStep = Callable[[Batch], dict[str, tf.Tensor]]


class Sums(NamedTuple):
    """The metrics of a step, as sums over micro-batches and replicas; scalars."""

    loss: tf.Tensor  # contributions to its mean over the batch
    flow_loss: tf.Tensor
    error: tf.Tensor  # endpoint errors of the valid pixels, px
    valid: tf.Tensor  # number of valid pixels
    pixels: tf.Tensor


def make_train_step(
    model: PWCNet,
    optimizer: keras.optimizers.Optimizer,
    loss_fn: LossFn,
    *,
    l2: float,
    l2_biases: bool,
    clip_norm: float | None = None,
    accumulate: int = 1,
    average: Average | None = None,
    xla: bool = False,
) -> TrainStep:
    """One optimizer update on a batch, compiled, on every replica of the strategy in scope.

    Args:
        model: the network to train.
        optimizer: is built here. Of a `LossScaleOptimizer` the scale and its rules are used.
        loss_fn: (flows, target, valid) -> data loss, a mean over the batch.
        l2: coefficient γ of ½ Σ w², added to the loss as in the original.
        l2_biases: whether the sum includes biases.
        clip_norm: gradients with a larger global norm are scaled down to it.
        accumulate: number of micro-batches that a replica's batch is split into, to save memory.
        average: a moving average of the weights, updated with them.
        xla: compile all of it with XLA; for one replica.

    Returns:
        batch, as returned by `Replicas.scatter` -> {"train/loss": data loss and penalty,
        "train/flow_loss": data loss, "train/aepe": px, "train/valid": share of valid pixels,
        "train/grad_norm": global norm before clipping, "train/lr", with a loss scale
        "train/loss_scale", "applied": False if loss or gradients were not finite: then the update
        was skipped and no weight has changed}.
    """
    strategy = tf.distribute.get_strategy()
    update = Update(optimizer, model.trainable_variables, average)
    gradients_of = Gradients(
        model=model,
        update=update,
        loss_fn=loss_fn,
        l2=l2,
        l2_biases=l2_biases,
        clip_norm=clip_norm,
        accumulate=accumulate,
    )

    @tf.function(reduce_retracing=False, jit_compile=xla or None)
    def train_step(batch: Batch) -> dict[str, tf.Tensor]:
        gradients, *per_replica = strategy.run(gradients_of, args=(batch,))
        sums, norm = tf.nest.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], per_replica
        )
        scale = tf.identity(update.loss_scale)
        norm /= scale
        applied = tf.math.is_finite(sums.loss) & tf.math.is_finite(norm)
        results = {
            "train/loss": sums.loss,
            "train/flow_loss": sums.flow_loss,
            "train/aepe": tf.math.divide_no_nan(sums.error, sums.valid),
            "train/valid": sums.valid / sums.pixels,
            "train/grad_norm": norm,
            "train/lr": tf.identity(optimizer.learning_rate),
            **({"train/loss_scale": scale} if update.scaled else {}),
            "applied": applied,
        }
        if applied:  # a condition of the graph: AutoGraph
            update.apply(gradients)
        else:
            update.skip()
        return results

    return train_step


class Update:
    """An optimizer with its loss scale, and the moving average of the weights.

    Args:
        optimizer: is built here.
        weights: the variables to train.
        average: None if there is none.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        weights: Sequence[keras.Variable],
        average: Average | None,
    ) -> None:
        optimizer.build(weights)
        self.scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        self._optimizer = optimizer
        self._inner = optimizer.inner_optimizer if self.scaled else optimizer
        # The gradients it gets are summed over the replicas already.
        self._inner._all_reduce_sum_gradients = list
        self._weights = weights
        self._average = average
        self._strategy = tf.distribute.get_strategy()

    @property
    def loss_scale(self) -> tf.Tensor | float:
        """The factor of the loss that keeps gradients from vanishing in half precision."""
        return self._optimizer.dynamic_scale.value if self.scaled else 1.0

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Updates the weights. gradients: of all replicas, as returned by `strategy.run`."""
        self._strategy.run(self._apply_in_replica, args=(gradients,))
        if self.scaled:
            self._grow()
        if self._average is not None:
            self._average.follow(self._weights, self._inner.iterations)

    def skip(self) -> None:
        """Changes no weight; halves the loss scale, so that the next update may be finite."""
        if self.scaled:
            self._optimizer.step_counter.assign(0)
            self._optimizer.dynamic_scale.assign(self.loss_scale * 0.5)

    def _apply_in_replica(self, gradients: Sequence[tf.Tensor]) -> None:
        if self.scaled:
            gradients = [gradient / self.loss_scale for gradient in gradients]
        self._inner.apply(gradients, self._weights)

    def _grow(self) -> None:
        """Doubles the loss scale after `dynamic_growth_steps` updates in a row."""
        optimizer = self._optimizer
        applied = optimizer.step_counter.value + 1
        grows = applied >= optimizer.dynamic_growth_steps
        optimizer.step_counter.assign(tf.where(grows, tf.zeros_like(applied), applied))
        optimizer.dynamic_scale.assign(self.loss_scale * tf.where(grows, 2.0, 1.0))


@dataclass(kw_only=True, eq=False)
class Gradients:
    """The gradients of a batch that is split over replicas; see `make_train_step`."""

    model: PWCNet
    update: Update
    loss_fn: LossFn
    l2: float
    l2_biases: bool
    clip_norm: float | None
    accumulate: int

    def __post_init__(self) -> None:
        self._weights = self.model.trainable_variables
        self._penalised = [
            w for w in self._weights if self.l2 and (self.l2_biases or w.path.endswith("/kernel"))
        ]
        self._replicas: int = tf.distribute.get_strategy().num_replicas_in_sync

    def __call__(self, batch: Batch) -> tuple[list[tf.Tensor], Sums, tf.Tensor]:
        """Runs in a replica, on its part of the batch; the results are equal in all replicas.

        Returns:
            The clipped gradients of the whole batch, times the loss scale; the sums over it; the
            norm of the gradients before clipping, times the loss scale.
        """
        gradients, sums = self._accumulated(batch)
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients, sums = context.all_reduce(tf.distribute.ReduceOp.SUM, (gradients, sums))
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm is not None:  # a norm that is not finite makes all of them NaN
            limit = self.clip_norm * self.update.loss_scale
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        return gradients, sums, norm

    def _accumulated(self, batch: Batch) -> tuple[list[tf.Tensor], Sums]:
        """The sum over all micro-batches, of which one at a time is in memory."""
        count = self.accumulate
        if count == 1:
            return self._of_microbatch(batch)
        size = batch.index.shape[0] // count
        microbatches = Batch(*(tf.reshape(part, [count, size, *part.shape[1:]]) for part in batch))

        def add_next(
            number: tf.Tensor, gradients: list[tf.Tensor], sums: Sums
        ) -> tuple[tf.Tensor, list[tf.Tensor], Sums]:
            microbatch = Batch(*(part[number] for part in microbatches))
            more, more_sums = self._of_microbatch(microbatch)
            added = [a + b for a, b in zip(gradients, more, strict=True)]
            return number + 1, added, Sums(*(a + b for a, b in zip(sums, more_sums, strict=True)))

        zeros = [tf.zeros(weight.shape) for weight in self._weights]
        _, gradients, sums = tf.while_loop(
            lambda number, *_: number < count,
            add_next,
            (tf.constant(0), zeros, Sums(*[tf.zeros([])] * len(Sums._fields))),
            parallel_iterations=1,
        )
        return gradients, sums

    def _of_microbatch(self, batch: Batch) -> tuple[list[tf.Tensor], Sums]:
        parts = self.accumulate * self._replicas
        with tf.GradientTape() as tape:
            flows = self.model((batch.frame1, batch.frame2), training=True)
            flow_loss = self.loss_fn(flows, batch.flow, batch.valid)
            loss = flow_loss
            if self._penalised:
                squares = [tf.nn.l2_loss(weight.value) for weight in self._penalised]
                loss += self.l2 * tf.add_n(squares)
            scaled_loss = loss * (self.update.loss_scale / parts)
        gradients = tape.gradient(scaled_loss, self._weights)
        estimate = self.model.full_resolution(flows)
        error, valid = _error_of_valid(estimate, batch.flow, batch.valid)
        sums = Sums(
            loss=loss / parts,
            flow_loss=flow_loss / parts,
            error=error,
            valid=valid,
            pixels=tf.cast(tf.size(batch.valid), tf.float32),
        )
        return gradients, sums


@tf.function(jit_compile=True)  # as one operation: 4 times faster
def _error_of_valid(
    estimate: tf.Tensor, target: tf.Tensor, valid: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum of the endpoint errors of the valid pixels, in pixels, and their number."""
    known = valid > 0
    error = tf.where(known, endpoint_error(estimate, target), 0.0)
    return tf.reduce_sum(error), tf.reduce_sum(tf.cast(known, tf.float32))
