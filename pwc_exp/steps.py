"""Compiled steps: made once per run, called with batches of one shape.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.flow.losses import Flows
from pwc_exp.flow.metrics import endpoint_error, error_sums
from pwc_exp.flow.resize import pad, unpad
from pwc_exp.flow.tensorflow_ops import xla_pays
from pwc_exp.models.pwcnet import PWCNet

LossFn = Callable[[Flows, tf.Tensor, tf.Tensor], tf.Tensor]
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
) -> TrainStep:
    """One optimizer update on a batch, compiled.

    Args:
        model: what is trained.
        optimizer: built here. A `LossScaleOptimizer` skips updates that overflow.
        loss_fn: (flows, target, valid) -> data loss.
        l2: coefficient γ of ½ Σ w², added to the loss as in the original.
        l2_biases: whether the sum runs over biases as well.
        clip_norm: gradients whose global norm is greater are scaled down to this norm.

    Returns:
        batch -> {"train/loss": data loss and penalty, "train/flow_loss": data loss,
        "train/aepe": px, "train/grad_norm": global norm before it is clipped, "train/lr",
        "applied": False if the update was held back because loss or gradients were not finite:
        then no weight has changed}.
    """
    weights = model.trainable_variables
    penalised = [w for w in weights if l2_biases or w.path.endswith("/kernel")] if l2 else []
    optimizer.build(weights)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    @tf.function(reduce_retracing=False)
    def train_step(batch: Batch) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            flows = model((batch.frame1, batch.frame2), training=True)
            flow_loss = loss_fn(flows, batch.flow, batch.valid)
            loss = flow_loss + _l2_penalty(penalised, l2)
            target = optimizer.scale_loss(loss) if scaled else loss
        gradients = tape.gradient(target, weights)
        scale = tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else 1.0
        scaled_norm = tf.linalg.global_norm(gradients)
        norm = scaled_norm / scale
        applied = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        learning_rate = tf.identity(optimizer.learning_rate)
        if clip_norm is not None:  # where the norm is not finite, it makes all of them NaN
            limit = clip_norm * scale
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=scaled_norm)
        if scaled:  # looks for itself, and lowers its scale
            optimizer.apply(gradients, weights)
        else:
            tf.cond(applied, lambda: _apply(optimizer, gradients, weights), lambda: 0)
        error = endpoint_error(model.full_resolution(flows), batch.flow)
        known = tf.where(batch.valid > 0, error, 0.0)
        return {
            "train/loss": loss,
            "train/flow_loss": flow_loss,
            "train/aepe": tf.math.divide_no_nan(tf.reduce_sum(known), tf.reduce_sum(batch.valid)),
            "train/grad_norm": norm,
            "train/lr": learning_rate,
            "applied": applied,
        }

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


def _l2_penalty(weights: Sequence[keras.Variable], l2: float) -> tf.Tensor:
    return l2 * tf.add_n([tf.nn.l2_loss(w.value) for w in weights]) if weights else 0.0


def _apply(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    weights: Sequence[keras.Variable],
) -> int:
    optimizer.apply(gradients, weights)
    return 0
