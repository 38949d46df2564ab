"""The sums of one sample: the entry point to every metric.

Letters: H height, W width; s is 1, or 2 where the truth is finer than the frames.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pwc_exp.flow.outliers import FL_PIXELS, FL_SHARE
from pwc_exp.scoring.boundaries import (
    dense_enough,
    distance_to,
    motion_boundaries,
    occlusion_boundaries,
)

THRESHOLDS = (1, 3, 5)  # pixels
# Weighted area under the curve: Richter, Hayder, Koltun, "Playing for Benchmarks", ICCV 2017. The
# share of pixels within i/20 px, i = 1 .. 100, weighs 1 - (i - 1)/100.
WAUC_BOUNDS = np.arange(1, 101) / 20  # px
_WAUC_WEIGHTS = 1 - np.arange(100) / 100
# What a pixel contributes whose error is first within bound i: the weights of i and all after it.
_WAUC_CREDIT = np.append(np.cumsum(_WAUC_WEIGHTS[::-1])[::-1] / _WAUC_WEIGHTS.sum(), 0.0)

SPEED_EDGES = np.array([0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, np.inf])  # px, of the true motion
ERROR_EDGES = np.array([0, *2.0 ** np.arange(-6, 8.5, 0.5), np.inf])  # px, of the endpoint error
CURVES = {  # names of sums, in the order of the bins
    "speed_pixels": [f"speed_pixels_{n}" for n in range(len(SPEED_EDGES) - 1)],
    "speed_error": [f"speed_error_{n}" for n in range(len(SPEED_EDGES) - 1)],
    "error_pixels": [f"error_pixels_{n}" for n in range(len(ERROR_EDGES) - 1)],
}


class Field(NamedTuple):
    """A flow and where it is known."""

    flow: np.ndarray  # [sH, sW, 2] in pixels of the frames; anything, NaN too, where not valid
    valid: np.ndarray  # [sH, sW], 0 or 1


class Truth(NamedTuple):
    """What is known about one pair. Masks that a data set does not have are None."""

    flow: np.ndarray  # [H, W, 2] in pixels; anything, NaN too, where not valid
    valid: np.ndarray  # [H, W], 0 or 1
    occlusion: np.ndarray | None = None  # [H, W], nonzero where hidden in frame 2
    foreground: np.ndarray | None = None  # [H, W], nonzero on moving objects (KITTI 2015)
    plain: Field | None = None  # [H, W] as the file has it, no mask applied; None: as above
    fine: Field | None = None  # [2H, 2W] where the file is finer (Spring); None: as `plain`


def score(estimate: np.ndarray, truth: Truth) -> dict[str, float]:
    """The sums of a sample, by name; `metrics.means` makes metrics of those of many samples.

    What cannot be measured (a mask that is not there, an empty bin) has a count of 0. An estimate
    that is not finite has an infinite error, and an angular error of 180°.

    Args:
        estimate: [H, W, 2] in pixels.
        truth: of the same size.

    Raises:
        ValueError: the sizes differ.
    """
    estimate = np.asarray(estimate, np.float64)
    flow, valid = np.asarray(truth.flow, np.float64), np.asarray(truth.valid) > 0
    if estimate.shape != (*valid.shape, 2) or flow.shape != estimate.shape:
        raise ValueError(
            f"estimate, truth and mask must be of one size. Received: {estimate.shape}, "
            f"{flow.shape}, {valid.shape}"
        )
    flow = np.where(valid[..., None], flow, 0.0)
    error, speed = _distance(estimate, flow), np.hypot(flow[..., 0], flow[..., 1])
    angle = _angle(estimate, flow)
    outlier = (error > FL_PIXELS) & (error > FL_SHARE * speed)
    sums = _whole(error[valid], outlier[valid], angle[valid])
    for name, region in _regions(truth, valid, speed):
        sums[f"pixels_{name}"] = float(region.sum())
        sums[f"aepe_{name}"] = float(error[region].sum())
        sums[f"outlier_3px_{name}"] = float((error[region] > 3).sum())
        sums[f"fl_{name}"] = float(outlier[region].sum())
    sums |= _curves(error[valid], speed[valid])
    plain = _as_stored(estimate, truth.plain or Field(flow, valid))
    fine = _as_stored(estimate, truth.fine) if truth.fine else plain
    sums |= {f"plain_{name}": value for name, value in plain.items()}
    return sums | {f"fine_{name}": value for name, value in fine.items()}


def _whole(error: np.ndarray, outlier: np.ndarray, angle: np.ndarray) -> dict[str, float]:
    """Sums over all valid pixels, given as [N]."""
    count = error.size
    sums = {
        "valid_pixels": float(count),
        "images": float(count > 0),
        "aepe": float(error.sum()),
        "aepe_per_image": float(error.mean()) if count else 0.0,
        "fl_all": float(outlier.sum()),
        "aae": float(angle.sum()),
        "wauc": _wauc(error),
    }
    return sums | {f"outlier_{t}px": float((error > t).sum()) for t in THRESHOLDS}


def _regions(
    truth: Truth, valid: np.ndarray, speed: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and masks, [H, W] bool, of the parts of a frame that have metrics of their own."""
    yield "s0_10", valid & (speed < 10)
    yield "s10_40", valid & (speed >= 10) & (speed <= 40)
    yield "s40_plus", valid & (speed > 40)
    nothing = np.zeros_like(valid)
    hidden = None if truth.occlusion is None else np.asarray(truth.occlusion) > 0
    yield "matched", nothing if hidden is None else valid & ~hidden
    yield "unmatched", nothing if hidden is None else valid & hidden
    front = None if truth.foreground is None else np.asarray(truth.foreground) > 0
    yield "bg", nothing if front is None else valid & ~front
    yield "fg", nothing if front is None else valid & front
    edges = motion_boundaries(truth.flow, valid) if dense_enough(valid) else nothing
    yield from _rings("d", valid, edges)
    yield from _rings("o", valid, nothing if hidden is None else occlusion_boundaries(hidden))


