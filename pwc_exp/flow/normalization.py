"""Normalization of features before frames are compared (UFlow, https://arxiv.org/abs/2006.04902).

Letters: B batch, H height, W width, C channels.
"""

from typing import Any

from keras import ops

from pwc_exp.flow.portability import uses_tensorflow

Tensor = Any  # a tensor of the Keras backend in use

VARIANCE_FLOOR = 1e-6  # of a channel that does not vary


def normalize(features: Tensor) -> Tensor:
    """Gives each channel of `features` [B, H, W, C] mean 0 and variance 1 over H and W.

    Computed in float32; the result has the dtype of `features`.
    """
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # its own gradient: one operation

        return tensorflow_ops.normalize(features)
    return portable_normalize(features)


def portable_normalize(features: Tensor) -> Tensor:
    """`normalize` in operations of any Keras backend, with the backend's own gradient."""
    values = ops.cast(features, "float32")
    mean, variance = ops.moments(values, axes=(1, 2), keepdims=True)
    return ops.cast((values - mean) * ops.rsqrt(variance + VARIANCE_FLOOR), features.dtype)
