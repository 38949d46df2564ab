"""How fast the pixels of a data set move, and how many of them are known.

Letters: H height, W width.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from tqdm.contrib.concurrent import thread_map

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.order import spread
from pwc_exp.data.sample import Sample

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
    """Sums over the known pixels of one example or of many."""

    sizes: Counter[Size]  # examples of each
    pixels: int
    histogram: np.ndarray  # [len(_FINE_EDGES)] known pixels by magnitude
    magnitude: float  # sum, pixels
    largest: float  # pixels
    largest_id: str | None  # None: no pixel is known


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
    """Statistics of `limit` samples, evenly spread; `read` returns flow and valid of one.

    Raises:
        UserError: a sample cannot be read.
    """
    chosen = [sample for sample in samples if sample.flow is not None]
    return summarize(
        thread_map(
            lambda sample: tally(sample.id, *read(sample)),
            spread(chosen, limit),
            max_workers=workers,
            desc="statistics",
            unit="pair",
            disable=None,
            leave=False,
        )
    )


def tally(example_id: str, flow: np.ndarray, valid: np.ndarray) -> Tally:
    """Counts one example; flow: [H, W, 2] pixels, valid: [H, W] 0/1. NaN counts as not known."""
    magnitude = np.hypot(flow[..., 0], flow[..., 1])  # [H, W]
    magnitude = magnitude[(valid > 0) & np.isfinite(magnitude)].astype(np.float64)  # [N]
    bins = np.searchsorted(_FINE_EDGES, magnitude, side="right") - 1
    return Tally(
        sizes=Counter([Size(*valid.shape)]),
        pixels=valid.size,
        histogram=np.bincount(bins, minlength=len(_FINE_EDGES)),
        magnitude=float(magnitude.sum()),
        largest=float(magnitude.max(initial=0)),
        largest_id=example_id if magnitude.size else None,
    )


def summarize(tallies: Iterable[Tally]) -> Statistics:
    """Adds up any number of examples, and divides once."""
    total = Tally(Counter(), 0, np.zeros(len(_FINE_EDGES), np.int64), 0.0, 0.0, None)
    for each in tallies:
        total = _add(total, each)
    known = int(total.histogram.sum())
    return Statistics(
        examples=total.sizes.total(),
        sizes=dict(total.sizes.most_common()),
        pixels=total.pixels,
        known=known,
        mean=total.magnitude / known if known else None,
        median=_median(total.histogram) if known else None,
        largest=total.largest if known else None,
        largest_id=total.largest_id,
        speeds={
            name: _between(total.histogram, low, high) / known if known else None
            for name, (low, high) in SPEEDS.items()
        },
        histogram=[
            Bin(low, high if high < math.inf else None, _between(total.histogram, low, high))
            for low, high in pairwise(EDGES)
        ],
    )


def text(statistics: Statistics) -> str:
    """The statistics as lines of text, with a bar for each bin."""
    found = statistics
    sizes = [f"{size.height} x {size.width}: {count:,}" for size, count in found.sizes.items()]
    more = [f"and {len(sizes) - _MOST_SIZES:,} more"] if len(sizes) > _MOST_SIZES else []
    lines = [
        f"  pairs       {found.examples:,}",
        f"  sizes       {', '.join([*sizes[:_MOST_SIZES], *more])} (height x width: pairs)",
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
    return "\n".join([*lines, *_bars(found)])


def to_json(statistics: Statistics) -> dict[str, object]:
    """The same in the types of JSON."""
    sizes = [{**size._asdict(), "pairs": count} for size, count in statistics.sizes.items()]
    histogram = [each._asdict() for each in statistics.histogram]
    return {**statistics._asdict(), "sizes": sizes, "histogram": histogram}


def _add(one: Tally, other: Tally) -> Tally:
    """Both together; of two equally large motions the first is named."""
    first = one.largest_id is not None and one.largest >= other.largest
    longer = one if other.largest_id is None or first else other
    return Tally(
        sizes=one.sizes + other.sizes,
        pixels=one.pixels + other.pixels,
        histogram=one.histogram + other.histogram,
        magnitude=one.magnitude + other.magnitude,
        largest=longer.largest,
        largest_id=longer.largest_id,
    )


def _between(histogram: np.ndarray, low: float, high: float) -> int:
    """Pixels of magnitude low <= m < high; both are edges of bins."""
    first, end = np.searchsorted(_FINE_EDGES, [low, high])
    return int(histogram[first:end].sum())


def _median(histogram: np.ndarray) -> float:
    """The middle of the fine bin that holds the median; of the last, its lower edge."""
    place = int(np.searchsorted(histogram.cumsum(), histogram.sum() / 2))
    return float(_FINE_EDGES[place : place + 2].mean())


def _bars(statistics: Statistics) -> list[str]:
    most = max(each.pixels for each in statistics.histogram)
    lines = []
    for low, high, pixels in statistics.histogram:
        name = f"{low:g}+" if high is None else f"{low:g}-{high:g}"
        bar = "#" * math.ceil(pixels * _BAR / most)  # a single pixel shows
        lines.append(f"  {name:>8} px {_percent(pixels, statistics.known)}  {bar}".rstrip())
    return lines


def _percent(count: int, total: int) -> str:
    return f"{count / total:>6.1%}" if total else "  none"
