"""Metric definitions of benchmarks and other codebases, applied to the same estimates.

A protocol names the figures of one data set as the benchmark or codebase prints them, and says how
each is made of the samples' sums (see `metrics.score`): over the pixels of all images, or as a mean
over images. Shares are 0 to 1; those scaled by 100 are percentages. None pools data sets.
docs/evaluation.md compares them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.evaluation.metrics import COUNT, THRESHOLDS, Sums

Figure = Callable[[Sequence[Sums]], float]  # NaN without any pixel
Figures = Mapping[str, Figure]


class GroundTruthKind(NamedTuple):
    """What the ground truth of a data set is like."""

    sparse: bool  # measured at some pixels only: KITTI, HD1K
    visible_only: bool = False  # pixels occluded in frame 2 are left out: KITTI's flow_noc


def _pooled(name: str, count: str = "plain_pixels", *, scale: float = 1) -> Figure:
    """Over the pixels of all images."""

    def figure(samples: Sequence[Sums]) -> float:
        pixels = float(sum(row[count] for row in samples))
        return scale * (sum(row[name] for row in samples) / pixels) if pixels else float("nan")

    return figure


def _per_image(name: str, count: str = "plain_pixels", *, scale: float = 1) -> Figure:
    """The mean of the images' own means, over images that have any pixel of the kind."""

    def figure(samples: Sequence[Sums]) -> float:
        own = [row[name] / row[count] for row in samples if row[count]]
        return scale * float(np.mean(own)) if own else float("nan")

    return figure


def _ptlflow_occlusion(part: str) -> Figure:
    """An image without such a pixel enters as 0, as its count is at least 1."""

    def figure(samples: Sequence[Sums]) -> float:
        if not any(row["pixels_matched"] + row["pixels_unmatched"] for row in samples):
            return float("nan")
        own = [row[f"aepe_{part}"] / max(row[f"pixels_{part}"], 1) for row in samples]
        return float(np.mean(own))

    return figure


_WITHIN = {f"{n}px": _pooled(f"plain_below_{n}px") for n in THRESHOLDS}  # within the bound
_SINTEL_PARTS = {
    **{"EPE matched": "matched", "EPE unmatched": "unmatched"},
    **{"d0-10": "o0_10", "d10-60": "o10_60", "d60-140": "o60_140"},
    **{"s0-10": "s0_10", "s10-40": "s10_40", "s40+": "s40_plus"},
}

# Butler et al., ECCV 2012, and http://sintel.is.tue.mpg.de/results, as the server's code is not
# public. "d" is the distance to the nearest occlusion boundary, here the inner edge of the masks.
_SINTEL: Figures = {
    "EPE all": _pooled("aepe", COUNT),
    **{name: _pooled(f"aepe_{part}", f"pixels_{part}") for name, part in _SINTEL_PARTS.items()},
}
# devkit/cpp/evaluate_flow.cpp of 2012 averages images, and has no relative bound; Noc: pixels
# visible in both frames. devkit/cpp/evaluate_scene_flow.cpp of 2015 pools the pixels of all.
_KITTI_2015: Figures = {
    "Fl-bg": _pooled("fl_bg", "pixels_bg", scale=100),
    "Fl-fg": _pooled("fl_fg", "pixels_fg", scale=100),
    "Fl-all": _pooled("fl_all", COUNT, scale=100),
}
_KITTI: Figures = {
    "Out-Noc": _per_image("outlier_3px_matched", "pixels_matched", scale=100),
    "Avg-Noc": _per_image("aepe_matched", "pixels_matched"),
    "Out-All": _per_image("outlier_3px", COUNT, scale=100),
    "Avg-All": _per_image("aepe", COUNT),
    **_KITTI_2015,
}
_KITTI_NOC: Figures = {"Out-Noc": _KITTI["Out-All"], "Avg-Noc": _KITTI["Avg-All"], **_KITTI_2015}
# https://github.com/princeton-vl/RAFT/blob/master/evaluate.py: `validate_sintel` counts invalid
# pixels too; `validate_kitti` averages the EPE over images, and pools the pixels for Fl.
_RAFT: Figures = {"EPE": _pooled("plain_aepe"), **_WITHIN}
_RAFT_KITTI: Figures = {
    "kitti-epe": _per_image("plain_aepe"),
    "kitti-f1": _pooled("plain_fl", scale=100),
}
# Torchvision's references/optical_flow/train.py: masks are KITTI's own only, so Sintel's invalid
# pixels count; f1 is Fl in percent.
_TORCHVISION: Figures = {
    "epe": _pooled("plain_aepe"),
    "per_image_epe": _per_image("plain_aepe"),
    **_WITHIN,
    "f1": _pooled("plain_fl", scale=100),
}
# Mmflow's core/evaluation/metrics.py: `LoadAnnotations` reads no mask of a dense data set, so
# Sintel's invalid pixels count.
_MMFLOW: Figures = {"EPE": _pooled("plain_aepe"), "Fl": _pooled("plain_fl", scale=100)}
# Ptlflow's utils/flow_metrics.py: everything a mean over images; px1, px3, px5 are shares within.
_PTLFLOW: Figures = {
    "epe": _per_image("plain_aepe"),
    **{f"px{n}": _per_image(f"plain_below_{n}px") for n in THRESHOLDS},
    "flall": _per_image("plain_fl", scale=100),
    "epe_occ": _ptlflow_occlusion("unmatched"),
    "epe_non_occ": _ptlflow_occlusion("matched"),
}
# Mehl et al., CVPR 2023; the server's code is not public. 1px: off by *more* than 1 px. Each value
# of the finer ground truth is compared with the estimate of the pixel that contains it.
_SPRING: Figures = {
    "1px": _pooled("fine_outlier_1px", "fine_pixels", scale=100),
    "EPE": _pooled("fine_aepe", "fine_pixels"),
    "Fl": _pooled("fine_fl", "fine_pixels", scale=100),
    "WAUC": _pooled("fine_wauc", "fine_pixels", scale=100),
}
PROTOCOLS: dict[str, Callable[[GroundTruthKind], Figures]] = {
    "sintel": lambda _: _SINTEL,
    "kitti": lambda kind: _KITTI_NOC if kind.visible_only else _KITTI,
    "raft": lambda kind: _RAFT_KITTI if kind.sparse else _RAFT,
    "torchvision": lambda _: _TORCHVISION,
    "mmflow": lambda _: _MMFLOW,
    "ptlflow": lambda _: _PTLFLOW,
    "spring": lambda _: _SPRING,
}


def score_by_protocols(
    names: Sequence[str], samples: Sequence[Sums], kind: GroundTruthKind
) -> dict[str, dict[str, float]]:
    """{protocol: {its name of a figure: value}}; figures without any pixel are left out."""
    found = {
        name: {key: figure(samples) for key, figure in PROTOCOLS[name](kind).items()}
        for name in names
    }
    return {
        name: {key: value for key, value in figures.items() if not np.isnan(value)}
        for name, figures in found.items()
    }
