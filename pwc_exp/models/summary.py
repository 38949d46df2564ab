"""What a PWC-Net is made of: layers, parameters, and operations for frames of a given size."""

from collections.abc import Iterator
from typing import NamedTuple

import keras

from pwc_exp.models.layers import KERNEL, Convolution
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
    rows = list(_pyramid(model, size))
    for level, estimator in model.estimators.items():
        height, width = size[0] >> level, size[1] >> level
        features = model.pyramid.blocks[level - 1][-1].channels
        displacements = (2 * model.search_range + 1) ** 2
        flops = 2.0 * displacements * features * height * width
        rows.append(
            LayerSummary(f"cost_volume{level}", level, (height, width), displacements, 0, flops)
        )
        convolutions = [*estimator.convolutions, estimator.head]
        rows += [_convolution(estimator.name, layer, level, size) for layer in convolutions]
        if level in model.contexts:
            context = model.contexts[level]
            layers = [*context.convolutions, context.head]
            rows += [_convolution(context.name, layer, level, size) for layer in layers]
        if level in model.up_flow:
            ups = (model.up_flow[level], model.up_features[level])
            rows += [_upsampling(layer, level, size) for layer in ups]
    return rows


def total_flops(model: PWCNet, size: tuple[int, int]) -> float:
    """Operations for the flow of one pair of frames of `size` (height, width)."""
    return sum(row.flops for row in summarize(model, size))


def _pyramid(model: PWCNet, size: tuple[int, int]) -> Iterator[LayerSummary]:
    for level, block in enumerate(model.pyramid.blocks, start=1):
        for layer in block:
            row = _convolution(model.pyramid.name, layer, level, size)
            yield row._replace(flops=2 * row.flops)  # both frames


def _convolution(block: str, layer: Convolution, level: int, size: tuple[int, int]) -> LayerSummary:
    height, width = size[0] >> level, size[1] >> level
    inputs = layer.kernel.shape[2]
    flops = 2.0 * KERNEL**2 * inputs * layer.channels * height * width
    name = f"{block}/{layer.name}"
    return LayerSummary(name, level, (height, width), layer.channels, layer.count_params(), flops)


def _upsampling(layer: keras.layers.Layer, level: int, size: tuple[int, int]) -> LayerSummary:
    height, width = size[0] >> level, size[1] >> level  # of what it reads
    rows, columns, outputs, inputs = layer.kernel.shape
    flops = 2.0 * rows * columns * inputs * outputs * height * width
    result = (2 * height, 2 * width)
    return LayerSummary(layer.name, level, result, outputs, layer.count_params(), flops)
