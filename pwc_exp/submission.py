"""Submissions: predictions for the test split of a benchmark, in the form that its server takes.

`BENCHMARKS` says what the instructions of each benchmark ask for: files, names, numbers, upload.
`validate` reads a bundle, a folder or a zip from anywhere, and reports what is wrong with it.
`submit`, the command, writes a bundle and validates it by reading it back, or validates one that
was made before; in a dry run, on the training split, it also scores it.
"""

import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import BenchmarkName, SubmitConfig
from pwc_exp.data.datasets.benchmarks import (
    kitti,
    kitti_test,
    sintel,
    sintel_test,
    spring,
    spring_test,
)
from pwc_exp.data.formats.headers import PNG_MAGIC, Size, read_bytes
from pwc_exp.data.formats.images import inspect_frame, read_frame
from pwc_exp.data.formats.io import (
    FLO_MAGIC,
    HDF5_MAGIC,
    KITTI_SCALE,
    read_flow,
    write_flo,
    write_flo5,
    write_kitti_png,
)
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import read_sample
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.evaluation import GroundTruth, means, score
from pwc_exp.evaluation.flow_sources import FlowFiles, FlowSource, Pairs, load_network_flow
from pwc_exp.evaluation.metrics import COUNT
from pwc_exp.evaluation.records import to_json

MAX_FILES = 100_000
MAX_FILE = 2**28  # bytes; a flow of 4K has 70 million
SHOWN = 5  # names in a line
FARTHEST = 2.0  # frame diagonals; longer motion is a mistake in the units
_BYTES_PER_PIXEL = 8
_DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip
_ENCRYPTED = 0x1
_KITTI_ENDS = (-32768 / KITTI_SCALE, 32767 / KITTI_SCALE)  # px, the ends of its range
_SCORES = ("aepe", "aepe_per_image", "fl_all", "outlier_3px", COUNT, "samples")


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
    files: how many of them, by the part of the bundle, which their folder names; the errors of a
        dry run are reported by it.
    size: of all frames, where they have the same.
    upload: how to submit; {folder} and {zip} are filled in.
    """

    test: Callable[[Path], list[Sample]]
    training: Callable[[Path], list[Sample]]
    rename: tuple[str, str]
    format: FlowFormat
    names: str
    files: Mapping[str, int]
    size: Size | None
    upload: str

    def name_of(self, sample: Sample) -> str:
        """The name of a sample's file in the bundle."""
        pattern, replacement = self.rename
        return re.sub(f"^{pattern}$", replacement, sample.id)

    def part_of(self, name: str) -> str:
        """The part that a file belongs to."""
        only = next(iter(self.files))  # where there are no folders
        return next((part for part in self.files if part in name.split("/")), only)

    def parts(self, names: Iterable[str]) -> Counter[str]:
        """How many files there are of each part."""
        return Counter(map(self.part_of, names))


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
    size=None,
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
        size=Size(436, 1024),
        upload=(
            "MPI-Sintel-complete/bundler/linux-x64/bundler {folder}/clean {folder}/final "
            "bundled.lzma, then upload bundled.lzma at http://sintel.is.tue.mpg.de"
        ),
    ),
    BenchmarkName.kitti2012: _KITTI._replace(
        rename=(r"(.*)", r"\1.png"),
        names=r"000(0\d\d|1[0-8]\d|19[0-4])_10\.png",
        files={"flow": 195},
    ),
    BenchmarkName.kitti2015: _KITTI,
    BenchmarkName.spring: Benchmark(
        test=spring_test,
        training=lambda root: spring(root, camera="both", direction="both"),
        rename=(r"(.*)/(flow_.*)/(.*)", r"\1/\2/\2_\3.flo5"),
        format=FLO5,
        names=r"\d{4}/(flow_(?:FW|BW)_(?:left|right))/\1_\d{4}\.flo5",
        files={f"flow_{way}_{side}": 990 for way in ("FW", "BW") for side in ("left", "right")},
        size=Size(1080, 1920),
        upload=(
            "flow_subsampling {folder} (from https://spring-benchmark.org), then upload the .hdf5 "
            "file that it writes there"
        ),
    ),
}


@dataclass
class Report:
    """What was found.

    errors: for which the server would refuse the bundle, or score it wrongly.
    warnings: which are worth a look.
    largest: motion, in pixels.
    scores: {part: metrics}, of a dry run.
    """

    files: int = 0
    largest: float = 0.0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def refuse(self, what: str, names: Iterable[str]) -> None:
        """Notes an error of several files, if there are any."""
        if first := sorted(names):
            more = ", …" if len(first) > SHOWN else ""
            self.errors.append(f"{len(first)} files {what}: {', '.join(first[:SHOWN])}{more}")

    def check(self, name: Path) -> None:
        """Refuses a bundle with errors; prints all but the first, which is that of the command."""
        for line in self.errors[1:]:
            print(f"also: {line}")
        if self.errors:
            more = f" ({len(self.errors)} mistakes in all)" if len(self.errors) > 1 else ""
            raise DataError(f"{name} is not what the server takes: {self.errors[0]}{more}")


