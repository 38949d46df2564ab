"""The speed of inference, exported formats, training steps and the input pipeline.

Absolute times hold for one machine only. So everything is timed in turn in one process, beside
plain matrix products, and the results are shares of their rate and ratios between rows.
"""

import collections
import dataclasses
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import skimage.data
import tensorflow as tf

from pwc_exp import machine, pretrained
from pwc_exp.build import (
    build_augment,
    build_eval_feed,
    build_loss,
    build_model,
    build_optimizer,
    build_source,
)
from pwc_exp.config.commands import BenchmarkConfig, Format
from pwc_exp.config.composition import read_model
from pwc_exp.config.data import DataConfig, Split, SyntheticConfig
from pwc_exp.config.fields import check
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.data.pipeline import train_batches
from pwc_exp.data.sample import Batch
from pwc_exp.errors import ConfigError, MissingInputError
from pwc_exp.export.formats import CARD_FILE, Shape, engines_of, frames, read_card
from pwc_exp.flow.tensorflow_ops import on_cpu
from pwc_exp.inference import Estimator, make_estimate
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.summary import total_flops
from pwc_exp.prediction.sources import open_source
from pwc_exp.training.step import make_train_step
from pwc_exp.weights import has_bfloat16, load_weights

MATRIX_SIDE = 2048
PRODUCTS = 8  # in one repeat
PASSES = 3  # a training step: forward, and about as much for each of the two gradients
PIPELINE_STEPS = 4  # batches in one repeat
WARM_UPS = 2  # calls that are not counted: the first compiles
PAIRS = 8  # of a data set, at most, on which precisions are compared
RANDOM = "the weights are random: of a trained network (run=, weights=) this says little"
DTYPES = {Precision.fp32: tf.float32, Precision.bf16: tf.bfloat16}  # of the matrix products

PRODUCT, INFERENCE, TRAINING, PIPELINE = (
    "matrix product",
    "inference",
    "training step",
    "input pipeline",
)


class Work(NamedTuple):
    """Something that is timed."""

    call: Callable[[], object]  # returns when the result is there
    flops: float  # of one call


class Timing(NamedTuple):
    """What was measured of it."""

    seconds: float  # of one call, median
    fastest: float  # s, of the fastest call
    gflops: float  # 10⁹ operations per second, at the median
    peak_megabytes: float  # of the process, up to and with its first calls


class Row(NamedTuple):
    """A line of the table."""

    kind: str  # PRODUCT, INFERENCE, TRAINING or PIPELINE
    model: str  # or the format and engine of an export; of the pipeline: the data
    precision: Precision
    size: str  # of what one call takes
    work: Work

    @property
    def name(self) -> str:
        """What no other row is called."""
        return f"{self.kind} {self.model} {self.precision}"


def benchmark(config: BenchmarkConfig) -> None:
    """Prints the times of inference, training and input pipeline, and the error of the precision.

    Raises:
        UserError: an unknown model, or weights, frames or data that cannot be read.
    """
    tf.get_logger().setLevel("ERROR")  # several networks are several traces, no reason to warn
    selection = _select(config)
    first = selection.model if selection else config.model
    chosen = [first, *map(read_model, config.models)]
    names = [model.name for model in chosen]
    check(len(set(names)) == len(names), "models", "must differ from each other and model", names)
    precisions = list(dict.fromkeys([Precision.fp32, config.precision.policy]))
    models = {
        (model.name, precision): build_model(model, PrecisionConfig(policy=precision))
        for model in chosen
        for precision in precisions
    }
    if selection is not None:
        load_weights(models[first.name, Precision.fp32], selection.path)
    for (name, _), model in models.items():
        model.set_weights(models[name, Precision.fp32].get_weights())
    errors: list[str] = []
    if len(precisions) > 1:  # before training steps change the weights
        errors.append(_error(config, [models[first.name, precision] for precision in precisions]))
        if selection is None:
            errors.append(RANDOM)
    rows = [
        *_products(),
        *(_inference(config, *key, model) for key, model in models.items()),
        *_exports(config, models[first.name, Precision.fp32]),
        *(_training(config, *key, model) for key, model in models.items()),
        *_pipelines(config),
    ]
    timings = measure({row.name: row.work for row in rows}, repeats=config.repeats)
    table = [*_table(config, rows, timings), *_bottleneck(config, rows, timings)]
    print("\n".join([*table, *errors]))


def _select(config: BenchmarkConfig) -> pretrained.Selection | None:
    """The weights that are given, with their model: the configured one if they do not say it."""
    if config.run is None and config.weights is None:
        return None
    try:
        return pretrained.select(run=config.run, weights=config.weights, model=None)
    except ConfigError:
        return pretrained.select(run=config.run, weights=config.weights, model=config.model)


