"""The metrics: the sums of one sample, and the means over many that are made of them.

Letters: H height, W width; N valid pixels; s is 1, or 2 where the ground truth is finer than the
frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from pwc_exp.flow import FL_PIXELS, FL_SHARE

COUNT = "valid_pixels"  # of a sample
THRESHOLDS = (1, 3, 5)  # pixels, of the outlier metrics
SPEED_EDGES = np.array([0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, np.inf])  # px, true motion
SPEED_LABELS = [f"{edge:.3g}" for edge in SPEED_EDGES[:-1]] + ["∞"]
ERROR_EDGES = np.array([0, *2.0 ** np.arange(-6, 8.5, 0.5), np.inf])  # px, endpoint error
CURVES = {  # histogram -> the names of its sums, in the order of the bins
    name: [f"{name}_{n}" for n in range(len(edges) - 1)]
    for name, edges in (
        ("speed_pixels", SPEED_EDGES),
        ("speed_error", SPEED_EDGES),
        ("error_pixels", ERROR_EDGES),
    )
}
# Weighted area under the curve: Richter, Hayder, Koltun, "Playing for Benchmarks", ICCV 2017. The
# share of pixels within i/20 px, i = 1 .. 100, weighs 1 - (i - 1)/100.
_WAUC_BOUNDS = np.arange(1, 101) / 20  # px
_WAUC_WEIGHTS = 1 - np.arange(100) / 100
# What a pixel contributes whose error is first within bound i: the weights of i and all after it.
_WAUC_CREDIT = np.append(np.cumsum(_WAUC_WEIGHTS[::-1])[::-1] / _WAUC_WEIGHTS.sum(), 0.0)
_DENSE = 0.5  # share of valid pixels below which motion boundaries cannot be found

Sums = Mapping[str, float]  # of one sample, see `score`


class Metric(NamedTuple):
    """A mean: the sum `name` divided by the sum `over`, times 100 for percentages."""

    name: str
    unit: str  # px, % or °
    over: str  # the count that it is divided by
    meaning: str
    better: int = -1  # -1: lower is better, 1: higher

    @property
    def scale(self) -> float:
        """What the ratio is multiplied by."""
        return 100.0 if self.unit == "%" else 1.0


METRICS: tuple[Metric, ...] = (
    Metric("aepe", "px", COUNT, "mean endpoint error over all valid pixels"),
    Metric("aepe_per_image", "px", "images", "mean over samples of each sample's own AEPE"),
    Metric("fl_all", "%", COUNT, "pixels off by more than 3 px and more than 5 % of the motion"),
    Metric("fl_bg", "%", "pixels_bg", "Fl of the background (KITTI 2015)"),
    Metric("fl_fg", "%", "pixels_fg", "Fl of moving objects (KITTI 2015)"),
    Metric("outlier_1px", "%", COUNT, "pixels off by more than 1 px"),
    Metric("outlier_3px", "%", COUNT, "pixels off by more than 3 px"),
    Metric("outlier_5px", "%", COUNT, "pixels off by more than 5 px"),
    Metric("aae", "°", COUNT, "angular error between (u, v, 1) of prediction and ground truth"),
    Metric("wauc", "%", COUNT, "weighted area under the curve of errors up to 5 px", better=1),
    *(
        Metric(f"aepe_{region}", "px", f"pixels_{region}", f"AEPE {meaning}")
        for region, meaning in (
            ("s0_10", "where the motion is below 10 px"),
            ("s10_40", "where the motion is 10 to 40 px"),
            ("s40_plus", "where the motion is above 40 px"),
            ("matched", "of pixels visible in both frames"),
            ("unmatched", "of pixels occluded in frame 2"),
            ("d0_10", "closer than 10 px to a motion boundary"),
            ("d10_60", "10 to 60 px from the nearest motion boundary"),
            ("d60_140", "60 to 140 px from the nearest motion boundary"),
        )
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
COUNTS = tuple(dict.fromkeys(metric.over for metric in METRICS))  # "images" among them


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


def means(samples: Sequence[Sums]) -> dict[str, float]:
    """Every metric over many samples, with `valid_pixels` and `samples`.

    NaN where nothing was counted: no sample has the mask, or the bin is empty.
    """
    totals = total(samples)
    found = {
        m.name: m.scale * totals[m.name] / totals[m.over] if totals.get(m.over) else np.nan
        for m in METRICS
    }
    return {**found, COUNT: totals.get(COUNT, 0.0), "samples": float(len(samples))}


def total(samples: Sequence[Sums]) -> dict[str, float]:
    """The sums of many samples, added up."""
    names = samples[0] if samples else ()
    return {name: float(sum(sample[name] for sample in samples)) for name in names}


def score(estimate: np.ndarray, truth: GroundTruth) -> dict[str, float]:
    """The sums of one sample by name; `means` turns those of many samples into metrics.

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
    error, speed, outlier = _errors(estimate, flow)
    known = error[valid]
    sums = {
        COUNT: float(known.size),
        "images": float(known.size > 0),
        "aepe": float(known.sum()),
        "aepe_per_image": float(known.mean()) if known.size else 0.0,
        "fl_all": float(outlier[valid].sum()),
        "aae": float(_angular_error(estimate, flow)[valid].sum()),
        "wauc": _wauc(known),
        **{f"outlier_{t}px": float((known > t).sum()) for t in THRESHOLDS},
        **_histograms(known, speed[valid]),
    }
    for name, region in _regions(truth, valid, speed):
        sums[f"pixels_{name}"] = float(region.sum())
        sums[f"aepe_{name}"] = float(error[region].sum())
        sums[f"outlier_3px_{name}"] = float((error[region] > 3).sum())
        sums[f"fl_{name}"] = float(outlier[region].sum())
    plain = _as_stored(estimate, truth.plain or Field(flow, valid))
    fine = _as_stored(estimate, truth.fine) if truth.fine else plain
    sums |= {f"plain_{name}": value for name, value in plain.items()}
    return sums | {f"fine_{name}": value for name, value in fine.items()}


