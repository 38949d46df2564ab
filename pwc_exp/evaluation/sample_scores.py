"""The sums of one sample, from which every metric is computed.

Letters: H height, W width; s is 1, or 2 where the ground truth is finer than the frames.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from pwc_exp.evaluation.metrics import CURVES, ERROR_EDGES, SPEED_EDGES, THRESHOLDS
from pwc_exp.flow import FL_PIXELS, FL_SHARE

# Weighted area under the curve: Richter, Hayder, Koltun, "Playing for Benchmarks", ICCV 2017. The
# share of pixels within i/20 px, i = 1 .. 100, weighs 1 - (i - 1)/100.
_WAUC_BOUNDS = np.arange(1, 101) / 20  # px
_WAUC_WEIGHTS = 1 - np.arange(100) / 100
# What a pixel contributes whose error is first within bound i: the weights of i and all after it.
_WAUC_CREDIT = np.append(np.cumsum(_WAUC_WEIGHTS[::-1])[::-1] / _WAUC_WEIGHTS.sum(), 0.0)
# Motion boundaries: Sundaram, Brox, Keutzer, "Dense Point Trajectories by GPU-accelerated Large
# Displacement Optical Flow", ECCV 2010: |∇u|² + |∇v|² > 0.01 |w|² + 0.002.
_RELATIVE, _ABSOLUTE = 0.01, 0.002
_DENSE = 0.5  # share of valid pixels below which motion boundaries cannot be found


class Field(NamedTuple):
    """A flow field and where it is valid."""

    flow: np.ndarray  # [sH, sW, 2] in pixels of the frames; anything, NaN too, where not valid
    valid: np.ndarray  # [sH, sW], 0 or 1


class GroundTruth(NamedTuple):
    """What is known about one pair. A mask that the data set does not have is None."""

    flow: np.ndarray  # [H, W, 2] in pixels; anything, NaN too, where not valid
    valid: np.ndarray  # [H, W], 0 or 1
    occlusion: np.ndarray | None = None  # [H, W], nonzero where occluded in frame 2
    foreground: np.ndarray | None = None  # [H, W], nonzero on moving objects (KITTI 2015)
    plain: Field | None = None  # [H, W] as stored in the file, no mask applied; None: as above
    fine: Field | None = None  # [2H, 2W] where the file is finer (Spring); None: as `plain`


def score(estimate: np.ndarray, truth: GroundTruth) -> dict[str, float]:
    """The sums of one sample by name; `metrics.means` turns those of many samples into metrics.

    What cannot be measured (the mask is missing, the bin is empty) has a count of 0. An estimate
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
            "estimate, ground truth and mask must have the same size. Received: "
            f"{estimate.shape}, {flow.shape}, {valid.shape}"
        )
    flow = np.where(valid[..., None], flow, 0.0)
    error, speed = _endpoint_error(estimate, flow), np.hypot(flow[..., 0], flow[..., 1])
    outlier = (error > FL_PIXELS) & (error > FL_SHARE * speed)
    sums = _whole(error[valid], outlier[valid], _angular_error(estimate, flow)[valid])
    for name, region in _regions(truth, valid, speed):
        sums[f"pixels_{name}"] = float(region.sum())
        sums[f"aepe_{name}"] = float(error[region].sum())
        sums[f"outlier_3px_{name}"] = float((error[region] > 3).sum())
        sums[f"fl_{name}"] = float(outlier[region].sum())
    sums |= _histograms(error[valid], speed[valid])
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
    truth: GroundTruth, valid: np.ndarray, speed: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and masks, [H, W] bool, of the parts of a frame that have metrics of their own."""
    yield "s0_10", valid & (speed < 10)
    yield "s10_40", valid & (speed >= 10) & (speed <= 40)
    yield "s40_plus", valid & (speed > 40)
    nothing = np.zeros_like(valid)
    occluded = None if truth.occlusion is None else np.asarray(truth.occlusion) > 0
    yield "matched", nothing if occluded is None else valid & ~occluded
    yield "unmatched", nothing if occluded is None else valid & occluded
    front = None if truth.foreground is None else np.asarray(truth.foreground) > 0
    yield "bg", nothing if front is None else valid & ~front
    yield "fg", nothing if front is None else valid & front
    edges = _motion_boundaries(truth.flow, valid) if valid.mean() >= _DENSE else nothing
    yield from _rings("d", valid, edges)
    yield from _rings("o", valid, nothing if occluded is None else _inner_edge(occluded))


def _rings(
    letter: str, valid: np.ndarray, boundaries: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Valid pixels by their distance, in pixels, to the nearest of `boundaries`."""
    if boundaries.any():
        distance = distance_transform_edt(~boundaries)
    else:
        distance = np.full(boundaries.shape, np.inf)
    for lower, upper in ((0, 10), (10, 60), (60, 140)):
        yield f"{letter}{lower}_{upper}", valid & (distance >= lower) & (distance < upper)


def _motion_boundaries(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where the true motion changes abruptly, [H, W] bool.

    A pixel is on a boundary if |∇u|² + |∇v|² > 0.01 |w|² + 0.002, where ∇ are the differences to
    its right and lower neighbours. A difference to a pixel that is not valid counts as 0.
    """
    flow = np.where(valid[..., None], flow, 0.0)
    squares = np.zeros(valid.shape)
    for axis in (0, 1):
        both = valid & np.roll(valid, -1, axis)
        change = (np.diff(flow, axis=axis, append=np.take(flow, [-1], axis)) ** 2).sum(axis=-1)
        last = [slice(None), slice(None)]
        last[axis] = slice(-1, None)
        both[tuple(last)] = False
        squares += np.where(both, change, 0.0)
    return squares > _RELATIVE * (flow**2).sum(axis=-1) + _ABSOLUTE


def _inner_edge(occluded: np.ndarray) -> np.ndarray:
    """Occluded pixels with a visible 4-neighbour, [H, W] bool."""
    around = np.pad(occluded, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return occluded & ~inner


def _as_stored(estimate: np.ndarray, field: Field) -> dict[str, float]:
    """Sums over the stored ground truth; each of its pixels meets the estimate it lies in."""
    valid = np.asarray(field.valid) > 0
    factor = valid.shape[0] // estimate.shape[0]
    grown = estimate.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else estimate
    flow = np.asarray(field.flow, np.float64)[valid]
    error, speed = _endpoint_error(grown[valid], flow), np.hypot(flow[..., 0], flow[..., 1])
    sums = {
        "pixels": float(error.size),
        "aepe": float(error.sum()),
        "fl": float(((error > FL_PIXELS) & (error > FL_SHARE * speed)).sum()),
        "wauc": _wauc(error),
        "outlier_1px": float((error > 1).sum()),
    }
    return sums | {f"below_{t}px": float((error < t).sum()) for t in THRESHOLDS}


def _histograms(error: np.ndarray, speed: np.ndarray) -> dict[str, float]:
    """The bins of `CURVES` over all valid pixels, given as [N]."""
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


def _endpoint_error(estimate: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`flow.metrics.endpoint_error` in float64; infinite where the estimate is not finite."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        x, y = np.moveaxis(estimate - flow, -1, 0)
    error: np.ndarray = np.nan_to_num(np.hypot(x, y), nan=np.inf, posinf=np.inf)
    return error


def _angular_error(estimate: np.ndarray, flow: np.ndarray) -> np.ndarray:
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
    return float(_WAUC_CREDIT[np.searchsorted(_WAUC_BOUNDS, error, side="left")].sum())