def submit(config: SubmitConfig) -> None:
    """Makes a bundle and validates it by reading it back, or validates one made before.

    Raises:
        DataError: the data set is not complete, or the server would not take the bundle.
    """
    benchmark = BENCHMARKS[config.benchmark]
    samples = _samples(config, benchmark) if config.root else {}
    if config.check:
        report = validate(Path(config.check), benchmark, samples, scored=config.dry_run)
        report.check(Path(config.check))
        print(_summary(config, report))
        return
    flow_source = _flow_source(config, samples)
    moment = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/submit/{config.benchmark}/{moment}")
    bundle, archive = Path("bundle"), Path(f"{config.benchmark}.zip")
    zipped = "{zip}" in benchmark.upload if config.zip is None else config.zip
    pixels = sum(size.height * size.width for size in _sizes(samples).values())
    needed = pixels * _BYTES_PER_PIXEL * (2 if zipped else 1)
    with storage.folder(out, needed=needed) as new:
        _write(new / bundle, samples, benchmark, flow_source, clip=config.clip)
        if zipped:
            write_zip(new / bundle, new / archive)
        written = new / (archive if zipped else bundle)
        report = validate(written, benchmark, samples, scored=config.dry_run)
        report.check(out)
        record = {
            "benchmark": str(config.benchmark),
            "split": "train" if config.dry_run else "test",
            "files": report.files,
            "largest_motion_px": report.largest,
            "warnings": report.warnings,
            "estimate": flow_source.title,
            "weights": flow_source.origin.record() if flow_source.origin else None,
            "errors": report.scores or None,
        }
        storage.write_file(new / "submission.json", to_json(record).encode())
    print(_summary(config, report))
    print(f"written: {out / bundle}" + (f", {out / archive}" if zipped else ""))
    if not config.dry_run:
        print("to submit:", benchmark.upload.format(folder=out / bundle, zip=out / archive))


def _samples(config: SubmitConfig, benchmark: Benchmark) -> dict[str, Sample]:
    """The samples by the names of their files; of the test split, the complete split."""
    index = benchmark.training if config.dry_run else benchmark.test
    named = {benchmark.name_of(sample): sample for sample in index(Path(config.root or ""))}
    received = dict(benchmark.parts(named))
    if not config.dry_run and received != dict(benchmark.files):
        raise DataError(
            f"root: {config.root} must hold the whole test split, pairs by part: "
            f"{dict(benchmark.files)}. Received: {received}"
        )
    return named


def _sizes(samples: Mapping[str, Sample]) -> dict[str, Size]:
    return {name: inspect_frame(sample.frame1) for name, sample in samples.items()}


def _flow_source(config: SubmitConfig, samples: Mapping[str, Sample]) -> FlowSource:
    if config.predictions:
        return FlowFiles(Path(config.predictions), {s.id: name for name, s in samples.items()})
    return load_network_flow(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=config.precision.policy,
        xla=config.xla,
    )


def _write(
    folder: Path,
    samples: Mapping[str, Sample],
    benchmark: Benchmark,
    flow_source: FlowSource,
    *,
    clip: bool,
) -> None:
    limit = benchmark.format.limit
    for name, sample in tqdm(samples.items(), desc="submit", leave=False, disable=None):
        flow = flow_source.estimate(_pair(sample, decode=flow_source.computes))[0]
        if limit is not None:
            held = flow.clip(-limit, limit - 1 / 64)
            if not clip and not np.array_equal(held, flow):
                received = f"{np.abs(flow).max():.1f}; clip=true cuts it"
                raise DataError(f"{name}: motion must be below {limit} px. Received: {received}")
            flow = held
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        benchmark.format.write(folder / name, flow)


def _pair(sample: Sample, *, decode: bool) -> Pairs:
    """The frames of a sample; without decoding, black ones of their size."""
    if not decode:
        black = np.broadcast_to(np.float32(0), (1, *inspect_frame(sample.frame1), 3))
        return Pairs([sample.id], black, black)
    frame1, frame2 = (read_frame(path)[None] for path in (sample.frame1, sample.frame2))
    if frame1.shape != frame2.shape:
        raise DataError(f"Frames of one pair must have the same size: {sample.frame1}")
    return Pairs([sample.id], frame1, frame2)


def write_zip(folder: Path, path: Path) -> None:
    """Packs all files of a folder, by their names in it. The same files make the same bytes."""
    with zipfile.ZipFile(path, "w") as archive, open_bundle(folder) as bundle:
        for name, read in bundle.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o100644 << 16  # a file that all may read
            entry.create_system = 3  # Unix, on every system
            packed = name.endswith((".png", ".flo5"))  # these are compressed already
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, read())


def _summary(config: SubmitConfig, report: Report) -> str:
    lines = [f"{report.files} files are right; the largest motion is {report.largest:.1f} px"]
    lines += [f"look at {line}" for line in report.warnings]
    lines += [
        f"{config.benchmark} training split, {part}: aepe {found['aepe']:.4f} px, "
        f"fl_all {found['fl_all']:.4f} % over {found[COUNT]:,.0f} pixels of "
        f"{found['samples']:.0f} pairs"
        for part, found in report.scores.items()
    ]
    return "\n".join(lines)


