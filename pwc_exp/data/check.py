"""Whether the files of a data set are there, whole, and fit each other.

Errors make a pair unusable. Notes are what a look is worth, and may be right.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.contrib.concurrent import thread_map

from pwc_exp.data.convention import judge, weigh
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import inspect_frame, inspect_mask
from pwc_exp.data.formats.io import inspect_flow
from pwc_exp.data.sample import Sample
from pwc_exp.data.source import Decoded
from pwc_exp.errors import MissingInputError, UserError

SUSPICIOUS_MAGNITUDE = 1000.0  # pixels


class Kind(StrEnum):
    """What can be wrong, in words for the report."""

    MISSING = "missing file"
    DAMAGED = "damaged file"
    SIZE = "size unlike the rest of the pair"
    NOT_FINITE = "NaN or infinite"
    UNKNOWN = "flow nowhere known"
    FAST = "suspiciously fast"
    UNRELATED = "flow does not lead from frame 1 to frame 2"


ADVICE = {
    Kind.MISSING: "complete the copy, or unpack the archive again",
    Kind.DAMAGED: "copy or unpack these files again",
    Kind.SIZE: "look for files of other pairs among these",
    Kind.NOT_FINITE: "mark such pixels as unknown",
    Kind.UNKNOWN: "leave these pairs out: they teach nothing",
    Kind.FAST: "look at these pairs: wrong units, or not marked as unknown?",
    Kind.UNRELATED: "look at these pairs: mixed up, repeated or swapped frames?",
}


class Finding(NamedTuple):
    """One thing that is wrong, or worth a look."""

    kind: Kind
    id: str  # of the sample
    message: str  # one line, with the path


class PairReport(NamedTuple):
    """What is found of one sample."""

    size: Size | None  # None: no file could be read
    errors: list[Finding]
    notes: list[Finding]


class Report(NamedTuple):
    """What is found of all samples."""

    pairs: int
    expected: int | None  # pairs of the complete data set
    decoded: bool  # False: headers and lengths of files only
    scenes: int
    splits: dict[str, int]  # pairs of each; "unsplit": the data set itself does not say
    sizes: dict[Size, int]  # pairs of each
    errors: list[Finding]
    notes: list[Finding]


def check_samples(
    samples: Sequence[Sample],
    *,
    read: Callable[[Sample], Decoded] | None,
    workers: int,
    expected: int | None,
) -> Report:
    """Checks every file of every sample; none stops it.

    read: decodes a sample; None: only headers and lengths of files are looked at.
    expected: pairs of the complete data set, where that is known.
    """
    sizes: Counter[Size] = Counter()
    errors: list[Finding] = []
    notes: list[Finding] = []
    for found in thread_map(
        partial(_check_pair, read=read),
        samples,
        max_workers=workers,
        desc="check",
        unit="pair",
        disable=None,
        leave=False,
    ):
        sizes.update([found.size] if found.size else [])
        errors += found.errors
        notes += found.notes
    return Report(
        pairs=len(samples),
        expected=expected,
        decoded=read is not None,
        scenes=len({sample.scene for sample in samples}),
        splits=dict(Counter(sample.split or "unsplit" for sample in samples)),
        sizes=dict(sizes.most_common()),
        errors=errors,
        notes=notes,
    )


def bad_samples(report: Report) -> dict[str, str]:
    """Id -> reason of each sample with an error, as a quarantine holds them."""
    reasons: dict[str, str] = {}
    for error in report.errors:
        reasons.setdefault(error.id, error.message)
    return reasons


def text(report: Report, *, most: int) -> str:
    """The report as lines of text; of each kind of finding the first `most`."""
    depth = "every file decoded" if report.decoded else "headers and lengths; nothing decoded"
    of = "" if report.expected is None else f" of {report.expected:,} in the whole data set"
    sizes = [f"{s.height} x {s.width}: {count:,}" for s, count in report.sizes.items()]
    bad = len(bad_samples(report))
    lines = [
        f"checked    {depth}",
        f"pairs      {report.pairs:,}{of}",
        f"scenes     {report.scenes:,}",
        f"splits     {', '.join(f'{name}: {n:,}' for name, n in report.splits.items())}",
        f"sizes      {_shortened(sizes, most)} (height x width: pairs)",
        f"errors     {len(report.errors):,} in {bad:,} pairs" if bad else "errors     none",
        *_listed(report.errors, most),
        f"notes      {len(report.notes) or 'none'}",
        *_listed(report.notes, most),
    ]
    return "\n".join(lines)


def to_json(report: Report) -> dict[str, object]:
    """The same in the types of JSON, with every finding."""
    return {
        **report._asdict(),
        "sizes": [{**size._asdict(), "pairs": count} for size, count in report.sizes.items()],
        "errors": [error._asdict() for error in report.errors],
        "notes": [note._asdict() for note in report.notes],
        "kinds": Counter(str(finding.kind) for finding in (*report.errors, *report.notes)),
    }


def _check_pair(sample: Sample, *, read: Callable[[Sample], Decoded] | None) -> PairReport:
    """Checks the headers of one sample and, with a reader, what it holds."""
    sizes: dict[Path, Size] = {}
    errors = []
    for path, inspect in _files(sample):
        try:
            sizes[path] = inspect(path)
        except MissingInputError as error:
            errors.append(Finding(Kind.MISSING, sample.id, str(error)))
        except UserError as error:
            errors.append(Finding(Kind.DAMAGED, sample.id, str(error)))
    # The size that most files have; of several, that of the first file.
    size = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    errors += [
        Finding(
            Kind.SIZE,
            sample.id,
            f"Files of one pair differ in size (height x width): {path} is {other.height} x "
            f"{other.width}, most are {size.height} x {size.width}.",
        )
        for path, other in sizes.items()
        if size is not None and other != size
    ]
    if errors or read is None:
        return PairReport(size, errors, [])
    try:
        errors, notes = _check_content(sample, *read(sample))
    except UserError as error:
        return PairReport(size, [Finding(Kind.DAMAGED, sample.id, str(error))], [])
    return PairReport(size, errors, notes)


def _files(sample: Sample) -> Iterator[tuple[Path, Callable[[Path], Size]]]:
    """Each file, and the function that returns the size of frame that it fits."""
    yield sample.frame1, inspect_frame
    yield sample.frame2, inspect_frame
    if sample.flow is not None:
        yield sample.flow, partial(_strided_size, stride=sample.flow_stride)
    yield from ((mask, inspect_mask) for mask in (sample.valid, sample.invalid) if mask is not None)


def _strided_size(path: Path, *, stride: int) -> Size:
    height, width = inspect_flow(path)
    return Size(-(-height // stride), -(-width // stride))


def _check_content(
    sample: Sample, frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, valid: np.ndarray
) -> tuple[list[Finding], list[Finding]]:
    """Errors and notes of what the files hold; the shapes are those of an `Example`."""
    known = flow[valid > 0]  # [N, 2]
    errors = [
        Finding(Kind.NOT_FINITE, sample.id, f"Expected finite numbers in {path}.")
        for path, numbers in (
            (sample.frame1, frame1),
            (sample.frame2, frame2),
            (sample.flow, known),
        )
        if not np.isfinite(numbers).all()
    ]
    if sample.flow is None or errors:
        return errors, []
    if not len(known):
        message = f"Expected a known flow at one pixel at least: {sample.flow}."
        return [Finding(Kind.UNKNOWN, sample.id, message)], []
    notes = []
    fastest = float(np.hypot(known[:, 0], known[:, 1]).max())
    if fastest > SUSPICIOUS_MAGNITUDE:
        message = f"The largest flow is {fastest:.0f} px in {sample.flow}."
        notes.append(Finding(Kind.FAST, sample.id, message))
    found = judge([weigh(frame1, frame2, flow, valid)])
    if not found.fits:
        said = "; ".join([found.verdict, *found.remarks])
        message = f"Read as (x, y) it does not fit the frames ({said}): {sample.flow}."
        notes.append(Finding(Kind.UNRELATED, sample.id, message))
    return errors, notes


def _listed(findings: Sequence[Finding], most: int) -> Iterator[str]:
    for kind in Kind:
        alike = [finding for finding in findings if finding.kind == kind]
        if alike:
            yield f"  {kind}: {len(alike):,}   {ADVICE[kind]}"
            yield from (f"    {found.id}   {found.message}" for found in alike[:most])
        if len(alike) > most:
            yield f"    and {len(alike) - most:,} more"


def _shortened(parts: Sequence[str], most: int) -> str:
    more = [f"and {len(parts) - most:,} more sizes"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more]) or "none"
