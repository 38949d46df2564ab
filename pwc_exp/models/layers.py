"""The parts of PWC-Net (section 3): feature pyramid, optical-flow estimator, context network.

Letters: B batch, H height, W width, C channels.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pwc_exp.flow.convolution import Geometry, convolution

Tensor = Any  # a tensor of the Keras backend in use
Shape = Sequence[Any]  # a size for each dimension, None where any will do

LEAKINESS = 0.1  # slope of LeakyReLU below zero, everywhere in the network


class Convolution(keras.layers.Layer):
    """3 × 3 convolution with bias, followed by LeakyReLU unless `linear`.

    Args:
        channels: of the result.
        stride: 1 or 2. At stride 2 the padding decides which pixels are read: "same" pads below and
            right as TensorFlow does, "symmetric" on all sides as PyTorch and Caffe do.
        dilation: distance of the pixels that the kernel reads.
        linear: leave out the LeakyReLU.
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
        shape = (3, 3, input_shape[-1], self.channels)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.initializer)
        self.bias = self.add_weight(name="bias", shape=(self.channels,), initializer="zeros")

    def call(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """[B, H, W, C in], or parts whose channels follow each other -> [B, H', W', C out]."""
        parts = list(features) if isinstance(features, Sequence) else [features]
        padding = "same"
        if self.stride > 1 and self.padding == "symmetric":
            parts = [ops.pad(part, ((0, 0), (1, 1), (1, 1), (0, 0))) for part in parts]
            padding = "valid"
        geometry = Geometry(self.stride, self.dilation, padding)
        leakiness = None if self.linear else LEAKINESS
        return convolution(parts, self.kernel, self.bias, geometry, leakiness=leakiness)


def upsampling(channels: int, *, name: str, dtype: str | None = None) -> keras.layers.Layer:
    """A learned doubling of the resolution: 4 × 4 transposed convolution, stride 2, with bias."""
    return keras.layers.Conv2DTranspose(
        channels, 4, strides=2, padding="same", name=name, dtype=dtype
    )


Pyramid = dict[int, Tensor]


class FeaturePyramid(keras.layers.Layer):
    """Features of one frame at every level: some convolutions each, the first halving the size."""

    def __init__(
        self, channels: Sequence[int], *, convolutions: int, stride_padding: str, name: str
    ) -> None:
        super().__init__(name=name)
        further = ("aa", "b")[1 - convolutions :]
        self.blocks = [
            [
                Convolution(count, stride=2, padding=stride_padding, name=f"conv{level}a"),
                *(Convolution(count, name=f"conv{level}{letters}") for letters in further),
            ]
            for level, count in enumerate(channels, start=1)
        ]

    def build(self, input_shape: Shape) -> None:
        """Builds all levels for frames [B, H, W, C]."""
        channels = input_shape[-1]
        for block in self.blocks:
            for layer in block:
                layer.build((None, None, None, channels))
                channels = layer.channels

    def call(self, frames: Tensor) -> Pyramid:
        """[B, H, W, 3] -> {level: [B, H/2^level, W/2^level, C]}."""
        pyramid = {}
        features = frames
        for level, block in enumerate(self.blocks, start=1):
            for layer in block:
                features = layer(features)
            pyramid[level] = features
        return pyramid


class FlowEstimator(keras.layers.Layer):
    """Cost volume and features -> flow. `dense` lets each layer read all before it (DenseNet)."""

    def __init__(self, channels: Sequence[int], *, dense: bool, name: str) -> None:
        super().__init__(name=name)
        self.dense = dense
        self.convolutions = [
            Convolution(count, name=f"conv{i}") for i, count in enumerate(channels)
        ]
        self.head = Convolution(2, linear=True, initializer="glorot_uniform", name="flow")

    def build(self, input_shape: Shape) -> None:
        """Builds all layers for inputs [B, H, W, C]."""
        channels = input_shape[-1]
        for layer in self.convolutions:
            layer.build((None, None, None, channels))
            channels = layer.channels + (channels if self.dense else 0)
        self.head.build((None, None, None, channels))
        self.feature_channels = channels

    def call(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """[B, H, W, C] -> features, in parts [B, H, W, C part], and flow [B, H, W, 2]."""
        features = [inputs]
        for layer in self.convolutions:
            activation = layer(features)
            features = [activation, *features] if self.dense else [activation]
        return features, self.head(features)


class ContextNetwork(keras.layers.Layer):
    """Refines a flow from its features, with dilated convolutions that see far."""

    def __init__(self, channels: Sequence[int], dilations: Sequence[int], *, name: str) -> None:
        super().__init__(name=name)
        self.convolutions = [
            Convolution(count, dilation=dilation, name=f"conv{i}")
            for i, (count, dilation) in enumerate(zip(channels, dilations, strict=True), start=1)
        ]
        self.head = Convolution(2, linear=True, name=f"conv{len(channels) + 1}")

    def build(self, input_shape: Shape) -> None:
        """Builds all layers for features [B, H, W, C]."""
        channels = input_shape[-1]
        for layer in [*self.convolutions, self.head]:
            layer.build((None, None, None, channels))
            channels = layer.channels

    def call(self, features: list[Tensor]) -> Tensor:
        """Features in parts [B, H, W, C part] -> what to add to the flow, [B, H, W, 2]."""
        activation: Tensor = features
        for layer in self.convolutions:
            activation = layer(activation)
        return self.head(activation)
