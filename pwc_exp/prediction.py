"""The flow between consecutive frames, as .flo files and pictures."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from tqdm import tqdm

from pwc_exp import durable
from pwc_exp.commands.prediction import PredictConfig
from pwc_exp.data.datasets import unlabelled
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.networks import load_network
from pwc_exp.steps import Estimate, make_estimate


class Job(NamedTuple):
    """One pair, and where its flow goes."""

    frame1: Path
    frame2: Path
    flow: Path
    picture: Path


def predict(config: PredictConfig) -> None:
    """Writes, for each frame but the last, its flow to the next: <name>.flo and <name>_flow.png."""
    jobs = plan(_frames(config), Path(config.out))
    network = load_network(
        run=config.run, weights=config.weights, model=config.model, precision=config.precision
    )
    durable.make_folder(Path(config.out))
    estimate = make_estimate(network.model, xla=config.xla)
    for job in tqdm(jobs, desc="predict", leave=False, disable=None):
        _write_flow(job, estimate)
        print(f"{job.frame1} -> {job.frame2}: {job.flow}, {job.picture}")


def plan(frames: list[Path], out: Path) -> list[Job]:
    """Names the results of consecutive `frames`.

    Raises:
        ConfigError: two frames would have one result, or a result would replace a frame.
    """
    jobs = [
        Job(frame1, frame2, out / f"{frame1.stem}.flo", out / f"{frame1.stem}_flow.png")
        for frame1, frame2 in pairwise(frames)
    ]
    inputs = {frame.resolve() for frame in frames}
    results: set[Path] = set()
    for job in jobs:
        if job.flow in results:
            raise ConfigError(f"frames: names must differ. Received: {job.frame1.stem} twice")
        for result in (job.flow, job.picture):
            if result.resolve() in inputs:
                raise ConfigError(f"out: {result} is one of the frames; choose another folder")
        results.add(job.flow)
    return jobs


def _frames(config: PredictConfig) -> list[Path]:
    """The frames in their order; of a folder, its images by the numbers in their names."""
    if len(config.frames) > 1:
        return [Path(frame) for frame in config.frames]
    pairs = unlabelled(Path(config.frames[0]))
    return [*(pair.frame1 for pair in pairs), pairs[-1].frame2]


def _write_flow(job: Job, estimate: Estimate) -> None:
    frame1, frame2 = read_frame(job.frame1), read_frame(job.frame2)
    if frame1.shape != frame2.shape:
        raise DataError(
            f"Frames of one pair must be of one size (height x width): {job.frame1} is "
            f"{frame1.shape[0]} x {frame1.shape[1]}, {job.frame2} is "
            f"{frame2.shape[0]} x {frame2.shape[1]}"
        )
    flow = estimate(tf.constant(frame1[None]), tf.constant(frame2[None]))[0].numpy()
    write_flo(job.flow, flow)
    write_image(job.picture, flow_to_colour(flow))
