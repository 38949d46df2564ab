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
