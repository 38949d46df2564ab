"""The training loop, and what surrounds it: validation, checkpoints, the record of the run."""

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf
from tqdm import tqdm

from pwc_exp import checkpoints, durable
from pwc_exp.build import (
    build_augment,
    build_eval_feed,
    build_loss,
    build_model,
    build_on_bad,
    build_optimizer,
    build_schedule,
    build_skipped,
    build_source,
)
from pwc_exp.commands import TrainConfig
from pwc_exp.config import CONFIG_FILE, flatten, to_yaml
from pwc_exp.data import quarantine
from pwc_exp.data.feed import train_feed
from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import NonFiniteError, OutputError
from pwc_exp.evaluation import UNITS, errors_of
from pwc_exp.groups.data import Dataset, Split
from pwc_exp.groups.training import Precision
from pwc_exp.meter import Meter
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.pictures import panel
from pwc_exp.steps import make_estimate, make_eval_step, make_levels, make_train_step
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.mlflow_run import tracking_uri
from pwc_exp.tracking.provenance import library_versions
from pwc_exp.weights import BEST_KEY, CHECKPOINTS, load_weights

MAX_SKIPPED = 50  # fp16 updates in a row that may overflow while the loss scale finds its size


class Sources(NamedTuple):
    """Where examples come from."""

    train: Source
    val: Source


class Summary(NamedTuple):
    """What a run ends with: AEPE on the validation samples, in pixels."""

    zero_flow: float
    start: float
    end: float
    best: float


def train(config: TrainConfig, run_dir: Path) -> float:
    """Trains as `config` says, all about the run in `run_dir`, and returns the last AEPE."""
    sources = Sources(build_source(config.data, Split.train), build_source(config.data, Split.val))
    keras.utils.set_random_seed(config.seed)
    model = build_model(config.model, config.precision)
    origin = load_weights(model, Path(config.init_from)) if config.init_from else None
    _claim(run_dir, config)
    print(_header(config, run_dir, model, sources, origin))
    with _open_tracker(config, run_dir, origin) as tracker:
        tracker.artifact(run_dir / CONFIG_FILE, "")
        for split, source in sources._asdict().items():
            sizes = {split: source.size}
            tracker.dataset(source.name, digest=source.digest, sizes=sizes, context=split)
        summary = run(config, run_dir, model, sources, tracker)
        _send_checkpoints(run_dir / CHECKPOINTS, tracker)
    print(_table(summary, config, run_dir))
    return summary.end


def run(
    config: TrainConfig, run_dir: Path, model: PWCNet, sources: Sources, tracker: Tracker
) -> Summary:
    """The training loop. The step, one optimizer update, is its only clock."""
    optimizer = build_optimizer(config.optimizer, build_schedule(config.schedule), config.precision)
    train_step = make_train_step(
        model,
        optimizer,
        build_loss(config.loss, model),
        l2=config.optimizer.l2,
        l2_biases=config.optimizer.l2_biases,
        clip_norm=config.optimizer.clip_norm,
    )
    validation = Validation(config, model, sources.val, tracker, run_dir / quarantine.FILE)
    guard = Guard(
        sources.train, allowed=0 if config.precision.policy == Precision.fp32 else MAX_SKIPPED
    )
    state = checkpoints.named_state(model, optimizer)
    meter = Meter()
    history = [validation.run(0)]
    bar = tqdm(total=config.steps, desc="train", unit="step", dynamic_ncols=True, disable=None)
    with bar as progress:
        batches = _batches(config, sources.train, run_dir / quarantine.FILE)
        for step, batch in enumerate(meter.timed(batches), start=1):
            results = guard.check({k: float(v) for k, v in train_step(batch).items()}, step, batch)
            meter.add(results)
            progress.update()
            if _due(step, config.log_every, config.steps):
                measured = meter.take(batch_size=config.batch_size)
                tracker.scalars(step, measured)
                progress.set_postfix_str(_in_short(measured))
                if progress.disable:  # no terminal, so no bar
                    print(f"step {step:>9,}   {_in_short(measured)}")
            metrics = {}
            if _due(step, config.eval_every, config.steps):
                history.append(validation.run(step))
                metrics = {BEST_KEY: history[-1]}
            if metrics or _due(step, config.save_every, config.steps):
                _save(run_dir / CHECKPOINTS, step, state, metrics, keep_best=config.keep_best)
    return Summary(validation.zero_flow, history[0], history[-1], min(history))


