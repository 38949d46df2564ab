"""Input pipeline throughput: decoding, generating, the cache, cropping and augmentation.

Rates are per core: examples by processor time of all threads. So they hold beside other load, and
tell the most that a machine with so many cores can do.
"""

import functools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import PIL.Image
import tensorflow as tf

from pwc_exp.build import build_augment, build_source
from pwc_exp.config.commands import PipelineConfig
from pwc_exp.config.data import Split, SyntheticConfig
from pwc_exp.config.schema import VARIANTS
from pwc_exp.data.augmentation import Augment, basic
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.pipeline import train_feed
from pwc_exp.data.sample import Example, Sample, Source
from pwc_exp.data.source import FileSource

CORES = 16  # of the machine that the rates are extrapolated to
FAR_STEP = 1_000_000  # a run that begins here must not take longer to begin than at step 0
ROUNDS = 3  # of all works in turn, so that a machine that slows down slows them all
MADE_FILES = 8  # of each kind
CACHED = 32  # scenes in the cache: more than a processor's own caches hold
WARM_UP = 8  # examples that are not counted: the first traces

Work = Callable[[tf.Tensor], tf.Tensor | Example]  # of the number of an example


def run(config: PipelineConfig) -> None:
    """Prints the rates of each stage, and how long the first batch of a late step takes."""
    with tempfile.TemporaryDirectory() as folder:
        sources = _sources(config, Path(folder))
        works: dict[str, Work] = {}
        for name, source in sources.items():
            works |= _stages(name, source, config)
        print(_table(config, measure(works, seconds=config.seconds)))
        for name, source in sources.items():
            first, far = (_start_time(source, config, step) for step in (0, FAR_STEP))
            print(f"first batch of {name}: {first:.2f} s at step 0, {far:.2f} s at {FAR_STEP:,}")


def measure(works: Mapping[str, Work], *, seconds: float) -> dict[str, float]:
    """Examples per second of processor time of each work: the median of the rounds."""
    batches = {}
    for name, work in works.items():
        numbers = tf.data.Dataset.range(2**62)
        batches[name] = iter(numbers.map(work, num_parallel_calls=os.cpu_count()))
        for _ in range(WARM_UP):
            next(batches[name])
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, iterator in batches.items():
            count, started, used = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - started < seconds / ROUNDS:
                next(iterator)
                count += 1
            rates[name].append(count / (time.process_time() - used))
    return {name: statistics.median(values) for name, values in rates.items()}


def _sources(config: PipelineConfig, folder: Path) -> dict[str, Source]:
    """Files, generated scenes, and the same scenes from a cache."""
    scenes = SyntheticConfig(crop=config.crop)
    sources: dict[str, Source] = {}
    match config.data:
        case SyntheticConfig():
            scenes = config.data
        case None:
            sources["flyingchairs"] = _make_files(folder / "chairs", (384, 512), ".ppm")
            sources["sintel"] = _make_files(folder / "sintel", (436, 1024), ".png")
        case data:
            source = build_source(data, Split.all)
            sources[source.name] = source
    cached = replace(scenes, cache=str(folder / "cache"), train_size=CACHED)
    sources["generated"] = build_source(replace(scenes, cache=None), Split.train)
    sources["cached"] = build_source(cached, Split.train)
    for _ in tf.data.Dataset.range(CACHED).map(sources["cached"].example, tf.data.AUTOTUNE):
        pass
    return sources


def _make_files(folder: Path, size: tuple[int, int], suffix: str) -> FileSource:
    """Generated scenes of the given (height, width), in files like those of a data set."""
    scenes = build_source(SyntheticConfig(crop=list(size), train_size=MADE_FILES), Split.train)
    folder.mkdir()
    samples = []
    for number, name in enumerate(scenes.ids):
        example = scenes.example(tf.constant(number, tf.int64))
        paths = [folder / f"{name}_{part}" for part in (f"1{suffix}", f"2{suffix}", "flow.flo")]
        for path, frame in zip(paths[:2], example[:2], strict=True):
            pixels = tf.cast(tf.round(frame * 255), tf.uint8).numpy()
            PIL.Image.fromarray(pixels).save(path)
        write_flo(paths[2], example.flow.numpy())
        samples.append(Sample(name, name, paths[0], paths[1], paths[2]))
    return FileSource(folder.name, samples)


def _stages(name: str, source: Source, config: PipelineConfig) -> dict[str, Work]:
    """The stages of an example of `source`, each including those before it."""
    chosen = next(n for n, kind in VARIANTS["augment"].items() if type(config.augment) is kind)
    crop_only = functools.partial(basic, flip_left_right=0.0, flip_up_down=0.0)
    augments = {"none": crop_only, chosen: build_augment(config.augment)}

    def example(number: tf.Tensor) -> Example:
        return source.example(number % source.size)

    def augmented(augment: Augment, number: tf.Tensor) -> Example:
        seed = tf.stack([tf.constant(0, tf.int64), number])
        return augment(example(number), crop=config.crop, seed=seed)

    works: dict[str, Work] = {}
    if isinstance(source, FileSource):

        def read(number: tf.Tensor) -> tf.Tensor:
            paths = source.files(number % source.size)
            return tf.stack([tf.io.read_file(paths[role]) for role in ("frame1", "frame2", "flow")])

        works[f"{name}: bytes of the files"] = read
    works[f"{name}: example"] = example
    for kind, augment in augments.items():
        works[f"{name}: augment={kind}"] = functools.partial(augmented, augment)
    return works


def _start_time(source: Source, config: PipelineConfig, step: int) -> float:
    """Seconds to the first batch of a run that begins at `step`."""
    augment = build_augment(config.augment)
    feed = functools.partial(train_feed, batch_size=1, crop=config.crop, augment=augment, seed=0)
    started = time.perf_counter()
    next(feed(source, start_step=step, steps=step + 1))
    return time.perf_counter() - started


def _table(config: PipelineConfig, rates: Mapping[str, float]) -> str:
    crop = " x ".join(map(str, config.crop))
    lines = [
        f"crops of {crop} (height x width), {platform.machine()}, {os.cpu_count()} processors",
        f"{'':<34}{'ms of a core':>14}{'samples/s':>12}{f'on {CORES} cores':>14}",
    ]
    for name, rate in rates.items():
        lines.append(f"{name:<34}{1000 / rate:>14.1f}{rate:>12.1f}{CORES * rate:>14.0f}")
    lines.append("ms of a core: of all threads together. samples/s: of one core")
    return "\n".join(lines)
