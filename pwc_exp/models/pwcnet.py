"""PWC-Net: pyramid, warping and cost volume (Sun et al., CVPR 2018, https://arxiv.org/abs/1709.02371).

Letters: B batch, H height, W width, C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from pwc_exp.flow.cost_volume import cost_volume
from pwc_exp.flow.resize import pad, unpad, upsample
from pwc_exp.flow.warp import backward_warp
from pwc_exp.models.layers import LEAKINESS, Convolution, Shape, normalize, upsampling

Tensor = Any  # a tensor of the Keras backend in use
Pyramid = dict[int, Tensor]

FLOW_SCALE = 20.0  # the paper's unit of flow inside the network, in full-resolution pixels


class FeaturePyramid(keras.layers.Layer):
    """Features of one frame at every level: three convolutions each, the first halving the size."""

    def __init__(self, channels: Sequence[int], *, stride_padding: str, name: str) -> None:
        super().__init__(name=name)
        self.blocks = [
            [
                Convolution(count, stride=2, padding=stride_padding, name=f"conv{level}a"),
                Convolution(count, name=f"conv{level}aa"),
                Convolution(count, name=f"conv{level}b"),
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


@keras.saving.register_keras_serializable(package="pwc_exp")
class PWCNet(keras.Model):
    """PWC-Net in all its variants, in standard conventions (flow (x, y), warp at `x + flow(x)`).

    Args:
        levels: depth of the pyramid; frames must be multiples of 2^levels.
        output_level: finest level that estimates a flow.
        search_range: radius of the cost volume, in pixels of its level.
        feature_channels: of the pyramid, from level 1 to `levels`.
        estimator_channels: of a flow estimator's layers before its head.
        context_channels, context_dilations: of the context network's layers before its head.
        dense: whether estimators are densely connected.
        context: "output" (context network at the output level) or "all" (at every level).
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
        super().__init__(name="pwcnet")
        self.levels = levels
        self.output_level = output_level
        self.search_range = search_range
        self.conventions = {
            "warp_border": warp_border,
            "stride_padding": stride_padding,
            "upsample_alignment": upsample_alignment,
            "level_units": level_units,
        }  # what weights must agree on beside their shapes
        self.warp_border = warp_border
        self.upsample_alignment = upsample_alignment
        self.center_frames = center_frames
        self.normalize_features = normalize_features
        estimating = range(levels, output_level - 1, -1)  # coarse to fine
        self.units = {
            level: FLOW_SCALE if level_units == "scaled" else 2.0**level for level in estimating
        }  # full-resolution pixels per unit of a level's flow
        self.pyramid = FeaturePyramid(
            feature_channels, stride_padding=stride_padding, name="pyramid"
        )
        refined = estimating if context == "all" else [output_level]
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
        estimator = self.estimators[self.output_level]
        context = self.contexts[self.output_level].convolutions
        return {
            "levels": self.levels,
            "output_level": self.output_level,
            "search_range": self.search_range,
            "feature_channels": [block[-1].channels for block in self.pyramid.blocks],
            "estimator_channels": [layer.channels for layer in estimator.convolutions],
            "context_channels": [layer.channels for layer in context],
            "context_dilations": [layer.dilation for layer in context],
            "dense": estimator.dense,
            "context": "all" if len(self.contexts) == len(self.estimators) else "output",
            **{name: str(value) for name, value in self.conventions.items()},
            "center_frames": self.center_frames,
            "normalize_features": self.normalize_features,
        }

    def call(self, frames: tuple[Tensor, Tensor]) -> Pyramid:
        """Two frames [B, H, W, 3], RGB in [0, 1] -> {level: flow [B, H/2^level, W/2^level, 2]}.

        The levels run from `levels` (coarsest) to `output_level`; `units` says what the flows mean.
        """
        return self.decode(*self.features(*frames))

    def features(self, frame1: Tensor, frame2: Tensor) -> tuple[Pyramid, Pyramid]:
        """The feature pyramids of both frames: {level: [B, H/2^level, W/2^level, C]}."""
        frames = ops.concatenate([frame1, frame2], axis=0)
        both = self.pyramid(2.0 * frames - 1.0 if self.center_frames else frames)
        wanted = {level: both[level] for level in self.units}
        halves = {level: ops.split(features, 2, axis=0) for level, features in wanted.items()}
        first = {level: half[0] for level, half in halves.items()}
        return first, {level: half[1] for level, half in halves.items()}

    def decode(self, pyramid1: Pyramid, pyramid2: Pyramid) -> Pyramid:
        """The flow at every level, from coarse to fine, from the features of both frames."""
        flows: Pyramid = {}
        from_coarser: list[Tensor] = []  # up_flow and up_features
        for level in self.estimators:
            features1, warped2 = pyramid1[level], pyramid2[level]
            if from_coarser:
                motion = from_coarser[0] * (FLOW_SCALE / 2**level)  # in pixels of this grid
                warped2 = backward_warp(warped2, motion, border=self.warp_border)
            compared = (features1, warped2)
            if self.normalize_features:
                compared = (normalize(features1), normalize(warped2))
            cost = cost_volume(*compared, search_range=self.search_range)
            cost = ops.leaky_relu(cost, LEAKINESS)
            inputs = [cost, features1, *from_coarser] if from_coarser else [cost]
            inputs = [ops.cast(part, cost.dtype) for part in inputs]
            features, flow = self.estimators[level](ops.concatenate(inputs, axis=-1))
            flow = ops.cast(flow, "float32")
            if level in self.contexts:
                flow = flow + ops.cast(self.contexts[level](features), "float32")
            flows[level] = flow
            if level != self.output_level:
                joined = ops.concatenate(features, axis=-1)
                from_coarser = [self.up_flow[level](flow), self.up_features[level](joined)]
        return flows

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


def _flow_head(name: str, *, initializer: str) -> Convolution:
    return Convolution(2, linear=True, initializer=initializer, name=name)
