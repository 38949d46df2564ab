"""The errors of a flow, a network's, in files or of zero, on one or several data sets."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp import durable
from pwc_exp.build import build_eval_feed, build_source
from pwc_exp.commands.evaluation import EvaluateConfig, Unit
from pwc_exp.config import CONFIG_FILE, flatten, load
from pwc_exp.data import quarantine
from pwc_exp.data.companions import datasets, origins
from pwc_exp.data.mixed_source import MixedSource, distinct
from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import ConfigError
from pwc_exp.estimates import Estimator, build_estimator
from pwc_exp.findings import METRICS_FILE, SAMPLES_FILE, as_csv, as_json, as_text
from pwc_exp.gallery import Gallery
from pwc_exp.groups.data import DataConfig, FilesConfig, Hd1kConfig, KittiConfig, Truth
from pwc_exp.groups.mix import MixConfig
from pwc_exp.measuring import measure
from pwc_exp.origin import Origin
from pwc_exp.pictures import panel_of
from pwc_exp.report.evaluation import Evaluation, render
from pwc_exp.scoring.dialects import Kind
from pwc_exp.scoring.summary import Drawing, Summary, ranked, summarize
from pwc_exp.steps import Levels
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.provenance import describe_process

REPORT_FILE = "report.html"


def evaluate(config: EvaluateConfig) -> float:
    """Prints the errors, writes tables and the report, and returns the AEPE."""
    of_run = load(Path(config.run) / CONFIG_FILE) if config.run else None
    data = config.data or (of_run.data if of_run else None)
    if data is None:
        raise ConfigError("data must be chosen if no run says which data")
    source = build_source(data, config.split)
    out = Path(config.out or f"{config.outputs}/evaluate/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    durable.make_folder(out)
    feed = build_eval_feed(
        data,
        source,
        batch_size=config.batch_size,
        multiple=1,
        listed=out / quarantine.FILE,
    )
    estimator = build_estimator(config, source, feed.indices)
    gallery = Gallery(config.pictures)
    found = origins(source)
    rows = measure(estimator, feed, source, found, samples=len(feed.indices), gallery=gallery)
    summary = summarize(
        rows,
        kinds=_kinds(data, datasets(found)),
        dialects=config.dialect.names if config.dialect else [],
        drawing=Drawing(
            config.bootstrap.unit == Unit.scenes, config.bootstrap.draws, config.bootstrap.seed
        ),
    )
    page = _page(
        config,
        source,
        estimator,
        summary=summary,
        gallery=gallery,
        data=_describe_data(data, source),
    )
    _write(out, page, source, estimator.origin)
    if config.tracking.mlflow or config.tracking.tensorboard:
        _track(config, out, page, source)
    print(as_text(summary, title=page.title))
    print(f"written: {', '.join(str(out / n) for n in (METRICS_FILE, SAMPLES_FILE, REPORT_FILE))}")
    return summary.whole.means["aepe"]


def _page(
    config: EvaluateConfig,
    source: Source,
    estimator: Estimator,
    *,
    summary: Summary,
    gallery: Gallery,
    data: dict[str, str],
) -> Evaluation:
    about = {"estimate": estimator.name, **estimator.about}
    middle = ranked(summary.rows)
    pyramid, pyramid_of = None, ""
    if estimator.levels is not None and middle and config.pictures:
        chosen = middle[len(middle) // 2]
        pyramid, pyramid_of = _draw_pyramid(estimator.levels, source, chosen.number), chosen.id
    return Evaluation(
        title=f"{estimator.name} on {_name(source)}",
        summary=summary,
        about=about | ({"run": config.run} if config.run else {}) | {"split": str(config.split)},
        data=data,
        made_by=describe_process(),
        worst=gallery.worst,
        best=gallery.best,
        pyramid=pyramid,
        pyramid_of=pyramid_of,
    )


def _draw_pyramid(levels_of: Callable[[Batch], Levels], source: Source, number: int) -> np.ndarray:
    place = tf.constant(number, tf.int64)
    example = source.example(place)
    frame1, frame2, flow, valid = (part[None] for part in example)
    batch = Batch(frame1, frame2, flow, valid, place[None])
    levels = levels_of(batch)
    flows = {level: flow[0].numpy() for level, flow in levels.flows.items()}
    return panel_of(batch, levels.estimate, flows)


def _write(out: Path, page: Evaluation, source: Source, origin: Origin | None) -> None:
    about: dict[str, object] = {**page.about, "data": source.name, "digest": source.digest}
    about |= page.made_by
    if origin is not None:
        about["weights"] = origin.record()
    durable.write_file(out / METRICS_FILE, as_json(page.summary, about, page.data).encode())
    durable.write_file(out / SAMPLES_FILE, as_csv(page.summary.rows).encode())
    durable.write_file(out / REPORT_FILE, render(page).encode())


def _track(config: EvaluateConfig, out: Path, page: Evaluation, source: Source) -> None:
    """Makes the evaluation a run of its own in the stores: figures, pictures, files."""
    tracker = Tracker(
        out.absolute(),
        run_name=f"evaluate/{out.name}",
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
    if isinstance(source, MixedSource) and len(source.members) > 1:
        return f"{len(source.members)} data sets"
    return source.name


def _points(prefix: str, means: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in means.items() if not np.isnan(value)}


def _kinds(data: DataConfig, names: list[str]) -> dict[str, Kind]:
    """What the truth of each data set is like, for the definitions of others."""
    return {
        name: Kind(
            sparse=isinstance(part, KittiConfig | Hd1kConfig),
            visible_only=isinstance(part, KittiConfig) and part.truth == Truth.noc,
        )
        for name, part in zip(names, _parts(data), strict=True)
    }


def _parts(data: DataConfig) -> list[DataConfig]:
    return data.part_configs() if isinstance(data, MixConfig) else [data]


def _describe_data(data: DataConfig, source: Source) -> dict[str, str]:
    """Name of each data set -> where it lies, the knobs that it alone has, its digest."""
    parts = _parts(data)
    names = distinct([str(part.name) for part in parts])
    members = dict(source.members) if isinstance(source, MixedSource) else {source.name: source}
    described = {}
    for name, part, member in zip(names, parts, members.values(), strict=True):
        own = {knob.name for knob in fields(part)} - {knob.name for knob in fields(FilesConfig)}
        knobs = [f"{key}={value}" for key, value in asdict(part).items() if key in own]
        root = [part.root or ""] if isinstance(part, FilesConfig) else []
        place = [*root, *knobs, f"{member.size:,} samples", f"digest {member.digest}"]
        described[f"data: {name}"] = ", ".join(place)
    return described
