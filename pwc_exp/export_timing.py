"""How fast the formats of an export are beside the network itself, in one run.

Each repeat takes all of them in turn, so that a machine that slows down slows them all: the ratios
mean something, the seconds only on this machine.
"""

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.config.commands import ExportTimingConfig, Format
from pwc_exp.config.training import InferencePrecision
from pwc_exp.errors import MissingInputError
from pwc_exp.exporting import card
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.formats import engines_of
from pwc_exp.exporting.parity import frames
from pwc_exp.inference import make_estimate
from pwc_exp.models.summary import total_flops
from pwc_exp.timing import Timing, Work, measure
from pwc_exp.weights import load_network

NETWORK = "network"


def benchmark(config: ExportTimingConfig) -> None:
    """Prints the time of a pair in every format in `exported` that takes its size."""
    network = load_network(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=InferencePrecision.fp32,
    )
    shape = Shape(1, *config.size)
    runners = {NETWORK: _compiled(make_estimate(network.model, xla=config.xla))}
    for folder in sorted(path.parent for path in Path(config.exported).glob(f"*/{card.FILE}")):
        shapes = card.read(folder)["shapes"]
        takes_it = shapes == "any" or list(shape) in shapes
        if takes_it and folder.name != Format.keras:  # which is the network itself
            for engine, run in engines_of(folder).items():
                runners[f"{folder.name}, {engine}"] = run
    if len(runners) == 1:
        raise MissingInputError(f"exported: {config.exported} has no format for frames of {shape}")
    flops = total_flops(network.model, (shape.height, shape.width))
    pair = frames(shape)
    works = {name: Work(_call(run, *pair), flops) for name, run in runners.items()}
    print(table(config, measure(works, repeats=config.repeats)))


def table(config: ExportTimingConfig, timings: Mapping[str, Timing]) -> str:
    """The medians, and their ratios to that of the network."""
    lines = [
        f"one pair of {config.size[0]} x {config.size[1]}, {platform.machine()}, "
        f"{os.cpu_count()} processors, medians of {config.repeats} repeats",
        f"{'':<28}{'s':>9}{'of the network':>17}",
    ]
    whole = timings[NETWORK].seconds
    for name, timing in timings.items():
        lines.append(f"{name:<28}{timing.seconds:>9.3f}{timing.seconds / whole:>17.2f}")
    return "\n".join(lines)


def _compiled(estimate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Runner:
    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return estimate(
            *(tf.constant(frame, tf.float32) / 255.0 for frame in (frame1, frame2))
        ).numpy()

    return run


def _call(run: Runner, frame1: np.ndarray, frame2: np.ndarray) -> Callable[[], None]:
    def call() -> None:
        run(frame1, frame2)

    return call
