"""The flows of a submission: a network's, or those in files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.config.commands import SubmitConfig
from pwc_exp.data.formats.images import read_frame
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.inference import make_estimate
from pwc_exp.submission.benchmarks import Benchmark
from pwc_exp.weights import WeightsInfo, load_network

SUFFIXES = (".flo", ".png", ".flo5", ".pfm", ".npy")


class Estimates(NamedTuple):
    """Flows by (name in the bundle, sample), [H, W, 2] in pixels, and where they are from."""

    of: Callable[[str, Sample], np.ndarray]
    source: str
    origin: WeightsInfo | None


def make_estimates(config: SubmitConfig, benchmark: Benchmark) -> Estimates:
    """The flows of the configured run, weights or files."""
    if config.predictions:
        folder = Path(config.predictions)
        return Estimates(lambda name, sample: _read(folder, name, sample), str(folder), None)
    network = load_network(
        run=config.run, weights=config.weights, model=config.model, precision=config.precision
    )
    estimate = make_estimate(network.model, xla=config.xla)

    def of_network(name: str, sample: Sample) -> np.ndarray:
        frames = [read_frame(path) for path in (sample.frame1, sample.frame2)]
        if frames[0].shape != frames[1].shape:
            raise DataError(f"Frames of one pair must be of one size: {sample.frame1}")
        return estimate(*(tf.constant(frame[None]) for frame in frames))[0].numpy()

    return Estimates(of_network, str(network.source), network.info)


def _read(folder: Path, name: str, sample: Sample) -> np.ndarray:
    """The flow in the file of a sample: by its name in the bundle, or its id and any suffix."""
    places = [folder / name, *(folder / f"{sample.id}{suffix}" for suffix in SUFFIXES)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MissingInputError(f"predictions: {folder} must hold {name}, or {sample.id}.flo")
    flow, known = read_flow(path)
    if gaps := int((known == 0).sum()):
        raise DataError(f"{path} must have a flow at every pixel. Received: none at {gaps}")
    return flow
