"""A process with several devices: takes training steps, and prints as JSON what came of them.

    python tests/replica_steps.py <scenario> [devices]

With TF_CONFIG it is one of several workers, each with one device.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from pwc_exp import cli

cli.prepare_environment()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from small_runs import NETWORK  # noqa: E402

from pwc_exp.build import build_loss, build_model, build_optimizer  # noqa: E402
from pwc_exp.config.composition import check, compose_command, register  # noqa: E402
from pwc_exp.config.training import TrainConfig  # noqa: E402
from pwc_exp.data.sample import Batch  # noqa: E402
from pwc_exp.optimizers import Average  # noqa: E402
from pwc_exp.training.devices import Replicas, make_replicas  # noqa: E402
from pwc_exp.training.step import make_train_step  # noqa: E402

Arrays = dict[str, np.ndarray]


def configure(*overrides: str) -> TrainConfig:
    register()
    config = check(compose_command("train", list(overrides)).values, "train")
    assert isinstance(config, TrainConfig)
    return config


def batch_of(count: int, size: tuple[int, int], *, seed: int) -> Batch:
    """Random frames, of which one is the other moved, and one example that is known in part."""
    rng = np.random.default_rng(seed)
    frame1, frame2 = rng.random((2, count, *size, 3)).astype(np.float32)
    flow = rng.standard_normal((count, *size, 2)).astype(np.float32) * 4
    valid = (rng.random((count, *size)) > 0.3).astype(np.float32)
    arrays = (frame1, frame2, flow, valid, np.arange(count))
    return Batch(*(tf.constant(array) for array in arrays))


def shard(replicas: Replicas, batch: Batch) -> Any:
    """A batch as this worker gets it from its feed, on its devices."""
    size = batch.index.shape[0] // replicas.workers
    start = replicas.worker * size
    return replicas.scatter(Batch(*(part[start : start + size] for part in batch)))


def train(
    replicas: Replicas,
    config: TrainConfig,
    batches: list[Batch],
    *,
    nudged: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The metrics of each step, and the variables at the end as seen by each local replica.

    nudged: from first weights that are off by one rounding.
    """
    with replicas.strategy.scope():
        keras.utils.set_random_seed(config.seed)
        model = build_model(config.model, config.precision)
        if nudged:
            for variable in model.variables:
                variable.assign(np.nextafter(np.array(variable.value), np.float32(np.inf)))
        average = Average(build_model(config.model, config.precision), decay=0.9)
        average.start(model.trainable_variables)
        optimizer = build_optimizer(config.optimizer, more.pop("rate", 1e-4), config.precision)
        step = make_train_step(
            model,
            optimizer,
            build_loss(config.loss, model),
            l2=config.optimizer.l2,
            l2_biases=config.optimizer.l2_biases,
            average=average,
            **more,
        )
    before = [np.array(v.value) for v in model.variables]
    results = [{k: float(v) for k, v in step(shard(replicas, b)).items()} for b in batches]
    scale = getattr(optimizer, "dynamic_scale", None)
    return {
        "results": results,
        "before": before,
        "weights": [copies(replicas, v) for v in model.variables],
        "average": [copies(replicas, v) for v in average.model.variables],
        "iterations": int(np.asarray(optimizer.iterations.value)),
        "scale": None if scale is None else float(np.asarray(scale.value)),
    }


def copies(replicas: Replicas, variable: keras.Variable) -> list[np.ndarray]:
    """A variable as each replica of this process has it."""
    return [np.array(v) for v in replicas.strategy.experimental_local_results(variable.value)]


def distance(first: Mapping[str, Any], second: Mapping[str, Any], key: str = "weights") -> float:
    """The greatest difference of any weight, relative to the greatest weight of its variable."""
    pairs = zip(first[key], second[key], strict=True)
    return max(
        float(np.abs(one - a[0]).max() / max(np.abs(a[0]).max(), 1e-12))
        for a, b in pairs
        for one in b
    )


