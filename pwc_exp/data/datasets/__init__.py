"""One index function per data set: a folder in, a sorted list of samples out, nothing decoded.

docs/datasets.md describes each data set.
"""

from collections.abc import Callable
from pathlib import Path

from pwc_exp.data.datasets.benchmarks import (
    KITTI_2012_FRAMES,
    hd1k,
    kitti,
    kitti_frames,
    middlebury,
    sintel,
    spring,
    tartanair,
)
from pwc_exp.data.datasets.chairs import flyingchairs, flyingchairs2
from pwc_exp.data.datasets.custom import folder, from_manifest, unlabelled
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


# Of one pass, one camera and one direction. Absent: no public source for the number was found.
KNOWN_PAIRS = {
    # README of FlyingChairs_release; its official split is 22232 train, 640 val
    "flyingchairs": 22_872,
    # https://github.com/philferriere/tfoptflow, recorded evaluations of the whole training set
    "sintel": 1_041,
    "kitti 2012": 194,  # tfoptflow, as above
    "kitti 2015": 200,  # https://www.cvlibs.net/datasets/kitti: 200 training scenes
    # https://github.com/cv-stuttgart/spring_utils, dataloader.py: 19852 of two cameras, both ways
    "spring": 4_963,
    # https://github.com/princeton-vl/SEA-RAFT/issues/25, also CroCo v2
    "tartanair": 306_268,
}


def known_pairs(name: str, root: Path, **settings: str) -> int | None:
    """How many pairs a data set has when nothing is missing; None where that is not known.

    name, settings: as in DATASETS. root: distinguishes KITTI 2012 from 2015.
    """
    if name == "kitti":
        name = (
            "kitti 2012" if kitti_frames(root / "training") in KITTI_2012_FRAMES else "kitti 2015"
        )
    one = KNOWN_PAIRS.get(name)
    return None if one is None else one * 2 ** list(settings.values()).count("both")
