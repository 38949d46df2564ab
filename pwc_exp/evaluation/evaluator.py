"""The command `evaluate`: errors of networks, flow files and baselines on one or more data sets."""

import functools
import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.build import build_eval_feed, build_source
from pwc_exp.config.commands import EvaluateConfig
from pwc_exp.config.data import DataConfig, FilesConfig, Hd1kConfig, KittiConfig, MixConfig, Truth
from pwc_exp.config.schema import CONFIG_FILE, flatten, load
from pwc_exp.data import quarantine
from pwc_exp.data.pipeline import EvalFeed
from pwc_exp.data.sample import Batch, Source
from pwc_exp.data.source import MixedSource, Origin, origins, read_annotations
from pwc_exp.evaluation import Field, GroundTruth, score
from pwc_exp.evaluation.flow_sources import FlowSource, NetworkFlow, Pairs, build_flow_sources
from pwc_exp.evaluation.protocols import GroundTruthKind
from pwc_exp.evaluation.records import (
    METRICS_FILE,
    SAMPLES_FILE,
    SampleScore,
    as_csv,
    as_json,
    summarize,
)
from pwc_exp.evaluation.report import Evaluation, as_table, as_text, render_evaluation
from pwc_exp.machine import processors
from pwc_exp.report.pictures import Gallery, panel, tiles
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.record import describe_process

REPORT_FILE = "report.html"
TABLE_FILE = "table.md"
FILES = (METRICS_FILE, SAMPLES_FILE, REPORT_FILE)
TIMED_ROUNDS = 3


class _Pair(NamedTuple):
    """A sample and its estimate."""

    number: int  # in its source
    sample: list[np.ndarray]  # frame1, frame2, flow and valid of a `Batch`
    estimate: np.ndarray  # [H, W, 2] px


