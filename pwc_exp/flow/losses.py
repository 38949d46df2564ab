"""Training losses over the flow pyramid (PWC-Net, section 3, "Training loss").

Letters: B batch, H height, W width; h, w the same of a level.
All take `flows` {level: [B, h, w, 2]} as the network returns them, `target` [B, H, W, 2] in pixels
and `valid` [B, H, W], 0 or 1. They sum over the valid pixels of a level and average over the batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras import ops

from pwc_exp.flow.resize import target_pyramid, upsample

Tensor = Any  # a tensor of the Keras backend in use
Flows = Mapping[int, Tensor]
LossFn = Callable[[Flows, Tensor, Tensor], Tensor]  # (flows, target, valid) -> scalar


class Levels(NamedTuple):
    """How the levels of a pyramid are weighed and compared with the target."""

    weights: Sequence[float]  # from coarse to fine
    units: Mapping[int, float]  # {level: full-resolution pixels per unit of its flow}
    alignment: str  # see `pwc_exp.flow.resize`


def multiscale_loss(flows: Flows, target: Tensor, valid: Tensor, *, levels: Levels) -> Tensor:
    """Weighted sum of endpoint errors of all levels (PWC-Net, eq. 3, without its weight decay)."""
    return sum(
        weight * _sum_of_valid(l2_norm(residual), known)
        for weight, residual, known in _residuals(flows, target, valid, levels)
    )


def robust_loss(
    flows: Flows, target: Tensor, valid: Tensor, *, levels: Levels, q: float, epsilon: float
) -> Tensor:
    """Weighted sum of (|Δu| + |Δv| + ε)^q over all pixels and levels (PWC-Net, eq. 4)."""
    return sum(
        weight * _sum_of_valid((_l1_norm(residual) + epsilon) ** q, known)
        for weight, residual, known in _residuals(flows, target, valid, levels)
    )


def compat_robust_loss(
    flows: Flows, target: Tensor, valid: Tensor, *, levels: Levels, q: float, epsilon: float
) -> Tensor:
    """tfoptflow's robust loss: the power is taken of a level's sum, not per pixel.

    Its author found that the loss falls and the error does not: for reproducing only.
    """
    return sum(
        weight * (_sum_of_valid(_l1_norm(residual), known) + epsilon) ** q
        for weight, residual, known in _residuals(flows, target, valid, levels)
    )


def full_resolution_loss(
    flows: Flows, target: Tensor, valid: Tensor, *, levels: Levels, q: float, epsilon: float
) -> Tensor:
    """Weighted sum of (|Δu| + |Δv| + ε)^q over all pixels of `target`, of the finest flow only.

    The flow is interpolated to the size of `target`.
    """
    finest = min(flows)
    flow = ops.cast(flows[finest], "float32")
    flow = upsample(flow, target.shape[1] // flow.shape[1], alignment=levels.alignment)
    difference = flow - target / levels.units[finest]
    residual = ops.where(valid[..., None] > 0, difference, 0.0)
    return levels.weights[-1] * _sum_of_valid((_l1_norm(residual) + epsilon) ** q, valid)


def plus_loss(
    flows: Flows, target: Tensor, valid: Tensor, *, levels: Levels, q: float, epsilon: float
) -> Tensor:
    """PWC-Net+ for Sintel: endpoint errors of the levels, of the finest the full-resolution loss.

    https://github.com/NVlabs/PWC-Net, Caffe/model/PWC-Net_plus/PWC-Net_plus_sintel/model/
    train_ft.prototxt.
    """
    fine = full_resolution_loss(flows, target, valid, levels=levels, q=q, epsilon=epsilon)
    coarse = {level: flow for level, flow in flows.items() if level != min(flows)}
    levels = levels._replace(weights=levels.weights[:-1])
    return multiscale_loss(coarse, target, valid, levels=levels) + fine


def plus_up_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    levels: Levels,
    q: float,
    epsilon: float,
    up_flow: Mapping[int, Callable[[Tensor], Tensor]],
    up_unit: float,
) -> Tensor:
    """PWC-Net+ for KITTI: robust loss of what levels hand on, of the finest at full resolution.

    Caffe/model/PWC-Net_plus/PWC-Net_plus_kitti/model/train_12_15.prototxt.
    up_flow: {level: flow -> [B, H/2^(level - 1), W/2^(level - 1), 2], where the next level starts};
    `up_unit` says how many full-resolution pixels one unit of it is.
    """
    fine = full_resolution_loss(flows, target, valid, levels=levels, q=q, epsilon=epsilon)
    coarse = sorted(flows, reverse=True)[:-1]
    handed_on = {level - 1: up_flow[level](flows[level]) for level in coarse}
    units = dict.fromkeys(handed_on, up_unit)
    levels = levels._replace(weights=levels.weights[:-1], units=units)
    return robust_loss(handed_on, target, valid, levels=levels, q=q, epsilon=epsilon) + fine


def l2_norm(vectors: Tensor) -> Tensor:
    """Length of `vectors` [..., 2]; its gradient at 0 is 0, where that of a plain norm is NaN."""
    squared = ops.sum(vectors * vectors, axis=-1)
    nonzero = squared != 0  # true of NaN, which must not become 0
    return ops.where(nonzero, ops.sqrt(ops.where(nonzero, squared, 1.0)), 0.0)


def _l1_norm(vectors: Tensor) -> Tensor:
    return ops.sum(ops.abs(vectors), axis=-1)


def _residuals(
    flows: Flows, target: Tensor, valid: Tensor, levels: Levels
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """For each level its weight, residual [B, h, w, 2] in its units, and valid pixels [B, h, w]."""
    targets = target_pyramid(target, valid, flows.keys(), alignment=levels.alignment)
    for level, weight in zip(sorted(flows, reverse=True), levels.weights, strict=True):
        level_target, known = targets[level]
        flow = ops.cast(flows[level], "float32")
        difference = flow - level_target / levels.units[level]
        yield weight, ops.where(known[..., None] > 0, difference, 0.0), known


def _sum_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    return ops.mean(ops.sum(ops.where(valid > 0, values, 0.0), axis=(1, 2)))
