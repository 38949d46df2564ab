"""Repeats a non-finite update from its recording, and shows where it became non-finite."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.config.commands import ReplayConfig
from pwc_exp.config.schema import CONFIG_FILE, load
from pwc_exp.data.sample import Batch
from pwc_exp.errors import DataError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.training.state import BATCH_PREFIX, TrainState


def replay(config: ReplayConfig) -> bool:
    """Prints the repeated update beside the recorded one; whether they are equal."""
    box = Path(config.box).absolute()
    of_run = load(box.parent.parent / CONFIG_FILE)
    recorded = checkpoints.load(box)
    if not any(name.startswith(BATCH_PREFIX) for name in recorded.arrays):
        raise DataError(f"box: {box} is a checkpoint, not a recorded update: it has no batch")
    parts = {name: recorded.arrays[BATCH_PREFIX + name] for name in Batch._fields}
    batch = Batch(**{name: tf.constant(part) for name, part in parts.items()})
    trained = TrainState.make(of_run)
    before = {
        name: recorded.arrays[name] for name in recorded.arrays if not name.startswith(BATCH_PREFIX)
    }
    checkpoints.restore(trained.variables, recorded._replace(arrays=before))
    metrics = recorded.manifest.metrics
    if "train/loss_scale" in metrics:  # it was lowered later
        trained.optimizer.dynamic_scale.assign(metrics["train/loss_scale"])
    levels = list(_of_levels(trained.model, batch))
    received = {name: float(value) for name, value in trained.train_step(batch).items()}
    same = _print_results(metrics, received)
    for line in [*_of_batch(parts), *levels]:
        print(line)
    return same


def _print_results(recorded: Mapping[str, float], received: Mapping[str, float]) -> bool:
    print(f"{'':<18}{'recorded':>16}{'now':>16}")
    for name, value in recorded.items():
        print(f"{name:<18}{value:>16.6g}{received[name]:>16.6g}")
    same = all(_same(value, received[name]) for name, value in recorded.items())
    print("identical" if same else "not identical")
    return same


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _of_batch(parts: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Statistics of the input."""
    known = parts["valid"] > 0
    speed = np.linalg.norm(parts["flow"], axis=-1)[known]
    fastest = f", the fastest {speed.max():.1f} px" if speed.size else ""
    yield f"batch: {len(known)} examples, {known.mean():.1%} of their pixels valid{fastest}"
    for name in ("frame1", "frame2", "flow"):
        where = known if name == "flow" else np.ones_like(known)
        bad = ~np.isfinite(parts[name][where]).all(axis=-1)
        if bad.any():
            yield f"batch: {name} is not finite in {bad.sum():,} pixels"


def _of_levels(model: PWCNet, batch: Batch) -> Iterator[str]:
    """The number of non-finite values at each level, from the coarsest on."""
    flows = tf.function(model)((batch.frame1, batch.frame2))
    for level, flow in flows.items():
        values = flow.numpy()
        finite = np.isfinite(values)
        largest = np.abs(values[finite]).max() * model.units[level] if finite.any() else 0
        yield (
            f"level {level}: {(~finite).sum():,} of {values.size:,} values are not finite, "
            f"the largest of the others is {largest:.4g} px"
        )