def _errors(estimate: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pixel: endpoint error in float64, true speed, and whether it is an outlier (Fl).

    The error is infinite where the estimate is not finite.
    """
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        x, y = np.moveaxis(estimate - flow, -1, 0)
    error = np.nan_to_num(np.hypot(x, y), nan=np.inf, posinf=np.inf)
    speed = np.hypot(flow[..., 0], flow[..., 1])
    return error, speed, (error > FL_PIXELS) & (error > FL_SHARE * speed)


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


def _histograms(error: np.ndarray, speed: np.ndarray) -> dict[str, float]:
    """The bins of `CURVES` over all valid pixels, given as [N]."""
    speeds = np.digitize(speed, SPEED_EDGES[1:-1])
    errors = np.digitize(error, ERROR_EDGES[1:-1])
    bins = len(SPEED_EDGES) - 1
    values = (  # in the order of `CURVES`
        np.bincount(speeds, minlength=bins),
        np.bincount(speeds, weights=error, minlength=bins),
        np.bincount(errors, minlength=len(ERROR_EDGES) - 1),
    )
    names = [name for curve in CURVES.values() for name in curve]
    return dict(zip(names, map(float, np.concatenate(values)), strict=True))


def _regions(
    truth: GroundTruth, valid: np.ndarray, speed: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and masks, [H, W] bool, of the parts of a frame that have metrics of their own."""
    yield "s0_10", valid & (speed < 10)
    yield "s10_40", valid & (speed >= 10) & (speed <= 40)
    yield "s40_plus", valid & (speed > 40)
    boundaries = {"d": np.zeros_like(valid), "o": np.zeros_like(valid)}
    for mask, inside, outside in (
        (truth.occlusion, "unmatched", "matched"),
        (truth.foreground, "fg", "bg"),
    ):
        there = np.zeros_like(valid) if mask is None else np.asarray(mask) > 0
        yield inside, valid & there
        yield outside, valid & ~there & (mask is not None)
    if truth.occlusion is not None:
        boundaries["o"] = _inner_edge(np.asarray(truth.occlusion) > 0)
    if valid.mean() >= _DENSE:
        boundaries["d"] = _motion_boundaries(truth.flow, valid)
    for letter, boundary in boundaries.items():
        distance = np.full(valid.shape, np.inf)
        if boundary.any():
            distance = distance_transform_edt(~boundary)
        for lower, upper in ((0, 10), (10, 60), (60, 140)):
            yield f"{letter}{lower}_{upper}", valid & (distance >= lower) & (distance < upper)


def _motion_boundaries(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where the true motion changes abruptly, [H, W] bool: |∇u|² + |∇v|² > 0.01 |w|² + 0.002.

    Sundaram, Brox, Keutzer, "Dense Point Trajectories by GPU-accelerated Large Displacement Optical
    Flow", ECCV 2010. ∇ are the differences to the right and lower neighbours; a difference to a
    pixel that is not valid counts as 0.
    """
    flow = np.where(valid[..., None], flow, 0.0)
    down, right = ((np.diff(flow, axis=axis) ** 2).sum(axis=-1) for axis in (0, 1))
    squares = np.zeros(valid.shape)
    squares[:-1] += np.where(valid[:-1] & valid[1:], down, 0.0)
    squares[:, :-1] += np.where(valid[:, :-1] & valid[:, 1:], right, 0.0)
    return squares > 0.01 * (flow**2).sum(axis=-1) + 0.002


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
    error, _, outlier = _errors(grown[valid], np.asarray(field.flow, np.float64)[valid])
    return {
        "pixels": float(error.size),
        "aepe": float(error.sum()),
        "fl": float(outlier.sum()),
        "wauc": _wauc(error),
        "outlier_1px": float((error > 1).sum()),
        **{f"below_{t}px": float((error < t).sum()) for t in THRESHOLDS},
    }
