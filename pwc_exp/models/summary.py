"""What a PWC-Net is made of: layers, parameters, and operations for frames of a given size."""

import math
from typing import Any, NamedTuple

import keras

from pwc_exp.models.pwcnet import PWCNet


class LayerSummary(NamedTuple):
    """One layer."""

    name: str
    level: int
    size: tuple[int, int]  # of its result (height, width)
    channels: int  # of its result
    parameters: int
    flops: float  # a multiplication and an addition are two


def summarize(model: PWCNet, size: tuple[int, int]) -> list[LayerSummary]:
    """All layers of `model` for a pair of frames of `size` (height, width)."""

    def of_layer(
        name: str, layer: keras.layers.Layer, level: int, *, scale: int = 1, frames: int = 1
    ) -> LayerSummary:
        """`scale`: of the result to what the layer reads, the grid of `level`."""
        height, width = size[0] >> level, size[1] >> level
        flops = 2.0 * frames * math.prod(layer.kernel.shape) * height * width
        result = (scale * height, scale * width)
        channels, parameters = layer.bias.shape[0], layer.count_params()
        return LayerSummary(name, level, result, channels, parameters, flops)

    rows = [
        of_layer(f"{model.pyramid.name}/{layer.name}", layer, level, frames=2)
        for level, block in enumerate(model.pyramid.blocks, start=1)
        for layer in block
    ]
    for level, estimator in model.estimators.items():
        height, width = size[0] >> level, size[1] >> level
        features = model.pyramid.blocks[level - 1][-1].channels
        displacements = (2 * model.search_range + 1) ** 2
        flops = 2.0 * displacements * features * height * width
        name = f"cost_volume{level}"
        rows.append(LayerSummary(name, level, (height, width), displacements, 0, flops))
        parts: list[Any] = [estimator, *filter(None, [model.contexts.get(level)])]
        for part in parts:
            layers = [*part.convolutions, part.head]
            rows += [of_layer(f"{part.name}/{layer.name}", layer, level) for layer in layers]
        if level in model.up_flow:
            layers = [model.up_flow[level], model.up_features[level]]
            rows += [of_layer(layer.name, layer, level, scale=2) for layer in layers]
    return rows


def total_flops(model: PWCNet, size: tuple[int, int]) -> float:
    """Operations for the flow of one pair of frames of `size` (height, width)."""
    return sum(row.flops for row in summarize(model, size))


def description(model: PWCNet, size: tuple[int, int], *, name: str) -> str:
    """A line per layer and the sums, for a pair of frames of `size` (height, width)."""
    rows = summarize(model, size)
    lines = [f"{'layer':<22}{'level':>6}{'output (H x W x C)':>22}{'parameters':>13}{'MFLOP':>12}"]
    for row in rows:
        shape = f"{row.size[0]} x {row.size[1]} x {row.channels}"
        lines.append(
            f"{row.name:<22}{row.level:>6}{shape:>22}{row.parameters:>13,}{row.flops / 1e6:>12,.1f}"
        )
    flops = sum(row.flops for row in rows)
    conventions = ", ".join(
        key if value is True else f"{key} {value}"
        for key, value in model.conventions.items()
        if value is not False
    )
    lines += [
        "",
        f"model        {name}: levels {model.levels} to {model.output_level}, {conventions}",
        f"parameters   {model.count_params():,}",
        f"operations   {flops / 1e9:,.1f} GFLOP for a pair of {size[0]} x {size[1]} "
        "(height x width), multiplications and additions counted",
    ]
    return "\n".join(lines)
