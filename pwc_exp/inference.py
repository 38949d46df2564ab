"""Compiled inference, and the timing of such computations.

A compiled function is made once per network, and traced once per size of frames. Computations are
timed alternately, so that their ratios hold on a busy machine.

Letters: B batch, H height, W width.
"""

import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil
import tensorflow as tf

from pwc_exp.data.sample import Batch
from pwc_exp.flow.metrics import error_sums
from pwc_exp.flow.resize import pad, unpad
from pwc_exp.flow.tensorflow_ops import xla_pays
from pwc_exp.models.pwcnet import PWCNet

Estimate = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
EvalStep = Callable[[Batch], dict[str, tf.Tensor]]


class Levels(NamedTuple):
    """What a picture of one batch needs, all in full-resolution pixels."""

    estimate: tf.Tensor  # [B, H, W, 2]
    flows: dict[int, tf.Tensor]  # {level: [B, ≥ H/2^level, ≥ W/2^level, 2]}, of the padded frames


def make_estimate(model: PWCNet, *, xla: bool) -> Estimate:
    """`model.estimate`, compiled: frames [B, H, W, 3] -> flow [B, H, W, 2] in pixels.

    Args:
        model: the network.
        xla: let XLA compile the decoder where that pays: on processors on which oneDNN handles a
            single large image badly. It costs about 10 s per size of frames.
    """
    tf.get_logger().addFilter(_is_unexpected)
    if not (xla and xla_pays()):
        return tf.function(model.estimate)
    decode = tf.function(model.decode, jit_compile=True)
    return tf.function(lambda frame1, frame2: model.estimate(frame1, frame2, decode=decode))


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Filters TensorFlow's retracing warning: these functions trace once per size of frames."""
    message = record.getMessage()
    expected = ("PWCNet.estimate", "make_estimate", "make_eval_step", "make_levels")
    return "retracing" not in message or not any(name in message for name in expected)


def make_eval_step(estimate: Estimate) -> EvalStep:
    """batch -> the sums [B] of `error_sums`, compiled; for any estimate, of zero flow as well."""

    @tf.function
    def eval_step(batch: Batch) -> dict[str, tf.Tensor]:
        return error_sums(estimate(batch.frame1, batch.frame2), batch.flow, batch.valid)

    return eval_step


def make_levels(model: PWCNet) -> Callable[[Batch], Levels]:
    """batch -> the flow at every level and the estimate, compiled; frames of any size."""
    multiple = 2**model.levels

    @tf.function
    def levels(batch: Batch) -> Levels:
        flows = model((pad(batch.frame1, multiple), pad(batch.frame2, multiple)))
        in_pixels = {level: flow * model.units[level] for level, flow in flows.items()}
        height, width = batch.frame1.shape[1:3]
        return Levels(unpad(model.full_resolution(flows), height, width), in_pixels)

    return levels


WARM_UPS = 2  # calls that are not counted: the first compiles


class Work(NamedTuple):
    """Something that is timed."""

    call: Callable[[], object]  # returns when the result is there
    flops: float  # of one call


class Timing(NamedTuple):
    """What was measured of it."""

    seconds: float  # of one call, median
    gflops: float  # 10⁹ operations per second
    peak_megabytes: float  # of the process, up to and with its first calls


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
        name: Timing(medians[name], work.flops / medians[name] / 1e9, peaks[name])
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
