"""Training losses over the flow pyramid (PWC-Net, section 3, "Training loss").

Letters: B batch, H height, W width.
All take `flows` {level: [B, H/2^level, W/2^level, 2]} as the network gives them, `target`
[B, H, W, 2] in pixels and `valid` [B, H, W] 0 or 1; level_weights go from coarse to fine;
`units[level]` says how many full-resolution pixels one unit of `flows[level]` is.
Each sums over the valid pixels of a level and averages over the batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras import ops

from pwc_exp.flow.resize import target_pyramid, upsample

Tensor = Any  # a tensor of the Keras backend in use
Flows = Mapping[int, Tensor]
LossFn = Callable[[Flows, Tensor, Tensor], Tensor]  # (flows, target, valid) -> scalar


class _Level(NamedTuple):
    weight: float
    residual: Tensor  # [B, h, w, 2], in the units of the level; 0 where invalid
    valid: Tensor  # [B, h, w]


def multiscale_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
) -> Tensor:
    """Weighted sum of endpoint errors of all levels (PWC-Net, eq. 3, without its weight decay)."""
    levels = _levels(
        flows, target, valid, level_weights=level_weights, units=units, alignment=alignment
    )
    return _weighted_sum(levels, l2_norm)


def robust_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
    q: float,
    epsilon: float,
) -> Tensor:
    """Weighted sum of (|Δu| + |Δv| + ε)^q over all pixels and levels (PWC-Net, eq. 4)."""
    levels = _levels(
        flows, target, valid, level_weights=level_weights, units=units, alignment=alignment
    )
    return _weighted_sum(levels, lambda residual: (_l1_norm(residual) + epsilon) ** q)


def compat_robust_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
    q: float,
    epsilon: float,
) -> Tensor:
    """tfoptflow's robust loss: the power is taken of a level's sum, not per pixel.

    Its author found that the loss falls and the error does not: for reproducing only.
    """
    levels = _levels(
        flows, target, valid, level_weights=level_weights, units=units, alignment=alignment
    )
    sums = [(lv.weight, _sum_of_valid(_l1_norm(lv.residual), lv.valid)) for lv in levels]
    return sum(weight * (value + epsilon) ** q for weight, value in sums)


def full_resolution_loss(
    flow: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    unit: float,
    alignment: str,
    q: float,
    epsilon: float,
) -> Tensor:
    """Sum of (|Δu| + |Δv| + ε)^q over all pixels of `target`; `flow` is interpolated to its size.

    flow: [B, h, w, 2], in full-resolution pixels / `unit`; h and w divide H and W.
    """
    factor = target.shape[1] // flow.shape[1]
    flow = upsample(ops.cast(flow, "float32"), factor, alignment=alignment)
    residual = ops.where(valid[..., None] > 0, flow - target / unit, 0.0)
    return _sum_of_valid((_l1_norm(residual) + epsilon) ** q, valid)


def plus_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
    q: float,
    epsilon: float,
) -> Tensor:
    """PWC-Net+ for Sintel: endpoint errors of the levels, of the finest the full-resolution loss.

    https://github.com/NVlabs/PWC-Net, Caffe/model/PWC-Net_plus/PWC-Net_plus_sintel/model/
    train_ft.prototxt.
    """
    coarse, finest = _split(flows)
    fine = full_resolution_loss(
        flows[finest], target, valid, unit=units[finest], alignment=alignment, q=q, epsilon=epsilon
    )
    rest = multiscale_loss(
        coarse, target, valid, level_weights=level_weights[:-1], units=units, alignment=alignment
    )
    return rest + level_weights[-1] * fine


def plus_up_loss(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
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
    coarse, finest = _split(flows)
    fine = full_resolution_loss(
        flows[finest], target, valid, unit=units[finest], alignment=alignment, q=q, epsilon=epsilon
    )
    handed_on = {level - 1: up_flow[level](flow) for level, flow in coarse.items()}
    rest = robust_loss(
        handed_on,
        target,
        valid,
        level_weights=level_weights[:-1],
        units=dict.fromkeys(handed_on, up_unit),
        alignment=alignment,
        q=q,
        epsilon=epsilon,
    )
    return rest + level_weights[-1] * fine


def l2_norm(vectors: Tensor) -> Tensor:
    """Length of `vectors` [..., 2]; its gradient at 0 is 0, where that of a plain norm is NaN."""
    squared = ops.sum(vectors * vectors, axis=-1)
    nonzero = squared != 0  # true of NaN, which must not become 0
    return ops.where(nonzero, ops.sqrt(ops.where(nonzero, squared, 1.0)), 0.0)


def _l1_norm(vectors: Tensor) -> Tensor:
    return ops.sum(ops.abs(vectors), axis=-1)


def _split(flows: Flows) -> tuple[dict[int, Tensor], int]:
    """All levels but the finest, and which that is."""
    *coarse, finest = sorted(flows, reverse=True)
    return {level: flows[level] for level in coarse}, finest


def _levels(
    flows: Flows,
    target: Tensor,
    valid: Tensor,
    *,
    level_weights: Sequence[float],
    units: Mapping[int, float],
    alignment: str,
) -> Iterator[_Level]:
    targets = target_pyramid(target, valid, flows.keys(), alignment=alignment)
    for level, weight in zip(sorted(flows, reverse=True), level_weights, strict=True):
        level_target, level_valid = targets[level]
        flow = ops.cast(flows[level], "float32")
        residual = ops.where(level_valid[..., None] > 0, flow - level_target / units[level], 0.0)
        yield _Level(weight, residual, level_valid)


def _weighted_sum(levels: Iterator[_Level], penalty: Callable[[Tensor], Tensor]) -> Tensor:
    return sum(lv.weight * _sum_of_valid(penalty(lv.residual), lv.valid) for lv in levels)


def _sum_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    return ops.mean(ops.sum(ops.where(valid > 0, values, 0.0), axis=(1, 2)))
