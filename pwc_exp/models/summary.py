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
