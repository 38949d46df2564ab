"""What PWC-Net is made of: two kinds of layers.

Letters: B batch, H height, W width, C channels.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pwc_exp.flow.convolution import convolution

Tensor = Any  # a tensor of the Keras backend in use
Shape = Sequence[Any]  # a size for each dimension, None where any will do

LEAKINESS = 0.1  # slope of LeakyReLU below zero, everywhere in the network
KERNEL = 3


class Convolution(keras.layers.Layer):
    """3 × 3 convolution with bias, followed by LeakyReLU unless `linear`.

    Args:
        channels: of the result.
        stride: 1 or 2. At stride 2 the padding decides which pixels are read: "same" pads below and
            right as TensorFlow does, "symmetric" on all sides as PyTorch and Caffe do.
        dilation: distance of the pixels that the kernel reads.
        linear: leave out the LeakyReLU, and draw the kernel as tfoptflow's flow heads do.
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "same",
        linear: bool = False,
        initializer: str = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.channels = channels
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.linear = linear
        self.initializer = initializer

    def build(self, input_shape: Shape) -> None:
        """Makes the kernel [3, 3, C in, C out] and the bias [C out]."""
        shape = (KERNEL, KERNEL, input_shape[-1], self.channels)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.initializer)
        self.bias = self.add_weight(name="bias", shape=(self.channels,), initializer="zeros")

    def call(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """[B, H, W, C in], or parts whose channels follow each other -> [B, H', W', C out]."""
        parts = list(features) if isinstance(features, Sequence) else [features]
        padding = "same"
        if self.stride > 1 and self.padding == "symmetric":
            parts = [ops.pad(part, ((0, 0), (1, 1), (1, 1), (0, 0))) for part in parts]
            padding = "valid"
        return convolution(
            parts,
            self.kernel,
            self.bias,
            stride=self.stride,
            dilation=self.dilation,
            padding=padding,
            leakiness=None if self.linear else LEAKINESS,
        )


def upsampling(channels: int, *, name: str, dtype: str | None = None) -> keras.layers.Layer:
    """A learned doubling of the resolution: 4 × 4 transposed convolution, stride 2, with bias."""
    return keras.layers.Conv2DTranspose(
        channels, 4, strides=2, padding="same", name=name, dtype=dtype
    )