def evaluate(config: EvaluateConfig) -> float:
    """Prints the errors, writes tables and pages, and returns the AEPE.

    Of several flow sources, each has a folder of its own, and the AEPE is that of the first.
    """
    data = config.data or load(Path(config.run[0]) / CONFIG_FILE).data
    source = build_source(data, config.split)
    out = Path(config.out or f"{config.outputs}/evaluate/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    storage.make_folder(out)
    feed = build_eval_feed(
        data, source, batch_size=config.batch_size, multiple=1, listed=out / quarantine.FILE
    )
    flow_sources = build_flow_sources(config, source, feed.indices)
    several = len(flow_sources) > 1
    found = {}
    for one in flow_sources:
        folder = out / one.label if several else out
        evaluation = found[one.label] = _evaluate(config, one, feed, source, data)
        _write(folder, evaluation, source, one)
        if config.tracking.mlflow or config.tracking.tensorboard:
            name = "/".join(["evaluate", out.name, *([one.label] if several else [])])
            _track(config, folder, evaluation, source, name)
    first = next(iter(found.values()))
    if several:
        seconds = _time(flow_sources, source, feed.indices)
        table = as_table({label: each.summary for label, each in found.items()}, seconds)
        storage.write_file(out / TABLE_FILE, table.encode())
        print(table + "\n".join(f"{one.label}: {one.title}" for one in flow_sources))
        print(f"written: {out / TABLE_FILE}; in {out}/<row>: {', '.join(FILES)}")
    else:
        print(as_text(first.summary, title=first.title))
        print(f"written: {', '.join(str(out / name) for name in FILES)}")
    return first.summary.whole.means["aepe"]


def _evaluate(
    config: EvaluateConfig,
    flow_source: FlowSource,
    feed: EvalFeed,
    source: Source,
    data: DataConfig,
) -> Evaluation:
    """Scores one flow source on every sample."""
    gallery = Gallery(config.pictures)
    rows = score_samples(flow_source, feed, source, samples=len(feed.indices), gallery=gallery)
    pyramid, pyramid_of = None, ""
    known = sorted((row for row in rows if not np.isnan(row.aepe)), key=lambda row: row.aepe)
    if isinstance(flow_source, NetworkFlow) and config.pictures and known:
        median = known[len(known) // 2]
        batch = _batch_of(source, median.number)
        levels = flow_source.levels(batch)
        flows = {level: flow[0].numpy() for level, flow in levels.flows.items()}
        sample = [part[0].numpy() for part in batch[:4]]
        pyramid = panel(*sample, estimate=levels.estimate[0].numpy(), flows=flows)
        pyramid_of = median.id
    names = set(source.labels if isinstance(source, MixedSource) else [source.name])
    return Evaluation(
        title=f"{flow_source.title} on "
        + (f"{len(names)} data sets" if len(names) > 1 else source.name),
        summary=summarize(
            rows,
            kinds=_kinds(data, source),
            protocols=config.dialect.names if config.dialect else [],
            bootstrap=config.bootstrap,
        ),
        about={"estimate": flow_source.title, **flow_source.about, "split": str(config.split)},
        data=_describe_data(data, source),
        made_by=describe_process(),
        gallery=gallery,
        pyramid=pyramid,
        pyramid_of=pyramid_of,
    )


def score_samples(
    flow_source: FlowSource,
    batches: Iterable[Batch],
    source: Source,
    *,
    samples: int,
    gallery: Gallery,
) -> list[SampleScore]:
    """The scores of every sample of `batches`, at full size, in the order of the source.

    While the next is estimated, others are scored in threads; few wait.

    Args:
        samples: how many `batches` hold, for the progress bar.
        gallery: is offered every sample.
    """
    places = origins(source)
    workers = min(4, len(processors()))
    rows: list[SampleScore] = []
    waiting: deque[tuple[_Pair, Future[dict[str, float]]]] = deque()

    def finish() -> None:
        pair, sums = waiting.popleft()
        place = places[pair.number]
        row = SampleScore(
            pair.number, source.ids[pair.number], place.dataset, place.scene, sums.result()
        )
        rows.append(row)
        draw = functools.partial(tiles, *pair.sample, estimate=pair.estimate)
        gallery.offer(row.aepe, row.number, row.id, draw)

    bar = tqdm(total=samples, desc="evaluate", disable=None, leave=False)
    with bar, ThreadPoolExecutor(workers) as pool:
        for pair in _pairs(flow_source, batches, source):
            waiting.append((pair, pool.submit(_score, pair, source, places[pair.number])))
            if len(waiting) > workers:
                finish()
            bar.update()
        while waiting:
            finish()
    return sorted(rows, key=lambda row: row.number)


def _pairs(flow_source: FlowSource, batches: Iterable[Batch], source: Source) -> Iterator[_Pair]:
    for batch in batches:
        estimates = flow_source.estimate(_wanted(batch, source))
        for place, index in enumerate(batch.index.numpy().tolist()):
            yield _Pair(index, [part[place].numpy() for part in batch[:4]], estimates[place])


def _wanted(batch: Batch, source: Source) -> Pairs:
    ids = [source.ids[index] for index in batch.index.numpy().tolist()]
    return Pairs(ids, batch.frame1, batch.frame2, batch.valid)


def _score(pair: _Pair, source: Source, place: Origin) -> dict[str, float]:
    masks = read_annotations(source, pair.number, place)
    plain = fine = None
    if masks.stored is not None and place.sample is not None:
        stored, known = masks.stored
        stride = place.sample.flow_stride
        plain = Field(stored[::stride, ::stride], known[::stride, ::stride])
        fine = Field(stored, known) if stride > 1 else None
    _, _, flow, valid = pair.sample
    truth = GroundTruth(flow, valid, masks.occlusion, masks.foreground, plain, fine)
    return score(pair.estimate, truth)


def _time(
    flow_sources: Sequence[FlowSource], source: Source, indices: Sequence[int]
) -> dict[str, float]:
    """Seconds per pair of each source that computes, on the first pair of each data set.

    Medians of rounds in which the sources take turns, after one that is not counted. Nothing else
    runs meanwhile, and the frames are in memory.
    """
    places = origins(source)
    first = {places[index].dataset: index for index in reversed(indices)}
    pairs = [_wanted(_batch_of(source, index), source) for index in first.values()]
    seconds: dict[str, list[float]] = {one.label: [] for one in flow_sources if one.computes}
    for _ in range(TIMED_ROUNDS + 1):
        for one in flow_sources:
            if one.computes:
                start = time.perf_counter()
                for pair in pairs:
                    one.estimate(pair)
                seconds[one.label].append((time.perf_counter() - start) / len(pairs))
    return {label: statistics.median(found[1:]) for label, found in seconds.items()}


def _batch_of(source: Source, number: int) -> Batch:
    """One example as a batch."""
    index = tf.constant(number, tf.int64)
    frame1, frame2, flow, valid = (part[None] for part in source.example(index))
    return Batch(frame1, frame2, flow, valid, index[None])


def _write(out: Path, found: Evaluation, source: Source, flow_source: FlowSource) -> None:
    about: dict[str, object] = {**found.about, "data": source.name, "digest": source.digest}
    about |= found.made_by
    if flow_source.origin is not None:
        about["weights"] = flow_source.origin.record()
    storage.make_folder(out)
    storage.write_file(out / METRICS_FILE, as_json(found.summary, about, found.data).encode())
    storage.write_file(out / SAMPLES_FILE, as_csv(found.summary.rows).encode())
    storage.write_file(out / REPORT_FILE, render_evaluation(found).encode())


def _track(
    config: EvaluateConfig, out: Path, found: Evaluation, source: Source, run_name: str
) -> None:
    """Logs the evaluation as a run of its own: metrics, pictures, files."""
    about = {name: str(value) for name, value in found.about.items()}
    tracker = Tracker(
        out.absolute(),
        run_name=run_name,
        params=flatten(config),
        tags={"kind": "evaluation", "run_dir": str(out.absolute()), **about},
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=config.tracking.tensorboard,
        required=config.tracking.required,
    )
    summary = found.summary
    sizes = {str(config.split): len(summary.rows)}
    with tracker:
        tracker.dataset(source.name, digest=source.digest, sizes=sizes, context="evaluation")
        tracker.scalars(0, _points("eval", summary.whole.means))
        if len(summary.datasets) > 1:
            for name, part in summary.datasets.items():
                tracker.scalars(0, _points(f"eval/{name}", part.means))
        for kind, shown in (("worst", found.gallery.worst), ("best", found.gallery.best)):
            for place, sample in enumerate(shown, start=1):
                row = np.concatenate(list(sample.tiles.values()), axis=1)
                tracker.image(0, f"{kind}/{place:02d}/{sample.id}", row)
        if found.pyramid is not None:
            tracker.image(0, f"pyramid/{found.pyramid_of}", found.pyramid)
        for name in FILES:
            tracker.artifact((out / name).absolute(), "")


def _points(prefix: str, means: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in means.items() if not np.isnan(value)}


def _kinds(data: DataConfig, source: Source) -> dict[str, GroundTruthKind]:
    """What the ground truth of each data set is like, for other codebases' definitions."""
    labels = source.labels if isinstance(source, MixedSource) else [source.name]
    parts: dict[str, list[DataConfig]] = {}
    for label, part in zip(labels, _parts(data), strict=True):
        parts.setdefault(label, []).append(part)
    return {
        label: GroundTruthKind(
            sparse=any(isinstance(part, KittiConfig | Hd1kConfig) for part in own),
            visible_only=all(
                isinstance(part, KittiConfig) and part.truth == Truth.noc for part in own
            ),
        )
        for label, own in parts.items()
    }


def _parts(data: DataConfig) -> list[DataConfig]:
    return data.part_configs() if isinstance(data, MixConfig) else [data]


def _describe_data(data: DataConfig, source: Source) -> dict[str, str]:
    """Name of each data set -> where it is, the settings that it alone has, its digest."""
    members = source.members if isinstance(source, MixedSource) else [(source.name, source)]
    common = {one.name for one in fields(FilesConfig)}
    described = {}
    for part, (name, member) in zip(_parts(data), members, strict=True):
        own = [f"{key}={value}" for key, value in asdict(part).items() if key not in common]
        root = [part.root or ""] if isinstance(part, FilesConfig) else []
        place = [*root, *own, f"{member.size:,} samples", f"digest {member.digest}"]
        described[f"data: {name}"] = ", ".join(place)
    return described