def parted(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """How far all weights lie apart, as a share of how far training has moved them.

    A bias that begins at 0 has no value to be relative to; and Adam's first step moves one whose
    gradient is next to nothing by the sign of its rounding.
    """
    ways = [
        (b[0] - a[0], a[0] - before)
        for a, b, before in zip(first["weights"], second["weights"], first["before"], strict=True)
    ]
    apart, moved = (
        np.sqrt(sum(float((w**2).sum()) for w in way)) for way in zip(*ways, strict=True)
    )
    return float(apart / moved)


def spread(found: Mapping[str, Any], key: str) -> float:
    """The greatest difference of a variable between replicas."""
    return max(float(np.abs(c - copies[0]).max()) for copies in found[key] for c in copies)


def compared(
    config: TrainConfig, size: tuple[int, int], steps: int, *, control: bool = False, **more: Any
) -> dict[str, Any]:
    """The same steps on one device, and on all; as a control, again on one, from nudged weights."""
    many = make_replicas(gpus=None, cpus=int(sys.argv[2]), cluster=False)
    one = Replicas(tf.distribute.OneDeviceStrategy("CPU:0"))
    batches = [batch_of(4, size, seed=n) for n in range(steps)]
    alone = train(one, config, batches, **more)
    more.pop("accumulate", None)
    together = train(many, config, batches, **more)
    last, other = alone["results"][-1], together["results"][-1]
    nudged = train(one, config, batches, nudged=True, **more) if control else alone
    return {
        "devices": many.count,
        "parted_by_nudge": parted(alone, nudged),
        "weights": distance(alone, together),
        "average": distance(alone, together, "average"),
        "parted": parted(alone, together),
        "between_replicas": max(spread(together, k) for k in ("weights", "average")),
        "metrics": {
            name: abs(other[name] - value) / max(abs(value), 1e-12) for name, value in last.items()
        },
        "norm": last["train/grad_norm"],
        "moved": distance({"weights": [[b] for b in alone["before"]]}, alone),
    }


def overflow(config: TrainConfig) -> dict[str, Any]:
    """Steps of which the second one overflows, in the part of the last replica only."""
    devices = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    replicas = make_replicas(gpus=None, cpus=devices, cluster="TF_CONFIG" in os.environ)
    good = batch_of(4, (32, 48), seed=1)
    frames = good.frame1.numpy()
    frames[-1] = 6e4  # more than half precision holds, once a convolution has summed it up
    bad = good._replace(frame1=tf.constant(frames))
    found = train(replicas, config, [good, bad, good])
    return {
        "devices": replicas.count,
        "applied": [result["applied"] for result in found["results"]],
        "scales": [result["train/loss_scale"] for result in found["results"]],
        "iterations": found["iterations"],
        "finite": all(np.isfinite(c).all() for v in found["weights"] for c in v),
        "between_replicas": spread(found, "weights"),
        "norms": [result["train/grad_norm"] for result in found["results"]],
        "sum": float(sum(np.abs(v[0]).sum() for v in found["weights"])),
    }


def main() -> None:
    match sys.argv[1]:
        case "equal":
            found = compared(configure(*NETWORK, "optimizer=adamw"), (32, 48), 3)
        case "clipped":
            found = compared(configure(*NETWORK), (32, 48), 3, clip_norm=1e-3)
        case "accumulated":
            found = compared(configure(*NETWORK), (32, 48), 3, accumulate=2)
        case "sm":
            found = compared(configure("model=sm", "data.crop=[64,64]"), (64, 64), 1)
        case "sm50":
            found = compared(configure("model=sm", "data.crop=[64,64]"), (64, 64), 50, control=True)
        case "overflow":
            found = overflow(configure(*NETWORK, "precision=fp16"))
        case unknown:
            raise SystemExit(f"unknown scenario {unknown}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
