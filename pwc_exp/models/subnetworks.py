"""The parts of PWC-Net: feature pyramid, optical-flow estimator, context network (section 3).

Letters: B batch, H height, W width, C channels.
"""

from collections.abc import Sequence
from typing import Any

import keras

from pwc_exp.models.layers import Convolution, Shape

Tensor = Any  # a tensor of the Keras backend in use
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
            for convolution in block:
                convolution.build((None, None, None, channels))
                channels = convolution.channels

    def call(self, frames: Tensor) -> Pyramid:
        """[B, H, W, 3] -> {level: [B, H/2^level, W/2^level, C]}."""
        pyramid = {}
        features = frames
        for level, block in enumerate(self.blocks, start=1):
            for convolution in block:
                features = convolution(features)
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
        self.head = _flow_head("flow", initializer="glorot_uniform")

    def build(self, input_shape: Shape) -> None:
        """Builds all layers for inputs [B, H, W, C]."""
        channels = input_shape[-1]
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = convolution.channels + (channels if self.dense else 0)
        self.head.build((None, None, None, channels))
        self.feature_channels = channels

    def call(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """[B, H, W, C] -> features, in parts [B, H, W, C part], and flow [B, H, W, 2]."""
        features = [inputs]
        for convolution in self.convolutions:
            activation = convolution(features)
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
        self.head = _flow_head(f"conv{len(channels) + 1}", initializer="he_normal")

    def build(self, input_shape: Shape) -> None:
        """Builds all layers for features [B, H, W, C]."""
        channels = input_shape[-1]
        for convolution in [*self.convolutions, self.head]:
            convolution.build((None, None, None, channels))
            channels = convolution.channels

    def call(self, features: list[Tensor]) -> Tensor:
        """Features in parts [B, H, W, C part] -> what to add to the flow, [B, H, W, 2]."""
        activation: Tensor = features
        for convolution in self.convolutions:
            activation = convolution(activation)
        return self.head(activation)


def _flow_head(name: str, *, initializer: str) -> Convolution:
    return Convolution(2, linear=True, initializer=initializer, name=name)