class Validation:
    """Evaluates the network again and again, with steps that are compiled once."""

    def __init__(
        self, config: TrainConfig, model: PWCNet, source: Source, tracker: Tracker, listed: Path
    ) -> None:
        """`listed`: where samples that cannot be read are noted."""
        self._source = source
        self._tracker = tracker
        self._eval_step = make_eval_step(make_estimate(model, xla=config.xla))
        self._levels = make_levels(model)
        make_feed = functools.partial(build_eval_feed, config.data, source, listed=listed)
        self._batches = make_feed(
            batch_size=config.val_batch_size, multiple=2**model.levels, limit=config.eval_samples
        )
        self._pictured = make_feed(batch_size=1, multiple=1, limit=config.picture_samples)
        still = make_eval_step(lambda frame1, frame2: tf.zeros_like(frame1[..., :2]))
        self.zero_flow = errors_of(still, self._batches, source).means["aepe"]

    def run(self, step: int) -> float:
        """Notes the errors and pictures of `step`, and returns the AEPE."""
        means = errors_of(self._eval_step, self._batches, self._source).means
        self._tracker.scalars(step, {f"val/{name}": means[name] for name in UNITS})
        for batch in self._pictured:
            self._draw(step, batch)
        tqdm.write(f"step {step:>9,}   {BEST_KEY} {means['aepe']:.3f} px")
        return means["aepe"]

    def _draw(self, step: int, batch: Batch) -> None:
        levels = self._levels(batch)
        picture = panel(
            batch.frame1[0].numpy(),
            batch.frame2[0].numpy(),
            target=batch.flow[0].numpy(),
            valid=batch.valid[0].numpy(),
            estimate=levels.estimate[0].numpy(),
            flows={level: flow[0].numpy() for level, flow in levels.flows.items()},
        )
        self._tracker.image(step, f"val/{self._source.ids[int(batch.index[0])]}", picture)


class Guard:
    """Ends a run whose loss or gradients stop being finite; their update has not been applied."""

    def __init__(self, source: Source, *, allowed: int) -> None:
        """`allowed`: updates in a row that may be held back, as in fp16 they sometimes must."""
        self._source = source
        self._allowed = allowed
        self._in_a_row = 0

    def check(self, results: Mapping[str, float], step: int, batch: Batch) -> dict[str, float]:
        """The results without `applied`.

        Raises:
            NonFiniteError: one update too many was held back.
        """
        values = dict(results)
        self._in_a_row = 0 if values.pop("applied") else self._in_a_row + 1
        if self._in_a_row > self._allowed:
            ids = ", ".join(self._source.ids[int(i)] for i in batch.index)
            received = {name: value for name, value in values.items() if not math.isfinite(value)}
            raise NonFiniteError(
                f"step {step}: loss and gradients must be finite. Received: {received}, "
                f"{self._in_a_row} time(s) in a row, from {self._source.name}, samples {ids}"
            )
        return values


def _claim(run_dir: Path, config: TrainConfig) -> None:
    """Writes the configuration, which makes the folder this run's and no other's."""
    if (run_dir / CONFIG_FILE).exists():
        raise OutputError(f"{run_dir} must be a new folder. Received: that of another run")
    durable.make_folder(run_dir)
    durable.write_file(run_dir / CONFIG_FILE, to_yaml(config).encode())


