"""What each benchmark's instructions ask for: files, names, numbers, and how to upload them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwc_exp.config.commands import BenchmarkName
from pwc_exp.data.datasets.benchmarks import (
    kitti,
    kitti_test,
    sintel,
    sintel_test,
    spring,
    spring_test,
)
from pwc_exp.data.formats.headers import PNG_MAGIC, Size
from pwc_exp.data.formats.io import (
    FLO_MAGIC,
    HDF5_MAGIC,
    write_flo,
    write_flo5,
    write_kitti_png,
)
from pwc_exp.data.sample import Sample


class FlowFormat(NamedTuple):
    """A file format of flow."""

    magic: bytes
    write: Callable[[Path, np.ndarray], None]
    limit: float | None = None  # px; a component must be below it


FLO = FlowFormat(FLO_MAGIC, write_flo)
KITTI_PNG = FlowFormat(PNG_MAGIC, write_kitti_png, limit=512.0)
FLO5 = FlowFormat(HDF5_MAGIC, write_flo5)


class Benchmark(NamedTuple):
    """What a benchmark asks for.

    test, training: (root) -> its pairs.
    rename: (pattern, replacement) from a sample's id to the file's name.
    names: pattern of the names of the test split's files.
    files: how many of them, by the `part` in their names.
    part: what of a name is its part; the errors of a dry run are reported by it.
    size: of all frames, where they have the same.
    zipped: whether the server takes a zip of the files.
    upload: how to submit; {folder} and {zip} are filled in.
    """

    test: Callable[[Path], list[Sample]]
    training: Callable[[Path], list[Sample]]
    rename: tuple[str, str]
    format: FlowFormat
    names: str
    files: Mapping[str, int]
    part: Callable[[str], str]
    size: Size | None
    zipped: bool
    upload: str

    def name_of(self, sample: Sample) -> str:
        """The name of a sample's file in the bundle."""
        pattern, replacement = self.rename
        return re.sub(f"^{pattern}$", replacement, sample.id)

    def parts(self, names: Iterable[str]) -> Counter[str]:
        """How many files there are of each part."""
        return Counter(map(self.part, names))


def _kitti_training(root: Path) -> list[Sample]:
    measured = (root / "training/flow_occ").is_dir()  # what the servers' main tables count
    return kitti(root, truth="occ" if measured else "noc")


_KITTI = Benchmark(
    test=kitti_test,
    training=_kitti_training,
    rename=(r"(.*)", r"flow/\1.png"),
    format=KITTI_PNG,
    names=r"flow/000[01]\d\d_10\.png",
    files={"flow": 200},
    part=lambda name: name.split("/")[0],
    size=None,
    zipped=True,
    upload="upload {zip} at https://www.cvlibs.net/datasets/kitti",
)
# Sintel: 552 pairs a pass, tfoptflow's recorded predictions. The bundler comes with the data set.
# KITTI: the readme of each development kit; in 2012 the files are in the root of the zip.
# Spring: 3,960 in all, https://github.com/naver/croco stereoflow. The tool is on Spring's own site:
# which pixels it takes is secret.
BENCHMARKS = {
    BenchmarkName.sintel: Benchmark(
        test=sintel_test,
        training=lambda root: sintel(root, render_pass="both"),
        rename=(r"(.*)", r"\1.flo"),
        format=FLO,
        names=r"(clean|final)/[A-Za-z0-9_]+/frame_\d{4}\.flo",
        files={"clean": 552, "final": 552},
        part=lambda name: name.split("/")[0],
        size=Size(436, 1024),
        zipped=False,
        upload=(
            "MPI-Sintel-complete/bundler/linux-x64/bundler {folder}/clean {folder}/final "
            "bundled.lzma, then upload bundled.lzma at http://sintel.is.tue.mpg.de"
        ),
    ),
    BenchmarkName.kitti2012: _KITTI._replace(
        rename=(r"(.*)", r"\1.png"),
        names=r"000(0\d\d|1[0-8]\d|19[0-4])_10\.png",
        files={"flow": 195},
        part=lambda name: "flow",
    ),
    BenchmarkName.kitti2015: _KITTI,
    BenchmarkName.spring: Benchmark(
        test=spring_test,
        training=lambda root: spring(root, camera="both", direction="both"),
        rename=(r"(.*)/(flow_.*)/(.*)", r"\1/\2/\2_\3.flo5"),
        format=FLO5,
        names=r"\d{4}/(flow_(?:FW|BW)_(?:left|right))/\1_\d{4}\.flo5",
        files={f"flow_{way}_{side}": 990 for way in ("FW", "BW") for side in ("left", "right")},
        part=lambda name: name.split("/")[1],
        size=Size(1080, 1920),
        zipped=False,
        upload=(
            "flow_subsampling {folder} (from https://spring-benchmark.org), then upload the .hdf5 "
            "file that it writes there"
        ),
    ),
}