def _products() -> Iterator[Row]:
    """The matrix products that this machine has the arithmetic for."""
    for precision, dtype in DTYPES.items():
        if precision == Precision.fp32 or has_bfloat16():
            size = f"{PRODUCTS} of {MATRIX_SIDE} x {MATRIX_SIDE}"
            yield Row(PRODUCT, "", precision, size, _product(dtype))


def _product(dtype: tf.DType) -> Work:
    left, right = tf.unstack(tf.cast(tf.random.normal([2, MATRIX_SIDE, MATRIX_SIDE]), dtype))
    product = tf.function(lambda: tf.matmul(left, right))

    def call() -> None:
        for _ in range(PRODUCTS):
            product().numpy()

    return Work(call, PRODUCTS * 2.0 * MATRIX_SIDE**3)


def _inference(config: BenchmarkConfig, name: str, precision: Precision, model: PWCNet) -> Row:
    height, width = config.inference_size
    pair = [tf.random.uniform([1, height, width, 3]) for _ in range(2)]
    estimate = make_estimate(model, xla=config.xla)
    work = Work(lambda: estimate(*pair).numpy(), total_flops(model, (height, width)))
    return Row(INFERENCE, name, precision, f"1 pair of {height} x {width}", work)


def _exports(config: BenchmarkConfig, model: PWCNet) -> Iterator[Row]:
    """The formats of an export that take the size; `keras` is the network itself.

    Raises:
        MissingInputError: there is none.
    """
    if config.exported is None:
        return
    shape = Shape(1, *config.inference_size)
    pair, found = frames(shape), False
    flops = total_flops(model, (shape.height, shape.width))
    for folder in sorted(path.parent for path in Path(config.exported).glob(f"*/{CARD_FILE}")):
        shapes = read_card(folder)["shapes"]
        if folder.name == Format.keras or (shapes != "any" and list(shape) not in shapes):
            continue
        found = True
        for engine, run in engines_of(folder).items():
            size = f"1 pair of {shape.height} x {shape.width}"
            work = Work(functools.partial(run, *pair), flops)
            yield Row(INFERENCE, f"{folder.name}, {engine}", Precision.fp32, size, work)
    if not found:
        raise MissingInputError(f"exported: {config.exported} has no format for frames of {shape}")


def _training(config: BenchmarkConfig, name: str, precision: Precision, model: PWCNet) -> Row:
    count, (height, width) = config.train_batch_size, config.train_size
    frame1, frame2, noise = tf.unstack(tf.random.uniform([3, count, height, width, 3]))
    everywhere, index = tf.ones([count, height, width]), tf.range(count, dtype=tf.int64)
    batch = Batch(frame1, frame2, noise[..., :2], everywhere, index)
    train_step = make_train_step(
        model,
        build_optimizer(config.optimizer, 1e-6, PrecisionConfig(policy=precision)),
        build_loss(config.loss, model),
        l2=config.optimizer.l2,
        l2_biases=config.optimizer.l2_biases,
        clip_norm=config.optimizer.clip_norm,
    )

    def call() -> None:
        train_step(batch)["train/loss"].numpy()

    work = Work(call, PASSES * count * total_flops(model, (height, width)))
    return Row(TRAINING, name, precision, f"{count} pairs of {height} x {width}", work)


def _pipelines(config: BenchmarkConfig) -> Iterator[Row]:
    """Batches as training gets them: of the configured data, and generated ones."""
    every: list[DataConfig] = [SyntheticConfig(crop=config.train_size)]
    if config.data is not None:
        configured = dataclasses.replace(config.data, crop=config.train_size)
        every = [configured] if isinstance(configured, SyntheticConfig) else [configured, *every]
    for data in every:
        batches = train_batches(
            build_source(data, Split.train),
            batch_size=config.train_batch_size,
            crop=config.train_size,
            augment=build_augment(config.augment),
            seed=0,
            start_step=0,
            steps=PIPELINE_STEPS,
            workers=data.workers or len(machine.processors()),
        )
        name = f"{data.name}, cached" if data.cache else data.name
        size = f"{PIPELINE_STEPS * config.train_batch_size} samples"
        work = Work(functools.partial(collections.deque, batches, 0), 0.0)
        yield Row(PIPELINE, name, Precision.fp32, size, work)


def _error(config: BenchmarkConfig, models: Sequence[PWCNet]) -> str:
    """How far the second model's flow is from that of the first, the same in float32."""
    estimators = [Estimator(model, xla=config.xla) for model in models]
    means, largest = [], 0.0
    what, pairs = _pairs(config)
    for frame1, frame2 in pairs:
        (exact,), (rounded,) = (estimate([frame1], [frame2]) for estimate in estimators)
        error = np.linalg.norm(rounded - exact, axis=-1)
        means.append(float(error.mean()))
        largest = max(largest, float(error.max()))
    worst = f", {max(means):.4f} px on the worst" if len(means) > 1 else ""
    return (
        f"flow in {config.precision.policy} against fp32 on {what}: differs by "
        f"{np.mean(means):.4f} px on average{worst}, by {largest:.3f} px at most"
    )


