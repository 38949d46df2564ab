"""Convolution with bias and LeakyReLU, and the choice between portable and TensorFlow operations.

Letters: B batch, H height, W width, C channels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
from keras import ops

Tensor = Any  # a tensor of the Keras backend in use


class Geometry(NamedTuple):
    """Which pixels a 3 × 3 convolution reads; stride or dilation is 1."""

    stride: int
    dilation: int
    padding: str  # "same" or "valid"


def convolution(
    parts: Sequence[Tensor],
    kernel: Tensor,
    bias: Tensor,
    geometry: Geometry,
    *,
    leakiness: float | None,
) -> Tensor:
    """A convolution, its bias and a LeakyReLU.

    Args:
        parts: what is convolved, in parts [B, H, W, C part] whose channels follow each other. Of
            many channels, several convolutions of few are faster than one, and no copy is made.
        kernel: [3, 3, sum of C part, C out].
        bias: [C out].
        geometry: stride, dilation and padding.
        leakiness: slope of the LeakyReLU below zero; None leaves it out.

    Returns:
        [B, H', W', C out].
    """
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # on a CPU with gradients of its own

        if tensorflow_ops.on_cpu():
            return tensorflow_ops.convolution(parts, kernel, bias, geometry, leakiness=leakiness)
    return portable_convolution(parts, kernel, bias, geometry, leakiness=leakiness)


def portable_convolution(
    parts: Sequence[Tensor],
    kernel: Tensor,
    bias: Tensor,
    geometry: Geometry,
    *,
    leakiness: float | None,
) -> Tensor:
    """`convolution` in operations of any Keras backend, with the backend's own gradient."""
    features = ops.concatenate(parts, axis=-1)
    stride, dilation, padding = geometry
    result = ops.conv(features, kernel, strides=stride, padding=padding, dilation_rate=dilation)
    result = result + bias
    return result if leakiness is None else ops.leaky_relu(result, leakiness)


_portable_only = ContextVar("portable_only", default=False)


@contextmanager
def portable_only() -> Iterator[None]:
    """Within, networks are traced as plain operations, for sizes that need not be known.

    For graphs that leave this program: what they are converted to knows neither XLA nor gradients
    written in Python.
    """
    token = _portable_only.set(True)
    try:
        yield
    finally:
        _portable_only.reset(token)


def uses_tensorflow() -> bool:
    """Whether the operations of `tensorflow_ops` are to be used."""
    return keras.backend.backend() == "tensorflow" and not _portable_only.get()
