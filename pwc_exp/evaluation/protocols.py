"""Metric definitions of benchmarks and other codebases, applied to the same estimates.

Each function takes the sums of all samples of one data set (see `sample_scores.score`) and what its
ground truth is like, and returns figures under the names that the benchmark or codebase prints.
None of them pools data sets.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.evaluation.metrics import THRESHOLDS, Sums, total


class GroundTruthKind(NamedTuple):
    """What the ground truth of a data set is like."""

    sparse: bool  # measured at some pixels only: KITTI, HD1K
    visible_only: bool = False  # pixels occluded in frame 2 are left out: KITTI's flow_noc


def sintel(samples: Sequence[Sums], kind: GroundTruthKind) -> dict[str, float]:
    """MPI-Sintel's table: means over pixels, by occlusion, distance to occlusions and speed.

    Butler et al., "A Naturalistic Open Source Movie for Optical Flow Evaluation", ECCV 2012, and
    http://sintel.is.tue.mpg.de/results: "d" is the distance to the nearest occlusion boundary, here
    the inner edge of the occlusion masks. The server's code is not public; that the pixels of all
    frames are pooled, that invalid ones are left out, and the limits of the bins follow the page.
    """
    t = total(samples)
    found = {"EPE all": _ratio(t, "aepe", "valid_pixels")}
    names = {"EPE matched": "matched", "EPE unmatched": "unmatched"}
    names |= {"d0-10": "o0_10", "d10-60": "o10_60", "d60-140": "o60_140"}
    names |= {"s0-10": "s0_10", "s10-40": "s10_40", "s40+": "s40_plus"}
    return found | {
        name: _ratio(t, f"aepe_{part}", f"pixels_{part}") for name, part in names.items()
    }


def kitti(samples: Sequence[Sums], kind: GroundTruthKind) -> dict[str, float]:
    """KITTI's tables: 2012 averages images and has no relative bound, 2015 pools pixels and has.

    2012, devkit/cpp/evaluate_flow.cpp: the share of pixels off by more than 3 px and the mean
    endpoint error of each image, then means over images; Noc: pixels visible in both frames, All:
    occluded ones too. 2015, devkit/cpp/evaluate_scene_flow.cpp: pixels off by more than 3 px and
    5 %, counted over all images.
    """
    if kind.visible_only:
        parts = {"Noc": ("", "valid_pixels")}
    else:
        parts = {"Noc": ("_matched", "pixels_matched"), "All": ("", "valid_pixels")}
    found = {}
    for name, (suffix, count) in parts.items():
        found[f"Out-{name}"] = 100 * _over_images(samples, f"outlier_3px{suffix}", count)
        found[f"Avg-{name}"] = _over_images(samples, f"aepe{suffix}", count)
    t = total(samples)
    found |= {
        f"Fl-{part}": 100 * _ratio(t, f"fl_{part}", f"pixels_{part}") for part in ("bg", "fg")
    }
    return found | {"Fl-all": 100 * _ratio(t, "fl_all", "valid_pixels")}


def raft(samples: Sequence[Sums], kind: GroundTruthKind) -> dict[str, float]:
    """RAFT's evaluate.py: on Sintel means over pixels, on KITTI the EPE is a mean over images.

    https://github.com/princeton-vl/RAFT/blob/master/evaluate.py. `validate_sintel`: all pixels of
    the .flo file, invalid ones too; 1px, 3px, 5px are the shares, 0 to 1, of pixels *within* the
    bound. `validate_kitti`: kitti-f1 is Fl over the pixels of all images, in percent.
    """
    t = total(samples)
    if kind.sparse:
        return {
            "kitti-epe": _over_images(samples, "plain_aepe", "plain_pixels"),
            "kitti-f1": 100 * _ratio(t, "plain_fl", "plain_pixels"),
        }
    return {"EPE": _ratio(t, "plain_aepe", "plain_pixels"), **_within(t)}


def torchvision(samples: Sequence[Sums], _: GroundTruthKind) -> dict[str, float]:
    """Torchvision's references/optical_flow/train.py: everything over pixels, and both EPEs.

    Masks are KITTI's own only, so Sintel's invalid pixels count; 1px, 3px, 5px are shares within
    the bound, 0 to 1; f1 is Fl in percent.
    """
    t = total(samples)
    return {
        "epe": _ratio(t, "plain_aepe", "plain_pixels"),
        "per_image_epe": _over_images(samples, "plain_aepe", "plain_pixels"),
        **_within(t),
        "f1": 100 * _ratio(t, "plain_fl", "plain_pixels"),
    }


def mmflow(samples: Sequence[Sums], _: GroundTruthKind) -> dict[str, float]:
    """Mmflow's core/evaluation/metrics.py: EPE and Fl, both over the pixels of all images.

    `LoadAnnotations` reads no mask of a dense data set, so Sintel's invalid pixels count.
    """
    t = total(samples)
    return {
        "EPE": _ratio(t, "plain_aepe", "plain_pixels"),
        "Fl": 100 * _ratio(t, "plain_fl", "plain_pixels"),
    }


def ptlflow(samples: Sequence[Sums], _: GroundTruthKind) -> dict[str, float]:
    """Ptlflow's utils/flow_metrics.py: everything a mean over images.

    An image without an occluded pixel enters epe_occ as 0, as its count is at least 1; px1, px3,
    px5 are shares within the bound, 0 to 1.
    """
    shares = {
        f"px{t}": _over_images(samples, f"plain_below_{t}px", "plain_pixels") for t in THRESHOLDS
    }
    found = {"epe": _over_images(samples, "plain_aepe", "plain_pixels"), **shares}
    found["flall"] = 100 * _over_images(samples, "plain_fl", "plain_pixels")
    if any(row["pixels_matched"] + row["pixels_unmatched"] for row in samples):
        for name, part in (("epe_occ", "unmatched"), ("epe_non_occ", "matched")):
            held = [row[f"aepe_{part}"] / max(row[f"pixels_{part}"], 1) for row in samples]
            found[name] = float(np.mean(held))
    return found


def spring(samples: Sequence[Sums], _: GroundTruthKind) -> dict[str, float]:
    """Spring's table: 1px is the percentage of pixels off by *more* than 1 px; EPE, Fl, WAUC.

    Mehl et al., "Spring: A High-Resolution High-Detail Dataset and Benchmark", CVPR 2023. The
    ground truth has twice the rows and columns of the frames: each of its values counts, and is
    compared with the estimate of the pixel that contains it. The server's code is not public.
    WAUC: Richter et al., "Playing for Benchmarks", ICCV 2017.
    """
    t = total(samples)
    return {
        "1px": 100 * _ratio(t, "fine_outlier_1px", "fine_pixels"),
        "EPE": _ratio(t, "fine_aepe", "fine_pixels"),
        "Fl": 100 * _ratio(t, "fine_fl", "fine_pixels"),
        "WAUC": 100 * _ratio(t, "fine_wauc", "fine_pixels"),
    }


PROTOCOLS: dict[str, Callable[[Sequence[Sums], GroundTruthKind], dict[str, float]]] = {
    protocol.__name__: protocol
    for protocol in (sintel, kitti, raft, torchvision, mmflow, ptlflow, spring)
}


def score_by_protocols(
    names: Sequence[str], samples: Sequence[Sums], kind: GroundTruthKind
) -> dict[str, dict[str, float]]:
    """{protocol: {its name of a figure: value}}; figures without any pixel are left out."""
    found = {name: PROTOCOLS[name](samples, kind) for name in names}
    return {
        name: {key: value for key, value in figures.items() if not np.isnan(value)}
        for name, figures in found.items()
    }


def _within(t: Sums) -> dict[str, float]:
    return {f"{n}px": _ratio(t, f"plain_below_{n}px", "plain_pixels") for n in THRESHOLDS}


def _ratio(t: Sums, name: str, count: str) -> float:
    return t[name] / t[count] if t.get(count) else float("nan")


def _over_images(samples: Sequence[Sums], name: str, count: str) -> float:
    """Mean of the images' own means, over images that have any pixel of the kind."""
    own = [row[name] / row[count] for row in samples if row[count]]
    return float(np.mean(own)) if own else float("nan")
