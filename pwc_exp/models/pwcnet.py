"""PWC-Net (Sun et al., CVPR 2018, https://arxiv.org/abs/1709.02371), and the parts it is made of.

Letters: B batch, H height, W width, C channels.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from pwc_exp.flow.convolution import Geometry, convolution
from pwc_exp.flow.cost_volume import cost_volume, normalize
from pwc_exp.flow.resize import pad, unpad, upsample
from pwc_exp.flow.warp import backward_warp

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


FLOW_SCALE = 20.0  # the paper's unit of flow inside the network, in full-resolution pixels
CONVENTIONS = (  # arguments that weights must agree on beside their shapes
    "warp_border",
    "stride_padding",
    "upsample_alignment",
    "level_units",
    "center_frames",
    "normalize_features",
)


@keras.saving.register_keras_serializable(package="pwc_exp")
class PWCNet(keras.Model):
    """PWC-Net in all its variants, in standard conventions (flow (x, y), warp at `x + flow(x)`).

    Args:
        levels: depth of the pyramid; frames must be multiples of 2^levels.
        output_level: finest level that estimates a flow.
        search_range: radius of the cost volume, in pixels of its level.
        feature_channels: of the pyramid, from level 1 to `levels`.
        pyramid_convolutions: at each of these levels, 3 or 2.
        estimator_channels: of a flow estimator's layers before its head.
        context_channels, context_dilations: of the context network's layers before its head.
        dense: whether estimators are densely connected.
        context: "output" (context network at the output level), "all" (at every level) or "none".
        warp_border: see `backward_warp`.
        stride_padding: see `Convolution`.
        upsample_alignment: see `pwc_exp.flow.resize`.
        level_units: "grid" (a level's flow is in pixels of its own grid, as in tfoptflow) or
            "scaled" (in full-resolution pixels / 20, as in the paper).
        center_frames: whether frames are brought from [0, 1] to [-1, 1] first (as in RAFT,
            https://arxiv.org/abs/2003.12039). With fresh weights the features of coarse levels are
            otherwise little but what bright frames leave at the zeros around them.
        normalize_features: whether each channel gets mean 0 and variance 1 over its frame before
            frames are compared (as in UFlow, https://arxiv.org/abs/2006.04902). With fresh weights
            the channels' means otherwise outweigh what differs, and learning starts late.
    """

    def __init__(
        self,
        *,
        levels: int,
        output_level: int,
        search_range: int,
        feature_channels: Sequence[int],
        pyramid_convolutions: int,
        estimator_channels: Sequence[int],
        context_channels: Sequence[int],
        context_dilations: Sequence[int],
        dense: bool,
        context: str,
        warp_border: str,
        stride_padding: str,
        upsample_alignment: str,
        level_units: str,
        center_frames: bool,
        normalize_features: bool,
    ) -> None:
        arguments = dict(locals())
        del arguments["self"], arguments["__class__"]
        super().__init__(name="pwcnet")
        self._arguments = json.dumps(arguments)  # Keras would watch the lists in a dictionary
        self.conventions = {name: arguments[name] for name in CONVENTIONS}
        self.levels = levels
        self.output_level = output_level
        self.search_range = search_range
        self.warp_border = warp_border
        self.upsample_alignment = upsample_alignment
        self.center_frames = center_frames
        self.normalize_features = normalize_features
        estimating = range(levels, output_level - 1, -1)  # coarse to fine
        scaled = level_units == "scaled"
        # Full-resolution pixels per unit of a level's flow, and the ratio to the next finer level.
        self.units = {level: FLOW_SCALE if scaled else 2.0**level for level in estimating}
        self.unit_ratio = 1.0 if scaled else 2.0
        self.pyramid = FeaturePyramid(
            feature_channels,
            convolutions=pyramid_convolutions,
            stride_padding=stride_padding,
            name="pyramid",
        )
        refined = {"all": list(estimating), "output": [output_level], "none": []}[context]
        self.estimators = {
            level: FlowEstimator(estimator_channels, dense=dense, name=f"estimator{level}")
            for level in estimating
        }
        self.contexts = {
            level: ContextNetwork(context_channels, context_dilations, name=f"context{level}")
            for level in refined
        }
        # Named after the level they start from. Flows stay float32 in every precision.
        self.up_flow = {
            level: upsampling(2, name=f"up_flow{level}", dtype="float32")
            for level in estimating[:-1]
        }
        self.up_features = {
            level: upsampling(2, name=f"up_features{level}") for level in estimating[:-1]
        }
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables: their shapes do not depend on the size of the frames."""
        self.pyramid.build((None, None, None, 3))
        cost_channels = (2 * self.search_range + 1) ** 2
        for level, estimator in self.estimators.items():
            channels = cost_channels
            if level != self.levels:
                channels += self.pyramid.blocks[level - 1][-1].channels + 2 + 2
            estimator.build((None, None, None, channels))
            features = (None, None, None, estimator.feature_channels)
            if level in self.contexts:
                self.contexts[level].build(features)
            if level != self.output_level:
                self.up_flow[level].build((None, None, None, 2))
                self.up_features[level].build(features)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """The arguments that this network was made with, for Keras's archives."""
        return json.loads(self._arguments)

    def call(self, frames: tuple[Tensor, Tensor]) -> Pyramid:
        """Two frames [B, H, W, 3], RGB in [0, 1] -> {level: flow [B, H/2^level, W/2^level, 2]}.

        The levels run from `levels` (coarsest) to `output_level`; `units` says what the flows mean.
        """
        return self.decode(*self.features(*frames))

    def features(self, frame1: Tensor, frame2: Tensor) -> tuple[Pyramid, Pyramid]:
        """The feature pyramids of both frames: {level: [B, H/2^level, W/2^level, C]}."""
        both = self.frame_features(ops.concatenate([frame1, frame2], axis=0))
        halves = {level: ops.split(features, 2, axis=0) for level, features in both.items()}
        first = {level: half[0] for level, half in halves.items()}
        return first, {level: half[1] for level, half in halves.items()}

    def frame_features(self, frames: Tensor) -> Pyramid:
        """What `decode` reads of frames [B, H, W, 3]: {level: [B, H/2^level, W/2^level, C]}."""
        features = self.pyramid(2.0 * frames - 1.0 if self.center_frames else frames)
        return {level: features[level] for level in self.units}

    def decode(self, pyramid1: Pyramid, pyramid2: Pyramid) -> Pyramid:
        """The flow at every level, from coarse to fine, from the features of both frames."""
        flows: Pyramid = {}
        from_coarser: list[Tensor] = []
        for level in self.estimators:
            features1 = pyramid1[level]
            compared = self.compared(level, features1, pyramid2[level], from_coarser)
            flows[level], from_coarser = self.decode_level(level, features1, compared, from_coarser)
        return flows

    def compared(
        self, level: int, features1: Tensor, features2: Tensor, from_coarser: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What the cost volume of a level compares: features, those of frame 2 warped."""
        warped2 = features2
        if from_coarser:
            motion = from_coarser[0] * (FLOW_SCALE / 2**level)  # in pixels of this grid
            warped2 = backward_warp(features2, motion, border=self.warp_border)
        if self.normalize_features:
            return normalize(features1), normalize(warped2)
        return features1, warped2

    def decode_level(
        self,
        level: int,
        features1: Tensor,
        compared: tuple[Tensor, Tensor],
        from_coarser: list[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The flow of a level, and what the next finer one gets of it: up_flow and up_features."""
        cost = cost_volume(*compared, search_range=self.search_range)
        cost = ops.leaky_relu(cost, LEAKINESS)
        inputs = [cost, features1, *from_coarser] if from_coarser else [cost]
        inputs = [ops.cast(part, cost.dtype) for part in inputs]
        features, flow = self.estimators[level](ops.concatenate(inputs, axis=-1))
        flow = ops.cast(flow, "float32")
        if level in self.contexts:
            flow = flow + ops.cast(self.contexts[level](features), "float32")
        if level == self.output_level:
            return flow, []
        joined = ops.concatenate(features, axis=-1)
        return flow, [self.up_flow[level](flow), self.up_features[level](joined)]

    def estimate(
        self, frame1: Tensor, frame2: Tensor, *, decode: Callable[..., Pyramid] | None = None
    ) -> Tensor:
        """Two frames [B, H, W, 3] of any size -> the flow [B, H, W, 2], in pixels.

        Args:
            frame1, frame2: RGB in [0, 1].
            decode: a compiled form of `self.decode` to use instead.
        """
        height, width = ops.shape(frame1)[1:3]
        multiple = 2**self.levels
        pyramids = self.features(pad(frame1, multiple), pad(frame2, multiple))
        flows = (decode or self.decode)(*pyramids)
        return unpad(self.full_resolution(flows), height, width)

    def full_resolution(self, flows: Pyramid) -> Tensor:
        """The finest of `flows`, brought to the size of the frames, in pixels."""
        level = self.output_level
        return upsample(
            flows[level] * self.units[level], 2**level, alignment=self.upsample_alignment
        )
