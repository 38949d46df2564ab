"""Data sets: an index function each, a folder in, a sorted list of samples out, nothing decoded.

docs/datasets.md describes each data set; catalogue.toml says where the public ones are.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.datasets.benchmarks import (
    KITTI_2012_FRAMES,
    flyingchairs,
    flyingchairs2,
    flyingthings3d,
    hd1k,
    kitti,
    kitti_frames,
    middlebury,
    sintel,
    spring,
    tartanair,
)
from pwc_exp.data.datasets.custom import folder, from_manifest
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


class Archive(NamedTuple):
    """A file to download; zip and tar are unpacked, anything else is placed as it is."""

    url: str
    name: str  # of the file; a URL may lack one
    strip: str = ""  # leading folder in the archive that is left out
    sha256: str | None = None  # only where a public source states it


class Entry(NamedTuple):
    """A data set of the catalogue. Unpacked, its root is what the index function expects."""

    name: str
    licence: str
    page: str  # of the data set: licence, citation and forms
    source: str  # who states the addresses
    archives: tuple[Archive, ...]  # empty: only by a form, or by another program


def _read_catalogue() -> dict[str, Entry]:
    content = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
    catalogue = {}
    for name, entry in content.items():
        archives = entry.pop("archives")
        named = [{"name": archive["url"].rpartition("/")[2], **archive} for archive in archives]
        catalogue[name] = Entry(name, **entry, archives=tuple(Archive(**one) for one in named))
    return catalogue


CATALOGUE = _read_catalogue()
