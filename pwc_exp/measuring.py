"""Scores the flow of every sample of a source, one sample at a time in memory.

Letters: H height, W width.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pwc_exp.data.annotations import Origin, read_annotations
from pwc_exp.data.sample import Batch, Source
from pwc_exp.flow_sources import FlowSource
from pwc_exp.gallery import Gallery
from pwc_exp.machine import processors
from pwc_exp.pictures import tiles
from pwc_exp.scoring import Field, Truth, score
from pwc_exp.scoring.summary import Scored


class _Pair(NamedTuple):
    """A sample and what was estimated for it."""

    number: int  # in its source
    frame1: np.ndarray  # [H, W, 3] RGB in [0, 1]
    frame2: np.ndarray
    flow: np.ndarray  # [H, W, 2] px
    valid: np.ndarray  # [H, W]
    estimate: np.ndarray  # [H, W, 2] px


def measure(
    flow_source: FlowSource,
    batches: Iterable[Batch],
    source: Source,
    found: Sequence[Origin],
    *,
    samples: int,
    gallery: Gallery,
) -> list[Scored]:
    """Every sample of `batches`, whole frames, scored; in the order of the source.

    While the next is estimated, others are scored in threads; few wait.

    Args:
        found: where each example of `source` comes from.
        samples: how many `batches` hold, for the progress bar.
        gallery: is shown every sample.

    Raises:
        UserError: a file cannot be read.
    """
    workers = min(4, len(processors()))
    rows: list[Scored] = []
    waiting: deque[tuple[_Pair, Future[dict[str, float]]]] = deque()

    def finish() -> None:
        pair, future = waiting.popleft()
        origin = found[pair.number]
        name = source.ids[pair.number]
        row = Scored(pair.number, name, origin.dataset, origin.scene, future.result())
        rows.append(row)
        gallery.offer(row.aepe, row.number, row.id, lambda: _draw(pair))

    bar = tqdm(total=samples, desc="evaluate", disable=None, leave=False)
    with bar, ThreadPoolExecutor(workers) as pool:
        for pair in _pairs(flow_source, batches):
            waiting.append((pair, pool.submit(_score, pair, source, found[pair.number])))
            if len(waiting) > workers:
                finish()
            bar.update()
        while waiting:
            finish()
    return sorted(rows, key=lambda row: row.number)


def _pairs(flow_source: FlowSource, batches: Iterable[Batch]) -> Iterator[_Pair]:
    for batch in batches:
        estimates = flow_source.estimate(batch)
        for place, index in enumerate(batch.index.numpy().tolist()):
            frame1, frame2, flow, valid = (part[place].numpy() for part in batch[:4])
            yield _Pair(index, frame1, frame2, flow, valid, estimates[place])


def _score(pair: _Pair, source: Source, origin: Origin) -> dict[str, float]:
    masks = read_annotations(source, pair.number, origin)
    plain = fine = None
    if masks.stored is not None and origin.sample is not None:
        flow, known = masks.stored
        stride = origin.sample.flow_stride
        plain = Field(flow[::stride, ::stride], known[::stride, ::stride])
        fine = Field(flow, known) if stride > 1 else None
    truth = Truth(pair.flow, pair.valid, masks.occlusion, masks.foreground, plain, fine)
    return score(pair.estimate, truth)


def _draw(pair: _Pair) -> dict[str, np.ndarray]:
    return tiles(
        pair.frame1, pair.frame2, target=pair.flow, valid=pair.valid, estimate=pair.estimate
    )