def _pairs(config: BenchmarkConfig) -> tuple[str, Iterable[tuple[np.ndarray, np.ndarray]]]:
    """What the pairs are, and their frames [H, W, 3] in [0, 1]."""
    if config.frames is not None:
        (pair,) = open_source(config.frames).pairs()
        names = " and ".join(Path(path).name for path in config.frames)
        return names, [(pair.frame1.pixels, pair.frame2.pixels)]
    if config.data is not None:
        source = build_source(config.data, Split.all)
        feed = build_eval_feed(
            config.data, source, batch_size=1, multiple=1, listed=None, limit=PAIRS
        )
        pairs = ((batch.frame1[0].numpy(), batch.frame2[0].numpy()) for batch in feed)
        return f"{len(feed.indices)} pairs of {source.name}", pairs
    left, right, _ = skimage.data.stereo_motorcycle()  # Middlebury 2014, 500 x 741
    frame1, frame2 = (frame.astype(np.float32) / 255 for frame in (left, right))
    return "the pair stereo_motorcycle of scikit-image", [(frame1, frame2)]


def _table(
    config: BenchmarkConfig, rows: Sequence[Row], timings: Mapping[str, Timing]
) -> Iterator[str]:
    yield (
        f"{platform.machine()}, {machine.model_name()}, {os.cpu_count()} processors, "
        f"{len(tf.config.list_logical_devices('GPU'))} GPUs, medians of {config.repeats} repeats"
    )
    products = {row.precision: timings[row.name].gflops for row in rows if row.kind == PRODUCT}
    shares = "".join(f"{f'of {precision}':>9}" for precision in products)
    wide = max(16, *(len(row.model) + 1 for row in rows if row.kind != PIPELINE))
    size = f"{'':<{20 + wide}}{'of (height x width)':<24}"
    fastest = f"{'fastest s':>11}{'speed':>8}"
    yield f"{size}{'s':>9}{'GFLOP/s':>10}{shares}{'speed':>8}{fastest}{'peak MB':>10}"
    first: dict[str, Timing] = {}
    for row in rows:
        if row.kind == PIPELINE:
            continue
        timing = timings[row.name]
        base = first.setdefault(row.kind, timing)
        shares = "".join(f"{timing.gflops / product:>9.1%}" for product in products.values())
        label = f"{row.kind:<15}{row.model:<{wide}}{row.precision:<5}"
        yield (
            f"{label}{row.size:<24}{timing.seconds:>9.3f}{timing.gflops:>10.1f}{shares}"
            f"{base.seconds / timing.seconds:>8.2f}{timing.fastest:>11.3f}"
            f"{base.fastest / timing.fastest:>8.2f}{timing.peak_megabytes:>10,.0f}"
        )
    yield "of fp32, bf16: share of that matrix product's rate. speed: relative to the first row of"
    yield "the kind, at the median and at the fastest repeat, which other users of a shared machine"
    yield "disturb least. peak MB: of the whole process so far"
    if Precision.bf16 not in products:
        yield (
            "bf16 matrix product: not timed, as this processor has no bfloat16 arithmetic (AMX or "
            "AVX512-BF16); precision=bf16 is no faster here"
        )


def _bottleneck(
    config: BenchmarkConfig, rows: Sequence[Row], timings: Mapping[str, Timing]
) -> Iterator[str]:
    """Samples per second of the input pipeline beside those of the training step."""
    policy = config.precision.policy
    step = next(row for row in rows if row.kind == TRAINING and row.precision == policy)
    rate = config.train_batch_size / timings[step.name].seconds
    yield f"training step, {step.model} {policy}: {rate:.2f} samples/s"
    for row in [row for row in rows if row.kind == PIPELINE]:
        own = PIPELINE_STEPS * config.train_batch_size / timings[row.name].seconds
        slower = "input pipeline" if own < rate else "training step"
        line = (
            f"input pipeline, {row.model}: {own:.2f} samples/s, {own / rate:.1f} times as many: "
            f"the {slower} is the bottleneck"
        )
        if on_cpu():  # the processors do both
            line += (
                f"; taking turns on the same processors, {own * rate / (own + rate):.2f} samples/s "
                f"together, {rate / (own + rate):.0%} of the time for examples"
            )
        yield line


def measure(works: Mapping[str, Work], *, repeats: int) -> dict[str, Timing]:
    """Times all `works` in turn, `repeats` times: a machine that slows down slows them all.

    The peak memory of each is that of the process up to its first calls, in the given order.
    """
    peaks = {}
    for name, work in works.items():
        for _ in range(WARM_UPS):
            work.call()
        peaks[name] = _peak_megabytes()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work.call()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: Timing(
            medians[name], min(seconds[name]), work.flops / medians[name] / 1e9, peaks[name]
        )
        for name, work in works.items()
    }


def _peak_megabytes() -> float:
    """The most memory that this process has had so far."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset / 2**20
    kilobytes = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / kilobytes
