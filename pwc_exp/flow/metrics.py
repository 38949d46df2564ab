"""Errors of an estimated flow, as sums that are divided once, at the very end.

Letters: B batch, H height, W width.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from keras import ops

from pwc_exp.flow import FL_PIXELS, FL_SHARE
from pwc_exp.flow.losses import l2_norm

Tensor = Any  # a tensor of the Keras backend in use

COUNT = "valid_pixels"
SUMS = ("aepe", "fl_all", "outlier_3px")  # names of the sums beside the count


def endpoint_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Per-pixel distance [B, H, W] of two flows [B, H, W, 2], in pixels."""
    return l2_norm(estimate - target)


def error_sums(estimate: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """What `mean_of_sums` needs of each sample: valid pixels and sums over them, [B] each.

    Args:
        estimate: [B, H, W, 2], in pixels.
        target: [B, H, W, 2], in pixels; any value, NaN too, where invalid.
        valid: [B, H, W], 0 or 1.
    """
    known = valid > 0
    target = ops.where(known[..., None], target, 0.0)
    error = endpoint_error(estimate, target)
    above = error > FL_PIXELS
    outlier = above & (error > FL_SHARE * l2_norm(target))
    per_pixel = {
        COUNT: valid,
        "aepe": error,
        "fl_all": ops.cast(outlier, "float32"),
        "outlier_3px": ops.cast(above, "float32"),
    }
    return {
        name: ops.sum(ops.where(known, values, 0.0), axis=(1, 2))
        for name, values in per_pixel.items()
    }


def mean_of_sums(samples: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of a split from the sums of its samples.

    Returns:
        aepe: mean endpoint error over all valid pixels of the split, in pixels.
        aepe_per_image: mean of the samples' own means, over samples that have valid pixels.
        fl_all: percent of valid pixels that are KITTI outliers (> 3 px and > 5 %).
        outlier_3px: percent of valid pixels off by more than 3 px.
        valid_pixels, samples: what was counted. Without any valid pixel the means are NaN.
    """
    rows = list(samples)
    counts = np.array([row[COUNT] for row in rows], np.float64)
    sums = {name: np.array([row[name] for row in rows], np.float64) for name in SUMS}
    total = counts.sum()
    seen = counts > 0
    return {
        "aepe": _ratio(sums["aepe"].sum(), total),
        "aepe_per_image": _ratio((sums["aepe"][seen] / counts[seen]).sum(), seen.sum()),
        "fl_all": 100 * _ratio(sums["fl_all"].sum(), total),
        "outlier_3px": 100 * _ratio(sums["outlier_3px"].sum(), total),
        COUNT: float(total),
        "samples": float(len(rows)),
    }


def _ratio(total: float, count: float) -> float:
    return float(total / count) if count else float("nan")
