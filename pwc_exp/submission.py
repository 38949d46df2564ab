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


MAX_FILES = 100_000
MAX_FILE = 2**28  # bytes; a flow of 4K has 70 million
SHOWN = 5  # names in a line
FARTHEST = 2.0  # frame diagonals; longer motion is a mistake in the units
_KITTI_ENDS = (-32768 / KITTI_SCALE, 32767 / KITTI_SCALE)  # px, the ends of its range
_ENCRYPTED = 0x1


class Bundle(NamedTuple):
    """Flow files by name, in a folder or in a zip."""

    path: Path
    names: list[str]
    read: Callable[[str], bytes]


@dataclass
class Report:
    """What was found.

    errors: for which the server would refuse the bundle, or score it wrongly.
    warnings: which are worth a look.
    largest: motion, in pixels.
    """

    files: int = 0
    largest: float = 0.0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, what: str, names: list[str]) -> None:
        """Notes an error of several files, if there are any."""
        if names:
            more = ", …" if len(names) > SHOWN else ""
            self.errors.append(f"{len(names)} files {what}: {', '.join(names[:SHOWN])}{more}")


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Opens a folder or zip; nothing is unpacked.

    Raises:
        MissingInputError: neither is there.
        DataError: not a zip, damaged, or not what a bundle is.
    """
    if path.is_dir():
        names = [p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if not p.is_dir()]
        yield Bundle(path, names, lambda name: read_bytes(path / name))
        return
    if not path.is_file():
        raise MissingInputError(f"check: {path} must be a folder or a zip. Received: nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            yield _open_zip(path, archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} is not a zip that can be read: {error}") from None


def validate(
    bundle: Bundle,
    benchmark: Benchmark,
    *,
    sizes: Mapping[str, Size] | None,
    found: Callable[[str, np.ndarray], None] | None = None,
) -> Report:
    """Reads every file of a bundle that must hold those of `sizes`, no more and no less.

    Args:
        sizes: None: without the data set; the names must be of the kind and in the numbers that
            the test split has.
        found: is given the name and flow, [H, W, 2] in pixels, of each file that is right.
    """
    report = Report(files=len(bundle.names))
    if sizes is not None:
        report.refuse("missing", sorted(sizes.keys() - bundle.names))
        report.refuse("that do not belong there", sorted(set(bundle.names) - sizes.keys()))
    else:
        right = [name for name in bundle.names if re.fullmatch(benchmark.names, name)]
        wrong = sorted(set(bundle.names) - set(right))
        report.refuse("with names that the benchmark does not have", wrong)
        received = benchmark.parts(right)
        report.errors += [
            f"{part}: {count} files are needed. Received: {received[part]}"
            for part, count in benchmark.files.items()
            if received[part] != count
        ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "flow"
        for name in tqdm(bundle.names, desc="validate", leave=False, disable=None):
            size = benchmark.size if sizes is None else sizes.get(name)
            try:
                flow = _read(bundle.read(name), benchmark, place, size)
            except DataError as error:
                report.errors.append(f"{name}: {str(error).replace(str(place), name)}")
                continue
            report.largest = max(report.largest, float(np.abs(flow).max()))
            if benchmark.format is KITTI_PNG and (cut := int(np.isin(flow, _KITTI_ENDS).sum())):
                report.warnings.append(f"{name}: {cut} numbers at the ends of KITTI's range")
            if found is not None and size is not None:
                found(name, flow)
    return report


def _open_zip(path: Path, archive: zipfile.ZipFile) -> Bundle:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES:
        raise DataError(f"{path} must have at most {MAX_FILES:,} files. Received: {len(entries):,}")
    named: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        _check_entry(path, entry)
        if entry.filename in named:
            raise DataError(f"{path} has two files of one name: {entry.filename}")
        named[entry.filename] = entry

    def read(name: str) -> bytes:
        with archive.open(named[name]) as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise DataError(f"{name} is larger than {MAX_FILE:,} bytes")
        return content

    return Bundle(path, sorted(named), read)


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    parts = entry.filename.split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if ".." in parts or "" in parts or "\\" in entry.filename or kind not in (0, stat.S_IFREG):
        raise DataError(f"{path} has an entry that is not a plain file: {entry.filename[:80]!r}")
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{path} is encrypted: {entry.filename[:80]!r}")
    if entry.file_size > MAX_FILE:
        raise DataError(f"{entry.filename} in {path} is larger than {MAX_FILE:,} bytes")


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


BUNDLE, RECORD = "bundle", "submission.json"
_BYTES_PER_PIXEL = 8
_SCORES = ("aepe", "aepe_per_image", "fl_all", "outlier_3px", COUNT, "samples")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip

_Scores = dict[str, dict[str, float]]  # {part of the bundle: metrics}


def submit(config: SubmitConfig) -> None:
    """Makes a bundle and validates it by reading it back, or validates one made before.

    Raises:
        DataError: the data set is not complete, or the server would not take the bundle.
    """
    benchmark = BENCHMARKS[config.benchmark]
    samples = _samples(config, benchmark) if config.root else {}
    if config.check:
        path = Path(config.check)
        print(_summary(config, *_validate(config, samples, path, name=path)))
        return
    flow_source = _flow_source(config, samples)
    moment = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/submit/{config.benchmark}/{moment}")
    zipped = benchmark.zipped if config.zip is None else config.zip
    pixels = sum(size.height * size.width for size in _sizes(samples).values())
    needed = pixels * _BYTES_PER_PIXEL * (2 if zipped else 1)
    with storage.folder(out, needed=needed) as new:
        _write(new / BUNDLE, samples, benchmark, flow_source, clip=config.clip)
        checked = new / BUNDLE
        if zipped:
            checked = new / f"{config.benchmark}.zip"
            write_zip(new / BUNDLE, checked)
        report, scores = _validate(config, samples, checked, name=out)
        record = {
            "benchmark": str(config.benchmark),
            "split": "train" if config.dry_run else "test",
            "files": report.files,
            "largest_motion_px": report.largest,
            "warnings": report.warnings,
            "estimate": flow_source.title,
            "weights": flow_source.origin.record() if flow_source.origin else None,
            "errors": scores or None,
        }
        storage.write_file(new / RECORD, to_json(record).encode())
    print(_summary(config, report, scores))
    print(f"written: {out / BUNDLE}" + (f", {out / config.benchmark}.zip" if zipped else ""))
    if not config.dry_run:
        upload = benchmark.upload.format(folder=out / BUNDLE, zip=out / f"{config.benchmark}.zip")
        print(f"to submit: {upload}")


def write_zip(folder: Path, path: Path) -> None:
    """Packs all files of a folder, by their names in it. The same files make the same bytes."""
    with zipfile.ZipFile(path, "w") as archive, open_bundle(folder) as bundle:
        for name in bundle.names:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o100644 << 16  # a file that all may read
            entry.create_system = 3  # Unix, on every system
            packed = name.endswith((".png", ".flo5"))  # these are compressed already
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, (folder / name).read_bytes())


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


def _flow_source(config: SubmitConfig, samples: Mapping[str, Sample]) -> FlowSource:
    if config.predictions:
        names: dict[str, str | None] = {sample.id: name for name, sample in samples.items()}
        return FlowFiles(Path(config.predictions), names)
    return load_network_flow(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=config.precision.policy,
        xla=config.xla,
    )


def _sizes(samples: Mapping[str, Sample]) -> dict[str, Size]:
    return {name: inspect_frame(sample.frame1) for name, sample in samples.items()}


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


def _validate(
    config: SubmitConfig, samples: Mapping[str, Sample], path: Path, *, name: Path
) -> tuple[Report, _Scores]:
    """Refuses a bundle that the server would not take; of a dry run, returns its errors too.

    name: what the bundle at `path` is called in messages.
    """
    benchmark = BENCHMARKS[config.benchmark]
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)

    def add(file: str, flow: np.ndarray) -> None:
        sample = read_sample(samples[file])
        rows[benchmark.part(file)].append(score(flow, GroundTruth(sample.flow, sample.valid)))

    with open_bundle(path) as bundle:
        sizes = _sizes(samples) if samples else None
        report = validate(bundle, benchmark, sizes=sizes, found=add if config.dry_run else None)
    for line in report.errors[1:]:
        print(f"also: {line}")
    if report.errors:
        more = f" ({len(report.errors)} mistakes in all)" if len(report.errors) > 1 else ""
        raise DataError(f"{name} is not what the server takes: {report.errors[0]}{more}")
    metrics = {part: means(own) for part, own in sorted(rows.items())}
    return report, {part: {key: own[key] for key in _SCORES} for part, own in metrics.items()}


def _summary(config: SubmitConfig, report: Report, scores: _Scores) -> str:
    lines = [f"{report.files} files are right; the largest motion is {report.largest:.1f} px"]
    lines += [f"look at {line}" for line in report.warnings]
    lines += [
        f"{config.benchmark} training split, {part}: aepe {found['aepe']:.4f} px, "
        f"fl_all {found['fl_all']:.4f} % over {found[COUNT]:,.0f} pixels of "
        f"{found['samples']:.0f} pairs"
        for part, found in scores.items()
    ]
    return "\n".join(lines)
