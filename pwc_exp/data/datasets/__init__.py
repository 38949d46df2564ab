"""One index function per data set: a folder in, a sorted list of samples out, nothing decoded.

docs/datasets.md describes each data set.
"""

from collections.abc import Callable

from pwc_exp.data.datasets.chairs import flyingchairs, flyingchairs2
from pwc_exp.data.datasets.driving import hd1k, kitti
from pwc_exp.data.datasets.films import sintel, spring
from pwc_exp.data.datasets.flights import tartanair
from pwc_exp.data.datasets.folders import folder, unlabelled
from pwc_exp.data.datasets.known import known_pairs
from pwc_exp.data.datasets.laboratory import middlebury
from pwc_exp.data.datasets.manifest import from_manifest
from pwc_exp.data.datasets.things import flyingthings3d
from pwc_exp.data.sample import Sample

DATASETS: dict[str, Callable[..., list[Sample]]] = {
    "flyingchairs": flyingchairs,
    "flyingchairs2": flyingchairs2,
    "flyingthings3d": flyingthings3d,
    "flyingthings3d_halfres": flyingthings3d,
    "sintel": sintel,
    "kitti": kitti,
    "hd1k": hd1k,
    "middlebury": middlebury,
    "spring": spring,
    "tartanair": tartanair,
    "folder": folder,
    "csv": from_manifest,
}

__all__ = [
    "DATASETS",
    "flyingchairs",
    "flyingchairs2",
    "flyingthings3d",
    "folder",
    "from_manifest",
    "hd1k",
    "kitti",
    "known_pairs",
    "middlebury",
    "sintel",
    "spring",
    "tartanair",
    "unlabelled",
]