def validate(
    path: Path, benchmark: Benchmark, samples: Mapping[str, Sample], *, scored: bool
) -> Report:
    """Reads every file of a bundle that must hold those of `samples`, no more and no less.

    Args:
        path: a folder or a zip.
        benchmark: that it is for.
        samples: {file: sample}; none: without the data set, the names must be of the kind and in
            the numbers that the test split has.
        scored: whether the samples have ground truth, with which the files are compared.
    """
    with open_bundle(path) as bundle, tempfile.TemporaryDirectory() as folder:
        report = Report(files=len(bundle))
        _check_names(report, set(bundle), benchmark, samples)
        place, sizes = Path(folder) / "flow", _sizes(samples)
        rows: dict[str, list[dict[str, float]]] = defaultdict(list)
        for name, read in tqdm(bundle.items(), desc="validate", leave=False, disable=None):
            try:
                size = sizes.get(name) if samples else benchmark.size
                flow = _read(read(), benchmark, place, size)
            except DataError as error:
                report.errors.append(f"{name}: {str(error).replace(str(place), name)}")
                continue
            report.largest = max(report.largest, float(np.abs(flow).max()))
            if benchmark.format is KITTI_PNG and (cut := int(np.isin(flow, _KITTI_ENDS).sum())):
                report.warnings.append(f"{name}: {cut} numbers at the ends of KITTI's range")
            if scored and name in samples:
                truth = read_sample(samples[name])
                found = score(flow, GroundTruth(truth.flow, truth.valid))
                rows[benchmark.part_of(name)].append(found)
    metrics = {part: means(own) for part, own in sorted(rows.items())}
    report.scores = {part: {key: own[key] for key in _SCORES} for part, own in metrics.items()}
    return report


def _check_names(
    report: Report, names: set[str], benchmark: Benchmark, samples: Mapping[str, Sample]
) -> None:
    if samples:
        report.refuse("missing", samples.keys() - names)
        report.refuse("that do not belong there", names - samples.keys())
        return
    right = {name for name in names if re.fullmatch(benchmark.names, name)}
    report.refuse("with names that the benchmark does not have", names - right)
    received = benchmark.parts(right)
    report.errors += [
        f"{part}: {count} files are needed. Received: {received[part]}"
        for part, count in benchmark.files.items()
        if received[part] != count
    ]


def _read(content: bytes, benchmark: Benchmark, place: Path, size: Size | None) -> np.ndarray:
    """The flow [H, W, 2] in a file, complete and in pixels; `place` is for a copy of the file."""
    if not content.startswith(benchmark.format.magic):
        raise DataError(f"it must begin with {benchmark.format.magic!r}. Received: {content[:8]!r}")
    place.write_bytes(content)
    flow, known = read_flow(place)
    received = Size(*flow.shape[:2])
    if size is not None and received != size:
        raise DataError(
            f"it must be {size.height} x {size.width} (height x width). Received: "
            f"{received.height} x {received.width}"
        )
    if gaps := int((known == 0).sum()):
        raise DataError(f"it must have a flow at every pixel. Received: none (or NaN) at {gaps}")
    farthest = FARTHEST * float(np.hypot(*received))
    if (largest := float(np.abs(flow).max())) > farthest:
        raise DataError(
            f"its motion must be in pixels, below {farthest:.0f}. Received: {largest:.6g}"
        )
    return flow


@contextmanager
def open_bundle(path: Path) -> Iterator[dict[str, Callable[[], bytes]]]:
    """Opens a folder or zip: {name of a file: what reads it}; nothing is unpacked.

    Raises:
        MissingInputError: neither is there.
        DataError: not a zip, damaged, or not what a bundle is.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if not file.is_dir()]
        yield {file.relative_to(path).as_posix(): partial(read_bytes, file) for file in files}
        return
    if not path.is_file():
        raise MissingInputError(f"check: {path} must be a folder or a zip. Received: nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if (count := len(entries)) > MAX_FILES:
                raise DataError(
                    f"{path} must have at most {MAX_FILES:,} files. Received: {count:,}"
                )
            found: dict[str, Callable[[], bytes]] = {}
            for entry in sorted(entries, key=lambda entry: entry.filename):
                _check_entry(path, entry)
                if entry.filename in found:
                    raise DataError(f"{path} has two files of one name: {entry.filename}")
                found[entry.filename] = partial(archive.read, entry)
            yield found
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} is not a zip that can be read: {error}") from None


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    parts = entry.filename.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if ".." in parts or "" in parts or "\\" in entry.filename or kind not in (0, stat.S_IFREG):
        raise DataError(f"{path} has an entry that is not a plain file: {entry.filename[:80]!r}")
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{path} is encrypted: {entry.filename[:80]!r}")
    if entry.file_size > MAX_FILE:
        raise DataError(f"{entry.filename} in {path} is larger than {MAX_FILE:,} bytes")
