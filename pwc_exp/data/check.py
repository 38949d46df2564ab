"""Whether the files of a data set are there, whole, and fit each other; and how fast pixels move.

Errors make a pair unusable. Notes are what a look is worth, and may be right.

Letters: H height, W width, N pixels.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.contrib.concurrent import thread_map

from pwc_exp.data.convention import judge, weigh
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import inspect_frame, inspect_mask
from pwc_exp.data.formats.io import inspect_flow
from pwc_exp.data.sample import Sample, spread
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
    bar = {"desc": "check", "unit": "pair", "disable": None, "leave": False}
    found = thread_map(partial(_check_pair, read=read), samples, max_workers=workers, **bar)
    return Report(
        pairs=len(samples),
        expected=expected,
        decoded=read is not None,
        scenes=len({sample.scene for sample in samples}),
        splits=dict(Counter(sample.split or "unsplit" for sample in samples)),
        sizes=dict(Counter(size for size, *_ in found if size).most_common()),
        errors=[error for _, errors, _ in found for error in errors],
        notes=[note for *_, notes in found for note in notes],
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
    bad = len(bad_samples(report))
    lines = [
        f"checked    {depth}",
        f"pairs      {report.pairs:,}{of}",
        f"scenes     {report.scenes:,}",
        f"splits     {', '.join(f'{name}: {n:,}' for name, n in report.splits.items())}",
        f"sizes      {_sizes_text(report.sizes, most) or 'none'} (height x width: pairs)",
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
        "sizes": _sizes_json(report.sizes),
        "errors": [error._asdict() for error in report.errors],
        "notes": [note._asdict() for note in report.notes],
        "kinds": Counter(str(finding.kind) for finding in (*report.errors, *report.notes)),
    }


def _check_pair(
    sample: Sample, *, read: Callable[[Sample], Decoded] | None
) -> tuple[Size | None, list[Finding], list[Finding]]:
    """Size, if any file could be read, errors and notes of one sample."""
    files: list[tuple[Path | None, Callable[[Path], Size]]] = [
        (sample.frame1, inspect_frame),
        (sample.frame2, inspect_frame),
        (sample.flow, partial(_strided_size, stride=sample.flow_stride)),
        (sample.valid, inspect_mask),
        (sample.invalid, inspect_mask),
    ]
    sizes: dict[Path, Size] = {}
    errors = []
    for path, inspect in files:
        try:
            if path is not None:
                sizes[path] = inspect(path)
        except UserError as error:
            kind = Kind.MISSING if isinstance(error, MissingInputError) else Kind.DAMAGED
            errors.append(Finding(kind, sample.id, str(error)))
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
        return size, errors, []
    try:
        return size, *_check_content(sample, *read(sample))
    except UserError as error:
        return size, [Finding(Kind.DAMAGED, sample.id, str(error))], []


def _strided_size(path: Path, *, stride: int) -> Size:
    """The size of frame that a flow file fits."""
    height, width = inspect_flow(path)
    return Size(-(-height // stride), -(-width // stride))


def _check_content(
    sample: Sample, frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, valid: np.ndarray
) -> tuple[list[Finding], list[Finding]]:
    """Errors and notes of what the files hold; the shapes are those of an `Example`."""
    known = flow[valid > 0]  # [N, 2]
    files = ((sample.frame1, frame1), (sample.frame2, frame2), (sample.flow, known))
    errors = [
        Finding(Kind.NOT_FINITE, sample.id, f"Expected finite numbers in {path}.")
        for path, numbers in files
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
    return [], notes


def _listed(findings: Sequence[Finding], most: int) -> Iterator[str]:
    for kind in Kind:
        alike = [finding for finding in findings if finding.kind == kind]
        if alike:
            yield f"  {kind}: {len(alike):,}   {ADVICE[kind]}"
            yield from (f"    {found.id}   {found.message}" for found in alike[:most])
        if len(alike) > most:
            yield f"    and {len(alike) - most:,} more"


def _sizes_text(sizes: dict[Size, int], most: int) -> str:
    parts = [f"{size.height} x {size.width}: {count:,}" for size, count in sizes.items()]
    more = [f"and {len(parts) - most:,} more sizes"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])


def _sizes_json(sizes: dict[Size, int]) -> list[dict[str, int]]:
    return [{**size._asdict(), "pairs": count} for size, count in sizes.items()]


EDGES = (0, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, math.inf)  # of the bins, pixels
SPEEDS = {"s0_10": (0, 10), "s10_40": (10, 40), "s40_plus": (40, math.inf)}  # Sintel's, pixels

_PARTS = 20  # into which a bin is cut for the median
_FINE_EDGES = np.concatenate(  # lower edges; the last bin, which has no end, is whole
    [np.linspace(low, high, _PARTS, endpoint=False) for low, high in pairwise(EDGES[:-1])]
    + [np.array(EDGES[-2:-1])]
)
_BAR = 40  # characters
_MOST_SIZES = 5  # in the text


class Tally(NamedTuple):
    """What is counted of one example, over its known pixels."""

    id: str
    size: Size
    histogram: np.ndarray  # [len(_FINE_EDGES)] known pixels by magnitude
    magnitude: float  # sum, pixels
    largest: float  # pixels


class Bin(NamedTuple):
    """Known pixels of magnitude low <= m < high."""

    low: float  # pixels
    high: float | None  # None: without end
    pixels: int


class Statistics(NamedTuple):
    """Of all pixels of the data; magnitudes in pixels, None where no pixel is known."""

    examples: int
    sizes: dict[Size, int]
    pixels: int
    known: int
    mean: float | None
    median: float | None  # from the histogram: right to a twentieth of its bin
    largest: float | None
    largest_id: str | None
    speeds: dict[str, float | None]  # shares of the known pixels
    histogram: list[Bin]


def flow_statistics(
    samples: Sequence[Sample],
    *,
    read: Callable[[Sample], tuple[np.ndarray, np.ndarray]],
    workers: int,
    limit: int | None,
) -> Statistics:
    """Statistics of `limit` samples, evenly spread; `read` returns flow and valid of one."""
    chosen = spread([sample for sample in samples if sample.flow is not None], limit)
    bar = {"desc": "statistics", "unit": "pair", "disable": None, "leave": False}
    tallies = thread_map(lambda s: tally(s.id, *read(s)), chosen, max_workers=workers, **bar)
    return summarize(tallies)


def tally(example_id: str, flow: np.ndarray, valid: np.ndarray) -> Tally:
    """Counts one example; flow: [H, W, 2] pixels, valid: [H, W] 0/1. NaN counts as not known."""
    magnitude = np.hypot(flow[..., 0], flow[..., 1])  # [H, W]
    magnitude = magnitude[(valid > 0) & np.isfinite(magnitude)].astype(np.float64)  # [N]
    bins = np.searchsorted(_FINE_EDGES, magnitude, side="right") - 1
    return Tally(
        id=example_id,
        size=Size(*valid.shape),
        histogram=np.bincount(bins, minlength=len(_FINE_EDGES)),
        magnitude=float(magnitude.sum()),
        largest=float(magnitude.max(initial=-1)),
    )


def summarize(tallies: Iterable[Tally]) -> Statistics:
    """Adds up any number of examples, and divides once."""
    found = list(tallies)
    histogram = sum((each.histogram for each in found), np.zeros(len(_FINE_EDGES), np.int64))
    known = int(histogram.sum())
    largest = max(found, key=lambda each: each.largest, default=None)

    def between(low: float, high: float) -> int:
        first, end = np.searchsorted(_FINE_EDGES, [low, high])
        return int(histogram[first:end].sum())

    return Statistics(
        examples=len(found),
        sizes=dict(Counter(each.size for each in found).most_common()),
        pixels=sum(each.size.height * each.size.width for each in found),
        known=known,
        mean=sum(each.magnitude for each in found) / known if known else None,
        median=_median(histogram) if known else None,
        largest=largest.largest if largest and known else None,
        largest_id=largest.id if largest and known else None,
        speeds={name: between(*ends) / known if known else None for name, ends in SPEEDS.items()},
        histogram=[
            Bin(low, high if high < math.inf else None, between(low, high))
            for low, high in pairwise(EDGES)
        ],
    )


def _median(histogram: np.ndarray) -> float:
    """The middle of the fine bin that holds the median; of the last, its lower edge."""
    place = int(np.searchsorted(histogram.cumsum(), histogram.sum() / 2))
    return float(_FINE_EDGES[place : place + 2].mean())


def statistics_text(found: Statistics) -> str:
    """The statistics as lines of text, with a bar for each bin."""
    lines = [
        f"  pairs       {found.examples:,}",
        f"  sizes       {_sizes_text(found.sizes, _MOST_SIZES)} (height x width: pairs)",
        f"  known       {_percent(found.known, found.pixels)} of {found.pixels:,} pixels",
    ]
    if found.mean is None:
        return "\n".join(lines)
    lines += [
        f"  mean        {found.mean:>8.2f} px",
        f"  median      {found.median:>8.2f} px (from a histogram)",
        f"  largest     {found.largest:>8.2f} px in {found.largest_id}",
        *(f"  {name:<12}{share:>8.1%}" for name, share in found.speeds.items()),
    ]
    most = max(each.pixels for each in found.histogram)
    for low, high, pixels in found.histogram:
        name = f"{low:g}+" if high is None else f"{low:g}-{high:g}"
        bar = "#" * math.ceil(pixels * _BAR / most)  # a single pixel shows
        lines.append(f"  {name:>8} px {_percent(pixels, found.known)}  {bar}".rstrip())
    return "\n".join(lines)


def statistics_json(found: Statistics) -> dict[str, object]:
    """The same in the types of JSON."""
    histogram = [each._asdict() for each in found.histogram]
    return {**found._asdict(), "sizes": _sizes_json(found.sizes), "histogram": histogram}


def _percent(count: int, total: int) -> str:
    return f"{count / total:>6.1%}" if total else "  none"
