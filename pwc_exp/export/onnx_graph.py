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
from pwc_exp.models.layers import LEAKINESS, Convolution
from pwc_exp.models.pwcnet import FLOW_SCALE, FlowEstimator, PWCNet

OPSET = 17  # 16 brought GridSample
IR_VERSION = 8  # the file format of the runtimes that came with that opset
END = np.iinfo(np.int64).max  # of a slice that takes all that is left
FRAME: tuple[str | int, ...] = ("B", "H", "W", 3)


def build_graph(model: PWCNet) -> onnx.ModelProto:
    """frame1, frame2: uint8 [B, H, W, 3], RGB, any size -> flow: float32 [B, H, W, 2], pixels."""
    graph = _Graph()
    flow = _Network(graph, model).estimate("frame1", "frame2")
    graph.nodes.append(helper.make_node("Identity", [flow], ["flow"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, FRAME)
        for name in ("frame1", "frame2")
    ]
    result = helper.make_tensor_value_info("flow", TensorProto.FLOAT, [*FRAME[:3], 2])
    whole = helper.make_graph(graph.nodes, model.name, inputs, [result], graph.constants)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(whole, opset_imports=[opset], producer_name="pwc_exp")
    made.ir_version = IR_VERSION
    onnx.checker.check_model(made, full_check=True)
    return made


class _Graph:
    """Nodes and constants under construction; a tensor is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one result."""
        return self.split(kind, *inputs, results=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, results: int, **attributes: Any) -> list[str]:
        """Adds a node with several results."""
        number = len(self.nodes)
        names = [f"{kind}{number}.{i}" for i in range(results)]
        self.nodes.append(helper.make_node(kind, inputs, names, f"{kind}{number}", **attributes))
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
        bounds = [
            bound if isinstance(bound, str) else self.constant([bound]) for bound in (start, end)
        ]
        return self.add("Slice", tensor, *bounds, self.constant([axis]))

    def size(self, tensor: str, axis: int) -> str:
        """The length [1] of `tensor` along `axis`."""
        return self.slice(self.add("Shape", tensor), axis, axis + 1, 0)

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """In `shape`, 0 keeps a dimension and -1 is what is left."""
        return self.add("Reshape", tensor, self.constant(np.array(shape, np.int64)))

    def missing(self, size: str, multiple: int) -> str:
        """What `size` [1] lacks to a multiple."""
        return self.add("Mod", self.add("Neg", size), self.constant([multiple]))

    def zeros(self, tensor: str, before: Sequence[Any], after: Sequence[Any]) -> str:
        """Pads `tensor` with zeros: for each axis so many as a number or tensor [1] says."""
        amounts = [
            amount if isinstance(amount, str) else self.constant([amount])
            for amount in (*before, *after)
        ]
        return self.add("Pad", tensor, self.add("Concat", *amounts, axis=0))


class _Network:
    """The parts of a PWC-Net as nodes; each method mirrors the one of its name in the model."""

    def __init__(self, graph: _Graph, model: PWCNet) -> None:
        self.graph = graph
        self.model = model
        self.weights: dict[int, tuple[str, str]] = {}  # both frames share the pyramid's

    def estimate(self, frame1: str, frame2: str) -> str:
        graph, model = self.graph, self.model
        height, width = graph.size(frame1, 1), graph.size(frame1, 2)
        flow = self.decode(*(self.pyramid(self.prepare(frame)) for frame in (frame1, frame2)))
        scaled = graph.add("Mul", flow, graph.constant(model.units[model.output_level]))
        center = model.upsample_alignment == "center"
        factor = 2.0**model.output_level
        full = graph.add(
            "Resize",
            scaled,
            "",
            graph.constant([1.0, 1.0, factor, factor]),
            mode="linear",
            coordinate_transformation_mode="half_pixel" if center else "asymmetric",
        )
        cut = graph.slice(graph.slice(full, 0, height, 2), 0, width, 3)
        return graph.add("Transpose", cut, perm=[0, 2, 3, 1])

    def prepare(self, frame: str) -> str:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H', W'], of a size that the pyramid divides."""
        graph = self.graph
        values = graph.add("Cast", frame, to=TensorProto.FLOAT)
        values = graph.add("Div", values, graph.constant(255.0))
        values = graph.add("Transpose", values, perm=[0, 3, 1, 2])
        multiple = 2**self.model.levels
        below, right = (graph.missing(graph.size(frame, axis), multiple) for axis in (1, 2))
        values = graph.zeros(values, [0, 0, 0, 0], [0, 0, below, right])
        if not self.model.center_frames:
            return values
        doubled = graph.add("Mul", values, graph.constant(2.0))
        return graph.add("Sub", doubled, graph.constant(1.0))

    def pyramid(self, features: str) -> dict[int, str]:
        levels = {}
        for level, block in enumerate(self.model.pyramid.blocks, start=1):
            for convolution in block:
                features = self.convolution(convolution, features)
            levels[level] = features
        return levels

    def decode(self, pyramid1: dict[int, str], pyramid2: dict[int, str]) -> str:
        """The flow at the output level, in the network's unit."""
        graph, model = self.graph, self.model
        from_coarser: list[str] = []
        for level, estimator in model.estimators.items():
            features1, warped2 = pyramid1[level], pyramid2[level]
            if from_coarser:
                scale = graph.constant(FLOW_SCALE / 2**level)
                warped2 = self.warp(warped2, graph.add("Mul", from_coarser[0], scale))
            compared = (features1, warped2)
            if model.normalize_features:
                channels = model.pyramid.blocks[level - 1][-1].channels
                compared = (self.normalize(features1, channels), self.normalize(warped2, channels))
            cost = graph.add("LeakyRelu", self.cost_volume(*compared, level), alpha=LEAKINESS)
            inputs = [cost, features1, *from_coarser] if from_coarser else [cost]
            features, flow = self.estimator(estimator, self.join(inputs))
            if level in model.contexts:
                context = model.contexts[level]
                added = features
                for convolution in [*context.convolutions, context.head]:
                    added = self.convolution(convolution, added)
                flow = graph.add("Add", flow, added)
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
        graph = self.graph
        if id(layer) not in self.weights:
            kernel = np.transpose(layer.kernel.numpy(), (3, 2, 0, 1))  # out, in, H, W
            self.weights[id(layer)] = graph.constant(kernel), graph.constant(layer.bias.numpy())
        # TensorFlow's "same" of stride 2, on an even size, pads below and right only.
        first = 0 if layer.stride == 2 and layer.padding == "same" else layer.dilation
        result = graph.add(
            "Conv",
            features,
            *self.weights[id(layer)],
            strides=[layer.stride] * 2,
            dilations=[layer.dilation] * 2,
            pads=[first, first, layer.dilation, layer.dilation],
        )
        return result if layer.linear else graph.add("LeakyRelu", result, alpha=LEAKINESS)

    def upsampling(self, layer: Any, features: str) -> str:
        kernel = np.transpose(layer.kernel.numpy(), (3, 2, 0, 1))  # in, out, H, W
        weights = self.graph.constant(kernel), self.graph.constant(layer.bias.numpy())
        return self.graph.add("ConvTranspose", features, *weights, strides=[2, 2], pads=[1] * 4)

    def normalize(self, features: str, channels: int) -> str:
        scale, bias = (self.graph.constant([value] * channels) for value in (1.0, 0.0))
        return self.graph.add(
            "InstanceNormalization", features, scale, bias, epsilon=VARIANCE_FLOOR
        )

    def warp(self, features: str, flow: str) -> str:
        """See `pwc_exp.flow.warp.backward_warp`."""
        graph = self.graph
        moved, inside = [], []
        for part, axis in zip(graph.split("Split", flow, results=2, axis=1), (3, 2), strict=True):
            last = graph.add("Cast", graph.size(features, axis), to=TensorProto.FLOAT)
            last = graph.add("Sub", graph.reshape(last, []), graph.constant(1.0))
            places = graph.add(
                "Range",
                graph.constant(0.0),
                graph.add("Add", last, graph.constant(1.0)),
                graph.constant(1.0),
            )  # 0, 1, 2 ... along this axis
            places = places if axis == 3 else graph.reshape(places, [-1, 1])
            place = graph.add("Add", part, places)
            inside += [graph.add("GreaterOrEqual", place, graph.constant(0.0))]
            inside += [graph.add("LessOrEqual", place, last)]
            share = graph.add("Div", place, last)  # GridSample counts from -1 to 1
            doubled = graph.add("Mul", share, graph.constant(2.0))
            moved.append(graph.add("Sub", doubled, graph.constant(1.0)))
        grid = graph.add("Transpose", self.join(moved), perm=[0, 2, 3, 1])
        sampled = graph.add(
            "GridSample", features, grid, mode="bilinear", padding_mode="border", align_corners=1
        )
        if self.model.warp_border == "edge":
            return sampled
        seen = inside[0]
        for condition in inside[1:]:
            seen = graph.add("And", seen, condition)
        return graph.add("Where", seen, sampled, graph.constant(0.0))

    def cost_volume(self, features1: str, warped2: str, level: int) -> str:
        """See `pwc_exp.flow.cost_volume.portable_cost_volume`: bands of 2r + 1 products."""
        graph, r = self.graph, self.model.search_range
        k, b = 2 * r + 1, max(BLOCK, 2 * r)
        channels = self.model.pyramid.blocks[level - 1][-1].channels
        width = graph.size(features1, 3)
        beyond = graph.missing(width, b)
        rows1 = graph.add("Mul", features1, graph.constant(1.0 / channels))
        rows1, rows2 = (
            graph.add("Transpose", rows, perm=[0, 2, 3, 1]) for rows in (rows1, warped2)
        )
        rows1 = graph.zeros(rows1, [0, 0, 0, 0], [0, 0, beyond, 0])
        right = graph.add("Add", beyond, graph.constant([b - r]))  # one block more
        rows2 = graph.zeros(rows2, [0, r, r, 0], [0, r, right, 0])
        left = graph.reshape(rows1, [0, 0, -1, b, channels])
        whole = graph.reshape(rows2, [0, 0, -1, b, channels])
        following = graph.slice(graph.slice(whole, 1, END, 2), 0, 2 * r, 3)
        around = graph.add("Concat", graph.slice(whole, 0, -1, 2), following, axis=3)
        around = graph.add("Transpose", around, perm=[0, 1, 2, 4, 3])
        bands = []
        for y in range(k):
            rows = graph.slice(around, y, y - 2 * r or END, 1)
            product = graph.add("MatMul", left, rows)  # [B, H, blocks, b, b + 2r]
            flat = graph.reshape(product, [0, 0, 0, b * (b + 2 * r)])
            flat = graph.zeros(flat, [0] * 4, [0, 0, 0, b])
            bands.append(graph.slice(graph.reshape(flat, [0, 0, 0, b, b + k]), 0, k, 4))
        costs = graph.reshape(graph.add("Concat", *bands, axis=4), [0, 0, -1, k * k])
        costs = graph.slice(costs, 0, width, 2)
        return graph.add("Transpose", costs, perm=[0, 3, 1, 2])

    def join(self, parts: Sequence[str]) -> str:
        """One after the other along the channels."""
        return self.graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
