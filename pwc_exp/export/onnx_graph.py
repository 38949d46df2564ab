"""The network as an ONNX graph, written node by node from its layers.

Written, not converted: tf2onnx 1.17 takes the network traced for any size, reports success, and
writes a graph whose shapes do not fit; and it takes half a minute. The graph here is the network's,
one node for each of its parts, and its sizes are open.

Letters: B batch, H height, W width, C channels, r search range. Tensors are [B, C, H, W].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pwc_exp.flow.cost_volume import BLOCK, VARIANCE_FLOOR
from pwc_exp.models.pwcnet import FLOW_SCALE, LEAKINESS, Convolution, FlowEstimator, PWCNet

OPSET = 17  # 16 brought GridSample
IR_VERSION = 8  # the file format of the runtimes that came with that opset
END = np.iinfo(np.int64).max  # of a slice that takes all that is left


def build_graph(model: PWCNet) -> onnx.ModelProto:
    """frame1, frame2: uint8 [B, H, W, 3], RGB, any size -> flow: float32 [B, H, W, 2], pixels."""
    graph = _Graph(model)
    flow = graph.estimate("frame1", "frame2")
    graph.nodes.append(helper.make_node("Identity", [flow], ["flow"]))
    frame1, frame2 = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["B", "H", "W", 3])
        for name in ("frame1", "frame2")
    )
    result = helper.make_tensor_value_info("flow", TensorProto.FLOAT, ["B", "H", "W", 2])
    whole = helper.make_graph(graph.nodes, model.name, [frame1, frame2], [result], graph.constants)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(whole, opset_imports=[opset], producer_name="pwc_exp")
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made, full_check=True)
    return made


class _Graph:
    """The parts of a PWC-Net as nodes; a tensor is known by its name."""

    def __init__(self, model: PWCNet) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: dict[int, tuple[str, str]] = {}  # both frames share the pyramid's

    def add(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Adds a node with one result; inputs that are no names become constants."""
        return self.split(kind, *inputs, results=1, **attributes)[0]

    def split(self, kind: str, *inputs: Any, results: int, **attributes: Any) -> list[str]:
        """Adds a node with several results."""
        tensors = [part if isinstance(part, str) else self.constant(part) for part in inputs]
        name = f"{kind}{len(self.nodes)}"
        names = [f"{name}.{i}" for i in range(results)]
        self.nodes.append(helper.make_node(kind, tensors, names, name, **attributes))
        return names

    def constant(self, values: Any) -> str:
        """Adds a constant; plain integers are int64, other numbers float32."""
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def slice(self, tensor: str, start: Any, end: Any, axis: int) -> str:
        """tensor[start:end] along `axis`; the bounds are numbers or names of tensors [1]."""
        return self.add("Slice", tensor, *_rows(start, end), [axis])

    def size(self, tensor: str, axis: int) -> str:
        """The length [1] of `tensor` along `axis`."""
        return self.slice(self.add("Shape", tensor), axis, axis + 1, 0)

    def missing(self, size: str, multiple: int) -> str:
        """What `size` [1] lacks to a multiple."""
        return self.add("Mod", self.add("Neg", size), [multiple])

    def zeros(self, tensor: str, before: Sequence[Any], after: Sequence[Any]) -> str:
        """Pads `tensor` with zeros: for each axis so many as a number or tensor [1] says."""
        return self.add("Pad", tensor, self.add("Concat", *_rows(*before, *after), axis=0))

    def join(self, parts: Sequence[str]) -> str:
        """One after the other along the channels."""
        return self.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def estimate(self, frame1: str, frame2: str) -> str:
        """The flow [B, H, W, 2], in pixels, from two frames, uint8 [B, H, W, 3]."""
        model = self.model
        height, width = self.size(frame1, 1), self.size(frame1, 2)
        flow = self.decode(*(self.pyramid(self.prepare(frame)) for frame in (frame1, frame2)))
        center = model.upsample_alignment == "center"
        factor = 2.0**model.output_level
        full = self.add(
            "Resize",
            self.add("Mul", flow, model.units[model.output_level]),
            "",
            [1.0, 1.0, factor, factor],
            mode="linear",
            coordinate_transformation_mode="half_pixel" if center else "asymmetric",
        )
        cut = self.slice(self.slice(full, 0, height, 2), 0, width, 3)
        return self.add("Transpose", cut, perm=[0, 2, 3, 1])

    def prepare(self, frame: str) -> str:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H', W'], of a size that the pyramid divides."""
        values = self.add("Div", self.add("Cast", frame, to=TensorProto.FLOAT), 255.0)
        values = self.add("Transpose", values, perm=[0, 3, 1, 2])
        multiple = 2**self.model.levels
        below, right = (self.missing(self.size(frame, axis), multiple) for axis in (1, 2))
        values = self.zeros(values, [0, 0, 0, 0], [0, 0, below, right])
        if not self.model.center_frames:
            return values
        return self.add("Sub", self.add("Mul", values, 2.0), 1.0)

    def pyramid(self, features: str) -> dict[int, str]:
        levels = {}
        for level, block in enumerate(self.model.pyramid.blocks, start=1):
            for convolution in block:
                features = self.convolution(convolution, features)
            levels[level] = features
        return levels

    def decode(self, pyramid1: dict[int, str], pyramid2: dict[int, str]) -> str:
        """The flow at the output level, in the network's unit."""
        model = self.model
        from_coarser: list[str] = []
        for level, estimator in model.estimators.items():
            features1, warped2 = pyramid1[level], pyramid2[level]
            if from_coarser:
                motion = self.add("Mul", from_coarser[0], FLOW_SCALE / 2**level)
                warped2 = self.warp(warped2, motion)
            cost = self.cost_volume(features1, warped2, level)
            cost = self.add("LeakyRelu", cost, alpha=LEAKINESS)
            inputs = [cost, features1, *from_coarser] if from_coarser else [cost]
            features, flow = self.estimator(estimator, self.join(inputs))
            if level in model.contexts:
                added = features
                context = model.contexts[level]
                for convolution in [*context.convolutions, context.head]:
                    added = self.convolution(convolution, added)
                flow = self.add("Add", flow, added)
            if level != model.output_level:
                from_coarser = [
                    self.upsampling(model.up_flow[level], flow),
                    self.upsampling(model.up_features[level], features),
                ]
        return flow

    def estimator(self, estimator: FlowEstimator, features: str) -> tuple[str, str]:
        for convolution in estimator.convolutions:
            activation = self.convolution(convolution, features)
            features = self.join([activation, features]) if estimator.dense else activation
        return features, self.convolution(estimator.head, features)

    def convolution(self, layer: Convolution, features: str) -> str:
        if id(layer) not in self.weights:
            kernel = np.transpose(layer.kernel.numpy(), (3, 2, 0, 1))  # out, in, H, W
            self.weights[id(layer)] = self.constant(kernel), self.constant(layer.bias.numpy())
        # TensorFlow's "same" of stride 2, on an even size, pads below and right only.
        first = 0 if layer.stride == 2 and layer.padding == "same" else layer.dilation
        result = self.add(
            "Conv",
            features,
            *self.weights[id(layer)],
            strides=[layer.stride] * 2,
            dilations=[layer.dilation] * 2,
            pads=[first, first, layer.dilation, layer.dilation],
        )
        return result if layer.linear else self.add("LeakyRelu", result, alpha=LEAKINESS)

    def upsampling(self, layer: Any, features: str) -> str:
        kernel = np.transpose(layer.kernel.numpy(), (3, 2, 0, 1))  # in, out, H, W
        weights = kernel, layer.bias.numpy()
        return self.add("ConvTranspose", features, *weights, strides=[2, 2], pads=[1] * 4)

    def warp(self, features: str, flow: str) -> str:
        """See `pwc_exp.flow.warp.backward_warp`."""
        moved, inside = [], []
        for part, axis in zip(self.split("Split", flow, results=2, axis=1), (3, 2), strict=True):
            length = self.add("Cast", self.size(features, axis), to=TensorProto.FLOAT)
            last = self.add("Sub", self.add("Squeeze", length), 1.0)
            places = self.add("Range", 0.0, self.add("Add", last, 1.0), 1.0)  # along this axis
            if axis == 2:
                places = self.add("Reshape", places, [-1, 1])
            place = self.add("Add", part, places)
            inside += [self.add("GreaterOrEqual", place, 0.0)]
            inside += [self.add("LessOrEqual", place, last)]
            share = self.add("Div", place, last)  # GridSample counts from -1 to 1
            moved.append(self.add("Sub", self.add("Mul", share, 2.0), 1.0))
        grid = self.add("Transpose", self.join(moved), perm=[0, 2, 3, 1])
        sampled = self.add(
            "GridSample", features, grid, mode="bilinear", padding_mode="border", align_corners=1
        )
        if self.model.warp_border == "edge":
            return sampled
        seen = inside[0]
        for condition in inside[1:]:
            seen = self.add("And", seen, condition)
        return self.add("Where", seen, sampled, 0.0)

    def cost_volume(self, features1: str, warped2: str, level: int) -> str:
        """See `pwc_exp.flow.cost_volume.portable_cost_volume`: bands of 2r + 1 products."""
        r = self.model.search_range
        k, b = 2 * r + 1, max(BLOCK, 2 * r)
        channels = self.model.pyramid.blocks[level - 1][-1].channels
        if self.model.normalize_features:
            scale_and_bias = [1.0] * channels, [0.0] * channels
            features1, warped2 = (
                self.add("InstanceNormalization", features, *scale_and_bias, epsilon=VARIANCE_FLOOR)
                for features in (features1, warped2)
            )
        width = self.size(features1, 3)
        beyond = self.missing(width, b)
        rows1 = self.add("Mul", features1, 1.0 / channels)
        rows1, rows2 = (self.add("Transpose", rows, perm=[0, 2, 3, 1]) for rows in (rows1, warped2))
        rows1 = self.zeros(rows1, [0, 0, 0, 0], [0, 0, beyond, 0])
        right = self.add("Add", beyond, [b - r])  # one block more
        rows2 = self.zeros(rows2, [0, r, r, 0], [0, r, right, 0])
        left = self.add("Reshape", rows1, [0, 0, -1, b, channels])
        whole = self.add("Reshape", rows2, [0, 0, -1, b, channels])
        following = self.slice(self.slice(whole, 1, END, 2), 0, 2 * r, 3)
        around = self.add("Concat", self.slice(whole, 0, -1, 2), following, axis=3)
        around = self.add("Transpose", around, perm=[0, 1, 2, 4, 3])
        bands = []
        for y in range(k):
            rows = self.slice(around, y, y - 2 * r or END, 1)
            product = self.add("MatMul", left, rows)  # [B, H, blocks, b, b + 2r]
            flat = self.add("Reshape", product, [0, 0, 0, b * (b + 2 * r)])
            flat = self.zeros(flat, [0] * 4, [0, 0, 0, b])
            band = self.add("Reshape", flat, [0, 0, 0, b, b + k])
            bands.append(self.slice(band, 0, k, 4))
        costs = self.add("Reshape", self.add("Concat", *bands, axis=4), [0, 0, -1, k * k])
        return self.add("Transpose", self.slice(costs, 0, width, 2), perm=[0, 3, 1, 2])


def _rows(*values: Any) -> list[Any]:
    """Names of tensors [1] as they are, and numbers as rows [1]."""
    return [value if isinstance(value, str) else [value] for value in values]
