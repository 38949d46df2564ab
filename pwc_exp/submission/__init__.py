"""Submissions: estimates for a benchmark's test split, as its server takes them.

benchmarks.py    what each benchmark asks for
estimates.py     flows from a network or from files
bundle.py        files in a folder or a zip, written and read
examination.py   what is wrong with a bundle
scoring.py       the errors of one of a training split, read back
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import SubmitConfig
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import inspect_frame
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError
from pwc_exp.submission.benchmarks import BENCHMARKS, TEST_NAMES, Benchmark
from pwc_exp.submission.bundle import open_bundle, write_zip
from pwc_exp.submission.estimates import Estimates, make_estimates
from pwc_exp.submission.examination import Findings, examine, examine_names
from pwc_exp.submission.scoring import Score

_BYTES_PER_PIXEL = 8


def submit(config: SubmitConfig) -> None:
    """Makes a bundle and checks it by reading it back, or checks one that was made before.

    Raises:
        DataError: the data set is not complete, or the bundle not what the server takes.
    """
    benchmark = BENCHMARKS[config.benchmark]
    samples = _samples(config, benchmark) if config.root else {}
    if config.check:
        _check(config, benchmark, samples, Path(config.check))
        return
    estimates = make_estimates(config, benchmark)
    moment = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/submit/{config.benchmark}/{moment}")
    zipped = benchmark.zipped if config.zip is None else config.zip
    with storage.folder(out, needed=_bytes_needed(samples, zipped=zipped)) as new:
        _write(new / "bundle", samples, benchmark, estimates, clip=config.clip)
        if zipped:
            write_zip(new / "bundle", new / f"{config.benchmark}.zip")
        checked = new / (f"{config.benchmark}.zip" if zipped else "bundle")
        findings, score = _examine(config, benchmark, samples, checked)
        _refuse(findings, out)
        about = _about(config, estimates, findings, score)
        storage.write_file(new / "submission.json", (json.dumps(about, indent=2) + "\n").encode())
    print(_summary(findings, score))
    print(f"written: {out / 'bundle'}" + (f", {out / config.benchmark}.zip" if zipped else ""))
    if not config.dry_run:
        upload = benchmark.upload.format(folder=out / "bundle", zip=out / f"{config.benchmark}.zip")
        print(f"to submit: {upload}")


def _samples(config: SubmitConfig, benchmark: Benchmark) -> dict[str, Sample]:
    """The samples by the names of their files; of the test split, all that there are."""
    index = benchmark.training if config.dry_run else benchmark.test
    named = {benchmark.name_of(sample): sample for sample in index(Path(config.root or ""))}
    received = dict(benchmark.parts(named))
    if not config.dry_run and received != dict(benchmark.files):
        raise DataError(
            f"root: {config.root} must hold the whole test split, pairs by part: "
            f"{dict(benchmark.files)}. Received: {received}"
        )
    return named


def _bytes_needed(samples: Mapping[str, Sample], *, zipped: bool) -> int:
    pixels = sum(size.height * size.width for size in _sizes(samples).values())
    return pixels * _BYTES_PER_PIXEL * (2 if zipped else 1)


def _sizes(samples: Mapping[str, Sample]) -> dict[str, Size]:
    return {name: inspect_frame(sample.frame1) for name, sample in samples.items()}


def _write(
    folder: Path,
    samples: Mapping[str, Sample],
    benchmark: Benchmark,
    estimates: Estimates,
    *,
    clip: bool,
) -> None:
    limit = benchmark.format.limit
    for name, sample in tqdm(samples.items(), desc="submit", leave=False, disable=None):
        flow = estimates.of(name, sample)
        if limit is not None:
            held = flow.clip(-limit, limit - 1 / 64)
            if not clip and not np.array_equal(held, flow):
                received = f"{np.abs(flow).max():.1f}; clip=true cuts it"
                raise DataError(f"{name}: motion must be below {limit} px. Received: {received}")
            flow = held
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        benchmark.format.write(folder / name, flow)


def _check(
    config: SubmitConfig, benchmark: Benchmark, samples: Mapping[str, Sample], path: Path
) -> None:
    findings, score = _examine(config, benchmark, samples, path)
    _refuse(findings, path)
    print(_summary(findings, score))


def _examine(
    config: SubmitConfig, benchmark: Benchmark, samples: Mapping[str, Sample], path: Path
) -> tuple[Findings, Score | None]:
    with open_bundle(path) as bundle:
        if not samples:
            pattern = TEST_NAMES[config.benchmark]
            return examine_names(bundle, benchmark, pattern=pattern), None
        score = Score(config.benchmark, benchmark, samples) if config.dry_run else None
        found = score.add if score else None
        return examine(bundle, benchmark, sizes=_sizes(samples), found=found), score


def _refuse(findings: Findings, path: Path) -> None:
    for line in findings.errors[1:]:
        print(f"also: {line}")
    if findings.errors:
        more = f" ({len(findings.errors)} mistakes in all)" if len(findings.errors) > 1 else ""
        raise DataError(f"{path} is not what the server takes: {findings.errors[0]}{more}")


def _summary(findings: Findings, score: Score | None) -> str:
    lines = [f"{findings.files} files are right; the largest motion is {findings.largest:.1f} px"]
    lines += [f"look at {line}" for line in findings.warnings]
    return "\n".join(lines + (score.table() if score else []))


def _about(
    config: SubmitConfig, estimates: Estimates, findings: Findings, score: Score | None
) -> dict[str, Any]:
    return {
        "benchmark": str(config.benchmark),
        "split": "train" if config.dry_run else "test",
        "files": findings.files,
        "largest_motion_px": findings.largest,
        "warnings": findings.warnings,
        "estimate": estimates.source,
        "weights": estimates.origin.record() if estimates.origin else None,
        "errors": score.means() if score else None,
    }
