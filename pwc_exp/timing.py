"""How fast a network runs, beside what this machine can do at all.

Absolute times hold for one machine only. So each repeat also times a plain matrix product, between
the calls of the network, and the result is the share of that rate that the network reaches.
"""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.build import build_loss, build_model, build_optimizer
from pwc_exp.commands.measurement import BenchmarkConfig
from pwc_exp.data.sample import Batch
from pwc_exp.groups.training import Precision, PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.summary import total_flops
from pwc_exp.steps import make_estimate, make_train_step

MATRIX_SIDE = 2048
PRODUCTS = 8  # in one repeat
PASSES = 3  # a training step: forward, and about as much for each of the two gradients
WARM_UPS = 2  # calls that are not counted: the first compiles
KILOBYTES = 1024 if sys.platform != "darwin" else 2**20  # in a megabyte of ru_maxrss


class Work(NamedTuple):
    """Something that is timed."""

    call: Callable[[], None]  # returns when the result is there
    flops: float  # of one call


class Timing(NamedTuple):
    """What was measured of it."""

    seconds: float  # of one call, median
    gflops: float  # 10⁹ operations per second
    peak_megabytes: float  # of the process, up to and with its first calls


def benchmark(config: BenchmarkConfig) -> None:
    """Prints the times of inference and training beside that of a matrix product."""
    model = build_model(config.model, PrecisionConfig(policy=Precision.fp32))
    works = {
        "matrix product": _matrix_product(),
        "inference": _inference(config, model),
        "training step": _training(config, model),
    }
    print(_table(config, measure(works, repeats=config.repeats)))


def measure(works: Mapping[str, Work], *, repeats: int) -> dict[str, Timing]:
    """Times all `works` in turn, `repeats` times: a machine that slows down slows them all.

    The peak memory of each is that of the process up to its first calls, in the given order.
    """
    peaks = {}
    for name, work in works.items():
        for _ in range(WARM_UPS):
            work.call()
        peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTES
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work.call()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: Timing(medians[name], work.flops / medians[name] / 1e9, peaks[name])
        for name, work in works.items()
    }


def _matrix_product() -> Work:
    left, right = (tf.random.normal([MATRIX_SIDE, MATRIX_SIDE]) for _ in range(2))
    product = tf.function(lambda: tf.matmul(left, right))

    def call() -> None:
        for _ in range(PRODUCTS):
            product().numpy()

    return Work(call, PRODUCTS * 2.0 * MATRIX_SIDE**3)


def _inference(config: BenchmarkConfig, model: PWCNet) -> Work:
    height, width = config.inference_size
    frame1, frame2 = (tf.random.uniform([1, height, width, 3]) for _ in range(2))
    estimate = make_estimate(model, xla=config.xla)
    flops = total_flops(model, (height, width))

    def call() -> None:
        estimate(frame1, frame2).numpy()

    return Work(call, flops)


def _training(config: BenchmarkConfig, model: PWCNet) -> Work:
    height, width = config.train_size
    count = config.train_batch_size
    batch = Batch(
        frame1=tf.random.uniform([count, height, width, 3]),
        frame2=tf.random.uniform([count, height, width, 3]),
        flow=tf.random.normal([count, height, width, 2]),
        valid=tf.ones([count, height, width]),
        index=tf.range(count, dtype=tf.int64),
    )
    train_step = make_train_step(
        model,
        build_optimizer(config.optimizer, 1e-6, PrecisionConfig(policy=Precision.fp32)),
        build_loss(config.loss, model),
        l2=config.optimizer.l2,
        l2_biases=config.optimizer.l2_biases,
        clip_norm=config.optimizer.clip_norm,
    )
    flops = PASSES * count * total_flops(model, (height, width))

    def call() -> None:
        train_step(batch)["train/loss"].numpy()

    return Work(call, flops)


def _table(config: BenchmarkConfig, timings: Mapping[str, Timing]) -> str:
    whole = timings["matrix product"].gflops
    sizes = {
        "matrix product": f"{PRODUCTS} of {MATRIX_SIDE} x {MATRIX_SIDE}",
        "inference": "1 pair of {} x {}".format(*config.inference_size),
        "training step": "{} pairs of {} x {}".format(config.train_batch_size, *config.train_size),
    }
    lines = [
        f"{config.model.name}, float32, {platform.machine()}, {os.cpu_count()} processors, "
        f"{len(tf.config.list_logical_devices('GPU'))} GPUs, medians of {config.repeats} repeats",
        f"{'':<16}{'of (height x width)':<24}{'s':>9}{'GFLOP/s':>10}{'share':>8}{'peak MB':>10}",
    ]
    for name, timing in timings.items():
        lines.append(
            f"{name:<16}{sizes[name]:<24}{timing.seconds:>9.3f}{timing.gflops:>10.1f}"
            f"{timing.gflops / whole:>8.1%}{timing.peak_megabytes:>10,.0f}"
        )
    lines.append("share: of the matrix product's rate. peak MB: of the whole process")
    return "\n".join(lines)
