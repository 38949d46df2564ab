"""Compiled steps: made once per run, called with batches of one shape.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from pwc_exp.average import Average
from pwc_exp.data.sample import Batch
from pwc_exp.flow.metrics import error_sums
from pwc_exp.flow.resize import pad, unpad
from pwc_exp.flow.tensorflow_ops import xla_pays
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.update import Gradients, LossFn, Optimization

TrainStep = Callable[[Batch], dict[str, tf.Tensor]]
Estimate = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
EvalStep = Callable[[Batch], dict[str, tf.Tensor]]


class Levels(NamedTuple):
    """What a picture of one batch needs, all in full-resolution pixels."""

    estimate: tf.Tensor  # [B, H, W, 2]
    flows: dict[int, tf.Tensor]  # {level: [B, ≥ H/2^level, ≥ W/2^level, 2]}, of the padded frames


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
        model: what is trained.
        optimizer: built here. Of a `LossScaleOptimizer` the scale and its rules are used.
        loss_fn: (flows, target, valid) -> data loss, a mean over the batch.
        l2: coefficient γ of ½ Σ w², added to the loss as in the original.
        l2_biases: whether the sum runs over biases as well.
        clip_norm: gradients whose global norm is greater are scaled down to this norm.
        accumulate: a replica's part of the batch goes through the network in so many portions of
            equal size, one after the other, to save memory.
        average: a moving average of the weights that follows every update.
        xla: let XLA compile all of it. For one replica.

    Returns:
        batch, as `Replicas.scatter` gives it -> {"train/loss": data loss and penalty,
        "train/flow_loss": data loss, "train/aepe": px, "train/valid": share of pixels with known
        flow, "train/grad_norm": global norm before it is clipped, "train/lr", with a loss scale
        "train/loss_scale", "applied": False if the update was held back because loss or gradients
        were not finite: then no weight has changed}.
    """
    strategy = tf.distribute.get_strategy()
    optimization = Optimization(optimizer, model.trainable_variables, average)
    gradients_of = Gradients(
        model,
        optimization,
        loss_fn,
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
        scale = tf.identity(optimization.loss_scale)
        norm /= scale
        applied = tf.math.is_finite(sums.loss) & tf.math.is_finite(norm)
        results = {
            "train/loss": sums.loss,
            "train/flow_loss": sums.flow_loss,
            "train/aepe": tf.math.divide_no_nan(sums.error, sums.known),
            "train/valid": sums.known / sums.pixels,
            "train/grad_norm": norm,
            "train/lr": optimization.learning_rate,
            **({"train/loss_scale": scale} if optimization.scaled else {}),
            "applied": applied,
        }
        if applied:  # a condition of the graph: AutoGraph
            optimization.apply(gradients)
        else:
            optimization.hold_back()
        return results

    return train_step


def make_estimate(model: PWCNet, *, xla: bool) -> Estimate:
    """`model.estimate`, compiled: frames [B, H, W, 3] -> flow [B, H, W, 2] in pixels.

    Args:
        model: the network.
        xla: let XLA compile the decoder where that pays: on processors on which oneDNN handles a
            single large image badly. It costs about 10 s per size of frames.
    """
    if not (xla and xla_pays()):
        return tf.function(model.estimate)
    decode = tf.function(model.decode, jit_compile=True)
    return tf.function(lambda frame1, frame2: model.estimate(frame1, frame2, decode=decode))


def make_eval_step(estimate: Estimate) -> EvalStep:
    """batch -> the sums [B] of `error_sums`, compiled; for any estimate, of zero flow as well."""

    @tf.function
    def eval_step(batch: Batch) -> dict[str, tf.Tensor]:
        return error_sums(estimate(batch.frame1, batch.frame2), batch.flow, batch.valid)

    return eval_step


def make_levels(model: PWCNet) -> Callable[[Batch], Levels]:
    """batch -> the flow at every level and the estimate, compiled; frames of any size."""
    multiple = 2**model.levels

    @tf.function
    def levels(batch: Batch) -> Levels:
        flows = model((pad(batch.frame1, multiple), pad(batch.frame2, multiple)))
        in_pixels = {level: flow * model.units[level] for level, flow in flows.items()}
        height, width = batch.frame1.shape[1:3]
        return Levels(unpad(model.full_resolution(flows), height, width), in_pixels)

    return levels