def _rings(
    letter: str, valid: np.ndarray, boundaries: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    distance = distance_to(boundaries)
    for lower, upper in ((0, 10), (10, 60), (60, 140)):
        yield f"{letter}{lower}_{upper}", valid & (distance >= lower) & (distance < upper)


def _as_stored(estimate: np.ndarray, field: Field) -> dict[str, float]:
    """Sums over a truth as others take it; each of its pixels meets the estimate it lies in."""
    valid = np.asarray(field.valid) > 0
    factor = valid.shape[0] // estimate.shape[0]
    grown = estimate.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else estimate
    flow = np.asarray(field.flow, np.float64)[valid]
    error, speed = _distance(grown[valid], flow), np.hypot(flow[..., 0], flow[..., 1])
    sums = {
        "pixels": float(error.size),
        "aepe": float(error.sum()),
        "fl": float(((error > FL_PIXELS) & (error > FL_SHARE * speed)).sum()),
        "wauc": _wauc(error),
        "outlier_1px": float((error > 1).sum()),
    }
    return sums | {f"below_{t}px": float((error < t).sum()) for t in THRESHOLDS}


def _curves(error: np.ndarray, speed: np.ndarray) -> dict[str, float]:
    """Histograms, by `CURVES`, of errors and speeds of all valid pixels, given as [N]."""
    finite = np.where(np.isfinite(error), error, np.finfo(np.float64).max)
    speeds = np.digitize(speed, SPEED_EDGES[1:-1])
    errors = np.digitize(finite, ERROR_EDGES[1:-1])
    bins = len(SPEED_EDGES) - 1
    values = {
        "speed_pixels": np.bincount(speeds, minlength=bins),
        "speed_error": np.bincount(speeds, weights=error, minlength=bins),
        "error_pixels": np.bincount(errors, minlength=len(ERROR_EDGES) - 1),
    }
    return {
        name: float(value)
        for curve, names in CURVES.items()
        for name, value in zip(names, values[curve], strict=True)
    }


def _distance(estimate: np.ndarray, flow: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        x, y = np.moveaxis(estimate - flow, -1, 0)
    error: np.ndarray = np.nan_to_num(np.hypot(x, y), nan=np.inf, posinf=np.inf)
    return error


def _angle(estimate: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Angle between (u, v, 1) of both, in degrees.

    Barron, Fleet, Beauchemin, "Performance of Optical Flow Techniques", IJCV 1994. By the tangent,
    as the arc cosine loses small angles.
    """
    (u1, v1), (u2, v2) = np.moveaxis(estimate, -1, 0), np.moveaxis(flow, -1, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        across = np.sqrt((v1 - v2) ** 2 + (u2 - u1) ** 2 + (u1 * v2 - v1 * u2) ** 2)
        angle = np.degrees(np.arctan2(across, u1 * u2 + v1 * v2 + 1))
    return np.where(np.isfinite(estimate).all(axis=-1), angle, 180.0)


def _wauc(error: np.ndarray) -> float:
    """Sum of the pixels' parts in the weighted area; a pixel without any error has 1."""
    return float(_WAUC_CREDIT[np.searchsorted(WAUC_BOUNDS, error, side="left")].sum())
