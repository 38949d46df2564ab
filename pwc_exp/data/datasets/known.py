"""How many pairs the complete data sets have."""

from pathlib import Path

from pwc_exp.data.datasets.driving import KITTI_2012_FRAMES, kitti_frames

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


def known_pairs(name: str, root: Path, **knobs: str) -> int | None:
    """How many pairs a data set has when nothing is missing; None where that is not known.

    name, knobs: as in DATASETS. root: tells KITTI 2012 from 2015.
    """
    if name == "kitti":
        name = (
            "kitti 2012" if kitti_frames(root / "training") in KITTI_2012_FRAMES else "kitti 2015"
        )
    one = KNOWN_PAIRS.get(name)
    return None if one is None else one * 2 ** list(knobs.values()).count("both")
