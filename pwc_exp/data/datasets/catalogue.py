"""Where the public data sets can be downloaded, and under which licence.

Every address is one that the data set's own site, or public code or documentation named in
`source`, states. None of them states a sha256, so none is given; what was received is written
beside each archive.
"""

from typing import NamedTuple

_LMB = "https://lmb.informatik.uni-freiburg.de"
_LMB_LICENCE = "for research only, any commercial use is prohibited"
_LMB_SCENES = f"{_LMB}/resources/datasets/SceneFlowDatasets.en.html"
_THINGS = f"{_LMB}/data/SceneFlowDatasets_CVPR16/Release_april16/data/FlyingThings3D"
_THINGS_SUBSET = f"{_LMB}/data/FlyingThings3D_subset/FlyingThings3D_subset"
_KITTI = "https://s3.eu-central-1.amazonaws.com/avg-kitti"
_KITTI_LICENCE = "CC BY-NC-SA 3.0"
_KITTI_PAGE = "https://www.cvlibs.net/datasets/kitti"
_HD1K = "http://hci-benchmark.iwr.uni-heidelberg.de"  # no source states an https address of it
_MIDDLEBURY = "https://vision.middlebury.edu/flow/data"
_DARUS = "https://darus.uni-stuttgart.de"


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


def _archives(*urls: str, strip: str = "") -> tuple[Archive, ...]:
    return tuple(Archive(url, url.rpartition("/")[2], strip) for url in urls)


_ENTRIES = (
    Entry(
        "sintel",
        "none stated by its authors; derived from the film Sintel, (c) Blender Foundation",
        "http://sintel.is.tue.mpg.de",
        "tfoptflow README; mmflow docs/en/data_prepare/Sintel",
        _archives("https://files.is.tue.mpg.de/sintel/MPI-Sintel-complete.zip"),
    ),
    Entry(
        "flyingchairs",
        _LMB_LICENCE,
        f"{_LMB}/resources/datasets/FlyingChairs.en.html",
        "tfoptflow README; LiteFlowNet README",
        (
            *_archives(f"{_LMB}/resources/datasets/FlyingChairs/FlyingChairs_train_val.txt"),
            *_archives(f"{_LMB}/data/FlyingChairs/FlyingChairs.zip", strip="FlyingChairs_release"),
        ),
    ),
    Entry(
        "flyingchairs2",
        _LMB_LICENCE,
        f"{_LMB}/resources/datasets/FlyingChairs.en.html#flyingchairs2",
        "public download scripts on GitHub (31.2 GB)",
        _archives(f"{_LMB}/data/FlyingChairs2.zip", strip="FlyingChairs2"),
    ),
    Entry(
        "flyingthings3d",
        _LMB_LICENCE,
        _LMB_SCENES,
        "LiteFlowNet README (37 GB and 311 GB); public download scripts on GitHub (final pass)",
        _archives(
            f"{_LMB}/resources/datasets/SceneFlow/assets/all_unused_files.txt",
            f"{_THINGS}/raw_data/flyingthings3d__frames_cleanpass.tar",
            f"{_THINGS}/raw_data/flyingthings3d__frames_finalpass.tar",
            f"{_THINGS}/derived_data/flyingthings3d__optical_flow.tar.bz2",
        ),
    ),
    Entry(
        "flyingthings3d_subset",
        _LMB_LICENCE,
        _LMB_SCENES,
        "public download scripts on GitHub; mmflow docs/en/data_prepare/FlyingThings3d_subset",
        _archives(
            f"{_THINGS_SUBSET}_image_clean.tar.bz2",
            f"{_THINGS_SUBSET}_flow.tar.bz2",
            strip="FlyingThings3D_subset",
        ),
    ),
    Entry(
        "kitti2012",
        _KITTI_LICENCE,
        f"{_KITTI_PAGE}/eval_stereo_flow.php?benchmark=flow",
        "public download scripts on GitHub (1.9 GB); the page mails the same address",
        _archives(f"{_KITTI}/data_stereo_flow.zip"),
    ),
    Entry(
        "kitti2015",
        _KITTI_LICENCE,
        f"{_KITTI_PAGE}/eval_scene_flow.php?benchmark=flow",
        "public download scripts on GitHub (1.6 GB); the page mails the same address",
        _archives(f"{_KITTI}/data_scene_flow.zip"),
    ),
    Entry(
        "hd1k",
        "none stated by its authors",
        "http://hci-benchmark.org",
        "rvc_devkit flow/benchmark_hd1k.py; public download scripts on GitHub",
        _archives(
            f"{_HD1K}/media/downloads/hd1k_input.zip", f"{_HD1K}/media/downloads/hd1k_flow_gt.zip"
        ),
    ),
    Entry(
        "middlebury",
        "none stated by its authors; their paper calls it freely available",
        f"{_MIDDLEBURY}/",
        "rvc_devkit flow/benchmark_middlebury.py; public download scripts on GitHub",
        _archives(
            f"{_MIDDLEBURY}/comp/zip/other-color-twoframes.zip",
            f"{_MIDDLEBURY}/comp/zip/other-gt-flow.zip",
        ),
    ),
    Entry(
        "spring",
        "CC BY 4.0",
        f"{_DARUS}/dataset.xhtml?persistentId=doi:10.18419/darus-3376",
        "taroii/3d-reconstruction curv/server/download_spring.sh (13.4 GB and 47.2 GB)",
        (
            Archive(f"{_DARUS}/api/access/datafile/199097", "train_frame_left.zip", "spring"),
            Archive(f"{_DARUS}/api/access/datafile/199011", "train_flow_FW_left.zip", "spring"),
        ),
    ),
    Entry(
        "tartanair",
        "CC BY 4.0",
        "https://theairlab.org/tartanair-dataset/",
        "ptlflow docs/source/datasets/datasets_list.rst",
        (),
    ),
    Entry(
        "viper",
        "see the page",
        "https://playing-for-benchmarks.org/download/",
        "ptlflow docs/source/datasets/datasets_list.rst",
        (),
    ),
)
CATALOGUE = {entry.name: entry for entry in _ENTRIES}
