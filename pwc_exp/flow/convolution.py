"""A convolution with what follows it: bias and LeakyReLU.

Letters: B batch, H height, W width, C channels.
"""

from typing import Any

import keras
from keras import ops

Tensor = Any  # a tensor of the Keras backend in use


def convolution(
    features: Tensor,
    kernel: Tensor,
    bias: Tensor,
    *,
    stride: int,
    dilation: int,
    padding: str,
    leakiness: float | None,
) -> Tensor:
    """A convolution, its bias and a LeakyReLU.

    Args:
        features: [B, H, W, C in].
        kernel: [3, 3, C in, C out].
        bias: [C out].
        stride, dilation: at least one of them is 1.
        padding: "same" or "valid".
        leakiness: slope of the LeakyReLU below zero; None leaves it out.

    Returns:
        [B, H', W', C out].
    """
    geometry: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding}
    if keras.backend.backend() == "tensorflow":
        from pwc_exp.flow import tensorflow_ops  # on a CPU with gradients of its own

        if tensorflow_ops.on_cpu():
            return tensorflow_ops.convolution(
                features, kernel, bias, leakiness=leakiness, **geometry
            )
    return portable_convolution(features, kernel, bias, leakiness=leakiness, **geometry)


def portable_convolution(
    features: Tensor,
    kernel: Tensor,
    bias: Tensor,
    *,
    stride: int,
    dilation: int,
    padding: str,
    leakiness: float | None,
) -> Tensor:
    """`convolution` in operations of any Keras backend, with the backend's own gradient."""
    result = ops.conv(features, kernel, strides=stride, padding=padding, dilation_rate=dilation)
    result = result + bias
    return result if leakiness is None else ops.leaky_relu(result, leakiness)
