"""The command `submit`: makes a bundle and validates it, or validates one that was made before."""

import time
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import SubmitConfig
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import inspect_frame, read_frame
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import read_sample
from pwc_exp.errors import DataError
from pwc_exp.evaluation import GroundTruth, means, score
from pwc_exp.evaluation.flow_sources import FlowFiles, FlowSource, Pairs, load_network_flow
from pwc_exp.evaluation.metrics import COUNT
from pwc_exp.evaluation.records import to_json
from pwc_exp.submission.benchmarks import BENCHMARKS, Benchmark
from pwc_exp.submission.validate import Report, open_bundle, validate

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
