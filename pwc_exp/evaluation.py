"""The errors of networks, flow files and baselines on one or several data sets."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp import storage
from pwc_exp.build import build_eval_feed, build_source
from pwc_exp.config.commands import EvaluateConfig, Unit
from pwc_exp.config.data import DataConfig, FilesConfig, Hd1kConfig, KittiConfig, MixConfig, Truth
from pwc_exp.config.schema import CONFIG_FILE, flatten, load
from pwc_exp.data import quarantine
from pwc_exp.data.annotations import Origin as Place
from pwc_exp.data.annotations import origins
from pwc_exp.data.pipeline import EvalFeed
from pwc_exp.data.sample import Batch, Source
from pwc_exp.data.source import MixedSource
from pwc_exp.findings import METRICS_FILE, SAMPLES_FILE, as_csv, as_json, as_table, as_text
from pwc_exp.flow_sources import FlowSource, build_flow_sources
from pwc_exp.gallery import Gallery
from pwc_exp.inference import Levels
from pwc_exp.measuring import measure
from pwc_exp.pictures import panel_of
from pwc_exp.report.evaluation import Evaluation, render
from pwc_exp.scoring.dialects import Kind
from pwc_exp.scoring.summary import Drawing, Summary, ranked, summarize
from pwc_exp.timing import Work
from pwc_exp.timing import measure as measure_times
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.provenance import describe_process
from pwc_exp.weights import WeightsInfo

REPORT_FILE = "report.html"
TABLE_FILE = "table.md"
FILES = (METRICS_FILE, SAMPLES_FILE, REPORT_FILE)
TIMED_ROUNDS = 3


def evaluate(config: EvaluateConfig) -> float:
    """Prints the errors, writes tables and reports, and returns the AEPE.

    Of several flow sources, each has a folder of its own, and the AEPE is that of the first.
    """
    data = config.data or load(Path(config.run[0]) / CONFIG_FILE).data
    source = build_source(data, config.split)
    out = Path(config.out or f"{config.outputs}/evaluate/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    storage.make_folder(out)
    feed = build_eval_feed(
        data,
        source,
        batch_size=config.batch_size,
        multiple=1,
        listed=out / quarantine.FILE,
    )
    flow_sources = build_flow_sources(config, source, feed.indices)
    several = len(flow_sources) > 1
    pages = {
        one.label: _evaluate(
            config,
            one,
            feed,
            source,
            data=data,
            out=out / one.label if several else out,
            run_name="/".join(["evaluate", out.name, *([one.label] if several else [])]),
        )
        for one in flow_sources
    }
    first = next(iter(pages.values()))
    if several:
        seconds = _time(flow_sources, source, _first_of_each(origins(source), feed.indices))
        table = as_table({label: page.summary for label, page in pages.items()}, seconds)
        storage.write_file(out / TABLE_FILE, table.encode())
        print(table + "\n".join(f"{one.label}: {one.name}" for one in flow_sources))
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
    *,
    data: DataConfig,
    out: Path,
    run_name: str,
) -> Evaluation:
    """Scores one flow source, and writes its files into `out`."""
    gallery = Gallery(config.pictures)
    rows = measure(
        flow_source, feed, source, origins(source), samples=len(feed.indices), gallery=gallery
    )
    summary = summarize(
        rows,
        kinds=_kinds(data, source),
        dialects=config.dialect.names if config.dialect else [],
        drawing=Drawing(
            config.bootstrap.unit == Unit.scenes, config.bootstrap.draws, config.bootstrap.seed
        ),
    )
    page = _page(
        config,
        source,
        flow_source,
        summary=summary,
        gallery=gallery,
        data=_describe_data(data, source),
    )
    storage.make_folder(out)
    _write(out, page, source, flow_source.origin)
    if config.tracking.mlflow or config.tracking.tensorboard:
        _track(config, out, page, source, run_name)
    return page


def _first_of_each(found: Sequence[Place], indices: Sequence[int]) -> list[int]:
    """The first example of each data set among `indices`."""
    first: dict[str, int] = {}
    for index in indices:
        first.setdefault(found[index].dataset, index)
    return list(first.values())


def _time(
    flow_sources: Sequence[FlowSource], source: Source, indices: Sequence[int]
) -> dict[str, float]:
    """Seconds per pair of each that computes: medians of rounds in which all take turns.

    Nothing else is computed meanwhile, and the pairs are in memory already.
    """
    batches = [_batch_of(source, index) for index in indices]

    def work(flow_source: FlowSource) -> Work:
        def call() -> None:
            for batch in batches:
                flow_source.estimate(batch)

        return Work(call, 0.0)

    works = {one.label: work(one) for one in flow_sources if one.computes}
    timings = measure_times(works, repeats=TIMED_ROUNDS)
    return {label: timing.seconds / len(batches) for label, timing in timings.items()}


def _page(
    config: EvaluateConfig,
    source: Source,
    flow_source: FlowSource,
    *,
    summary: Summary,
    gallery: Gallery,
    data: dict[str, str],
) -> Evaluation:
    about = {"estimate": flow_source.name, **flow_source.about}
    middle = ranked(summary.rows)
    pyramid, pyramid_of = None, ""
    if flow_source.levels is not None and middle and config.pictures:
        chosen = middle[len(middle) // 2]
        pyramid, pyramid_of = _draw_pyramid(flow_source.levels, source, chosen.number), chosen.id
    return Evaluation(
        title=f"{flow_source.name} on {_name(source)}",
        summary=summary,
        about=about | {"split": str(config.split)},
        data=data,
        made_by=describe_process(),
        worst=gallery.worst,
        best=gallery.best,
        pyramid=pyramid,
        pyramid_of=pyramid_of,
    )


def _draw_pyramid(levels_of: Callable[[Batch], Levels], source: Source, number: int) -> np.ndarray:
    batch = _batch_of(source, number)
    levels = levels_of(batch)
    flows = {level: flow[0].numpy() for level, flow in levels.flows.items()}
    return panel_of(batch, levels.estimate, flows)


def _batch_of(source: Source, number: int) -> Batch:
    """One example as a batch."""
    index = tf.constant(number, tf.int64)
    frame1, frame2, flow, valid = (part[None] for part in source.example(index))
    return Batch(frame1, frame2, flow, valid, index[None])


def _write(out: Path, page: Evaluation, source: Source, origin: WeightsInfo | None) -> None:
    about: dict[str, object] = {**page.about, "data": source.name, "digest": source.digest}
    about |= page.made_by
    if origin is not None:
        about["weights"] = origin.record()
    storage.write_file(out / METRICS_FILE, as_json(page.summary, about, page.data).encode())
    storage.write_file(out / SAMPLES_FILE, as_csv(page.summary.rows).encode())
    storage.write_file(out / REPORT_FILE, render(page).encode())


def _track(
    config: EvaluateConfig, out: Path, page: Evaluation, source: Source, run_name: str
) -> None:
    """Makes the evaluation a run of its own in the stores: figures, pictures, files."""
    tracker = Tracker(
        out.absolute(),
        run_name=run_name,
        params=flatten(config),
        tags={
            "kind": "evaluation",
            "run_dir": str(out.absolute()),
            **{k: str(v) for k, v in page.about.items()},
        },
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=config.tracking.tensorboard,
        required=config.tracking.required,
    )
    summary = page.summary
    with tracker:
        tracker.dataset(
            source.name,
            digest=source.digest,
            sizes={str(config.split): len(summary.rows)},
            context="evaluation",
        )
        tracker.scalars(0, _points("eval", summary.whole.means))
        if len(summary.datasets) > 1:
            for name, part in summary.datasets.items():
                tracker.scalars(0, _points(f"eval/{name}", part.means))
        for kind, shown in (("worst", page.worst), ("best", page.best)):
            for place, sample in enumerate(shown, start=1):
                row = np.concatenate(list(sample.tiles.values()), axis=1)
                tracker.image(0, f"{kind}/{place:02d}/{sample.id}", row)
        if page.pyramid is not None:
            tracker.image(0, f"pyramid/{page.pyramid_of}", page.pyramid)
        for name in (METRICS_FILE, SAMPLES_FILE, REPORT_FILE):
            tracker.artifact((out / name).absolute(), "")


def _name(source: Source) -> str:
    if isinstance(source, MixedSource) and len(set(source.labels)) > 1:
        return f"{len(set(source.labels))} data sets"
    return source.name


def _points(prefix: str, means: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in means.items() if not np.isnan(value)}


def _kinds(data: DataConfig, source: Source) -> dict[str, Kind]:
    """What the truth of each data set is like, for the definitions of others."""
    labels = source.labels if isinstance(source, MixedSource) else [source.name]
    parts: dict[str, list[DataConfig]] = {}
    for label, part in zip(labels, _parts(data), strict=True):
        parts.setdefault(label, []).append(part)
    return {
        label: Kind(
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
    parts = _parts(data)
    members = source.members if isinstance(source, MixedSource) else [(source.name, source)]
    described = {}
    for part, (name, member) in zip(parts, members, strict=True):
        own = {knob.name for knob in fields(part)} - {knob.name for knob in fields(FilesConfig)}
        knobs = [f"{key}={value}" for key, value in asdict(part).items() if key in own]
        root = [part.root or ""] if isinstance(part, FilesConfig) else []
        place = [*root, *knobs, f"{member.size:,} samples", f"digest {member.digest}"]
        described[f"data: {name}"] = ", ".join(place)
    return described
