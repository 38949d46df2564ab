"""The errors of a flow, a network's or in files, on a data set.

Letters: B batch, H height, W width.
"""

import csv
import functools
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp import durable
from pwc_exp.build import build_eval_feed, build_source
from pwc_exp.commands.evaluation import EvaluateConfig
from pwc_exp.config import CONFIG_FILE, load
from pwc_exp.data import quarantine
from pwc_exp.data.feed import EvalFeed
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Batch, Source
from pwc_exp.distribution import Replicas
from pwc_exp.errors import ConfigError, DataError, MissingInputError
from pwc_exp.flow.metrics import COUNT, SUMS, error_sums, mean_of_sums
from pwc_exp.networks import load_network
from pwc_exp.origin import Origin
from pwc_exp.steps import EvalStep, make_estimate, make_eval_step

COLUMNS = (COUNT, *SUMS)  # of a sample
UNITS = {"aepe": "px", "aepe_per_image": "px", "fl_all": "%", "outlier_3px": "%"}


class Errors(NamedTuple):
    """What an evaluation found."""

    means: dict[str, float]  # of the split, see `mean_of_sums`
    samples: list[dict[str, float]]  # the sums of each, see `error_sums`
    ids: list[str]  # of the samples


def evaluate(config: EvaluateConfig) -> float:
    """Prints the errors, writes metrics.json and samples.csv, and returns the AEPE."""
    of_run = load(Path(config.run) / CONFIG_FILE) if config.run else None
    data = config.data or (of_run.data if of_run else None)
    if data is None:
        raise ConfigError("data must be chosen if no run says which data")
    source = build_source(data, config.split)
    out = Path(config.out or f"outputs/evaluate/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    durable.make_folder(out)
    make_feed = functools.partial(build_eval_feed, data, source, listed=out / quarantine.FILE)
    about: dict[str, Any] = {"data": source.name, "digest": source.digest}
    if config.predictions:
        what = config.predictions
        feed = make_feed(batch_size=1, multiple=1)
        errors = errors_of_files(Path(config.predictions), feed, source)
    else:
        origin, errors = _errors_of_weights(config, source, make_feed)
        what, about["weights"] = str(origin.path), origin.record()
    write(out, errors, about={"estimate": what, **about})
    print(table(errors.means, title=f"{what} on {source.name}"))
    print(f"written: {out / 'metrics.json'}, {out / 'samples.csv'}")
    return errors.means["aepe"]


def errors_of(
    eval_step: EvalStep, batches: Iterable[Batch], source: Source, *, replicas: Replicas
) -> Errors:
    """Runs a compiled step over all batches of `source`, those of other workers too.

    batches: those of this worker. All workers get the same errors, in the order of the source.
    """
    table = np.zeros((source.size, 1 + len(COLUMNS)), np.float32)  # 1 if evaluated, and the sums
    shown = tqdm(batches, desc="evaluate", disable=None, leave=False)
    for batch, sums in replicas.each(eval_step, shown):
        rows = np.stack([sums[name].numpy() for name in COLUMNS], axis=1)
        table[batch.index.numpy(), 0] = 1
        table[batch.index.numpy(), 1:] = rows
    table = replicas.sum_over_workers(table)
    found = np.flatnonzero(table[:, 0]).tolist()
    samples = [dict(zip(COLUMNS, map(float, table[i, 1:]), strict=True)) for i in found]
    return Errors(mean_of_sums(samples), samples, [source.ids[i] for i in found])


def errors_of_files(folder: Path, feed: EvalFeed, source: Source) -> Errors:
    """Scores flow files named after the samples of `feed`, one at a time; each must be there.

    Raises:
        MissingInputError: a file is missing.
        DataError: it is no flow, of another size, or unknown where the truth is known.
    """
    paths = {index: _prediction(folder, source.ids[index]) for index in feed.indices}
    rows = []
    ids = []
    for batch in tqdm(feed, desc="evaluate", total=len(paths), disable=None, leave=False):
        index = int(batch.index[0])
        ids.append(source.ids[index])
        rows += _rows(error_sums(_read_prediction(paths[index], batch), batch.flow, batch.valid))
    return Errors(mean_of_sums(rows), rows, ids)


def write(out: Path, errors: Errors, *, about: Mapping[str, Any]) -> None:
    """Writes metrics.json (the means and `about`) and samples.csv (a row per sample) into `out`."""
    content = json.dumps({**about, **errors.means}, indent=2) + "\n"
    durable.write_file(out / "metrics.json", content.encode())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", *UNITS, COUNT])
    for sample_id, sums in zip(errors.ids, errors.samples, strict=True):
        means = mean_of_sums([sums])
        rows.writerow([sample_id, *(means[name] for name in UNITS), int(sums[COUNT])])
    durable.write_file(out / "samples.csv", text.getvalue().encode())


def table(means: Mapping[str, float], *, title: str) -> str:
    """The means as lines of text."""
    lines = [title]
    lines += [f"  {name:<16}{means[name]:>12.4f} {unit}" for name, unit in UNITS.items()]
    lines.append(f"  {COUNT:<16}{means[COUNT]:>12,.0f} in {means['samples']:.0f} samples")
    return "\n".join(lines)


def _errors_of_weights(
    config: EvaluateConfig,
    source: Source,
    make_feed: Callable[..., EvalFeed],
) -> tuple[Origin, Errors]:
    network = load_network(
        run=config.run, weights=config.weights, model=config.model, precision=config.precision
    )
    feed = make_feed(batch_size=config.batch_size, multiple=2**network.model.levels)
    eval_step = make_eval_step(make_estimate(network.model, xla=config.xla))
    alone = Replicas(tf.distribute.get_strategy())
    return network.origin, errors_of(eval_step, feed, source, replicas=alone)


def _rows(sums: Mapping[str, tf.Tensor]) -> list[dict[str, float]]:
    columns = {name: sums[name].numpy() for name in COLUMNS}
    return [
        {name: float(values[i]) for name, values in columns.items()}
        for i in range(len(columns[COUNT]))
    ]


def _prediction(folder: Path, sample_id: str) -> Path:
    """The file for a sample: its id, perhaps after a prefix (LKflow_000045_10), with a suffix."""
    within = folder / sample_id
    for suffix in (".flo", ".png", ".pfm"):
        path = within.with_name(within.name + suffix)
        if path.is_file():
            return path
    prefixed = [
        path for path in _flow_files(within.parent) if path.stem.endswith(f"_{within.name}")
    ]
    if len(prefixed) == 1:
        return prefixed[0]
    found = f"several ({', '.join(path.name for path in prefixed)})" if prefixed else "none"
    raise MissingInputError(
        f"predictions: {folder} must hold {sample_id}.flo, .png or .pfm. Received: {found}"
    )


def _flow_files(folder: Path) -> Iterator[Path]:
    files: Sequence[Path] = sorted(folder.iterdir()) if folder.is_dir() else []
    return (path for path in files if path.suffix in (".flo", ".png", ".pfm"))


def _read_prediction(path: Path, batch: Batch) -> tf.Tensor:
    """The estimate [1, H, W, 2] in a file."""
    flow, known = read_flow(path)
    if flow.shape != batch.flow.shape[1:]:
        expected, received = batch.flow.shape[1:3], flow.shape[:2]
        raise DataError(
            f"{path} must be of the frames' size, {expected[0]} x {expected[1]} (height x width). "
            f"Received: {received[0]} x {received[1]}"
        )
    missing = int(((known == 0) & (batch.valid[0].numpy() > 0)).sum())
    if missing:
        raise DataError(
            f"{path} must give a flow wherever the truth is known. Received: {missing} gaps"
        )
    return tf.constant(flow[None])