def _batches(config: TrainConfig, source: Source, listed: Path) -> Iterator[Batch]:
    return train_feed(
        source,
        batch_size=config.batch_size,
        crop=config.data.crop,
        augment=build_augment(config.augment),
        seed=config.seed,
        start_step=0,
        steps=config.steps,
        workers=config.data.workers,
        skipped=build_skipped(config.data, source),
        on_bad=build_on_bad(config.data, listed),
        device=config.augment.device,
    )


def _due(step: int, every: int, steps: int) -> bool:
    return step % every == 0 or step == steps


def _save(
    folder: Path,
    step: int,
    state: Mapping[str, checkpoints.Variable],
    metrics: Mapping[str, float],
    *,
    keep_best: int,
) -> None:
    checkpoints.save(
        folder, step=step, state=state, metrics=metrics, fingerprint=library_versions()
    )
    checkpoints.retain(folder, keep_best=keep_best, key=BEST_KEY)


def _send_checkpoints(folder: Path, tracker: Tracker) -> None:
    """Has the checkpoints that people ask for copied to MLflow."""
    chosen = {"best": checkpoints.best(folder, key=BEST_KEY), "last": checkpoints.latest(folder)}
    for name, path in chosen.items():
        if path is not None:
            tracker.artifact(path, f"{CHECKPOINTS}/{name}")


def _open_tracker(config: TrainConfig, run_dir: Path, origin: Path | None) -> Tracker:
    return Tracker(
        run_dir,
        run_name=str(run_dir.relative_to(Path(config.outputs).absolute())),
        params=flatten(config),
        tags={"run_dir": str(run_dir)} | ({"init_from": str(origin)} if origin else {}),
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=config.tracking.tensorboard,
    )


def _in_short(measured: Mapping[str, float]) -> str:
    """What the progress bar shows of a point."""
    parts = [f"loss {measured['train/loss']:.4g}", f"aepe {measured['train/aepe']:.2f} px"]
    if "time/data_wait" in measured:
        parts.append(f"{measured['time/samples_per_second']:.1f} samples/s")
        parts.append(f"data wait {measured['time/data_wait']:.0%}")
    return ", ".join(parts)


def _header(
    config: TrainConfig, run_dir: Path, model: PWCNet, sources: Sources, origin: Path | None
) -> str:
    lines = [
        f"run    {run_dir}",
        f"model  {config.model.name}, {model.count_params():,} weights, {config.precision.policy}",
        *([f"from   {origin}"] if origin else []),
        f"data   {sources.train.name}: {sources.train.size:,} samples to train, "
        f"{sources.val.size:,} to validate; crop {config.data.crop[0]} x {config.data.crop[1]}",
    ]
    train, val = (len(build_skipped(config.data, source)) for source in sources)
    if train or val:
        lines.append(f"       without {train} and {val} of them, in quarantine")
    if config.data.name == Dataset.synthetic:
        lines.append("       generated; for a published data set: data=flyingchairs data.root=...")
    elif sources.train.ids == sources.val.ids:
        lines.append("       of one scene only: validation sees the samples that train")
    return "\n".join(lines)


def _table(summary: Summary, config: TrainConfig, run_dir: Path) -> str:
    rows = [
        ("zero flow", summary.zero_flow),
        ("at the start", summary.start),
        (f"now, step {config.steps:,}", summary.end),
        ("best", summary.best),
    ]
    lines = ["", "AEPE on the validation samples"]
    lines += [f"  {name:<20}{aepe:>9.3f} px" for name, aepe in rows]
    lines += ["", f"run          {run_dir}"]
    if config.tracking.mlflow:
        address = tracking_uri(config.tracking.uri, Path(config.outputs))
        lines.append(f"MLflow       mlflow ui --backend-store-uri {address}")
    if config.tracking.tensorboard:
        lines.append(f"TensorBoard  tensorboard --logdir {config.outputs}")
    return "\n".join(lines)
