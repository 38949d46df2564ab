"""Sizes: padding to what the pyramid divides, and changing the resolution of a flow.

Letters: B batch, H height, W width, C channels, f factor.
Alignment says where the pixels of a coarser grid lie: "corner": on every f-th pixel of the finer
one (tfoptflow; TensorFlow 1's `resize_bilinear`), "center": in the middle of f × f pixels.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import Any

from keras import ops

from pwc_exp.flow.convolution import uses_tensorflow

Tensor = Any  # a tensor of the Keras backend in use

ALIGNMENTS = ("corner", "center")


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The next (height, width) that `multiple` divides."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def pad(frame: Tensor, multiple: int) -> Tensor:
    """Adds zeros below and right of `frame` [B, H, W, C] until `multiple` divides H and W."""
    height, width = ops.shape(frame)[1:3]
    new_height, new_width = padded_size(height, width, multiple)
    if frame.shape[1:3] == (new_height, new_width):
        return frame
    return ops.pad(frame, ((0, 0), (0, new_height - height), (0, new_width - width), (0, 0)))


def unpad(flow: Tensor, height: int, width: int) -> Tensor:
    """Takes off what `pad` added: the upper left `height` × `width` of `flow` [B, H, W, C]."""
    return flow[:, :height, :width]


def upsample(flow: Tensor, factor: int, *, alignment: str) -> Tensor:
    """Interpolates `flow` [B, H, W, C] to [B, fH, fW, C], bilinearly; the values stay."""
    _check(alignment)
    _, height, width, _ = flow.shape
    if alignment == "center" and height and width:  # Keras needs to know the size
        return ops.image.resize(flow, (height * factor, width * factor), interpolation="bilinear")
    # Where the new pixels of a cell lie, in pixels of the coarser grid from its own one.
    first = 0.0 if alignment == "corner" else (1 - factor) / (2 * factor)
    places = [first + i / factor for i in range(factor)]
    return _interpolate(_interpolate(flow, places, axis=1), places, axis=2)


def resize_frames(frames: Tensor, height: int, width: int) -> Tensor:
    """Interpolates `frames` [B, H, W, 3] to another size; shrinking averages over what it drops."""
    return ops.image.resize(frames, (height, width), interpolation="bilinear", antialias=True)


def resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Brings `flow` [B, H, W, 2] to frames of another size: its values change with the ratios."""
    old_height, old_width = flow.shape[1:3]
    ratios = ops.convert_to_tensor([width / old_width, height / old_height], dtype=flow.dtype)
    resized = ops.image.resize(flow, (height, width), interpolation="bilinear", antialias=True)
    return resized * ratios


def target_pyramid(
    target: Tensor, valid: Tensor, levels: Collection[int], *, alignment: str
) -> dict[int, tuple[Tensor, Tensor]]:
    """Brings ground truth to coarser grids without ever mixing in invalid pixels.

    Args:
        target: [B, H, W, 2], in any unit; 2^level divides H and W.
        valid: [B, H, W], 0 or 1.
        levels: of the pyramid; level k has stride 2^k.
        alignment: "corner" picks every 2^k-th pixel (which is all that the original's resizing
            does, its ratios being whole), "center" averages the valid pixels of each block.

    Returns:
        {level: (flow [B, H/2^level, W/2^level, 2], in the same unit, 0 where invalid; its mask)}.
        Not differentiable.
    """
    _check(alignment)
    downsample = _pick_pixels if alignment == "corner" else _average_blocks
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # as one operation: 15 times faster

        downsample = tensorflow_ops.fused(downsample)
    pairs = downsample(target, valid, tuple(sorted(levels)))
    return dict(zip(sorted(levels), pairs, strict=True))


def _pick_pixels(
    target: Tensor, valid: Tensor, levels: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    picked = [(target[:, :: 2**k, :: 2**k], valid[:, :: 2**k, :: 2**k]) for k in levels]
    return [(ops.where(mask[..., None] > 0, flow, 0.0), mask) for flow, mask in picked]


def _average_blocks(
    target: Tensor, valid: Tensor, levels: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    known = valid[..., None]
    total, count = ops.where(known > 0, target, 0.0), known
    pairs = []
    for finer, level in itertools.pairwise((0, *levels)):  # each from the sums of the finer one
        total, count = (_block_sum(values, 2 ** (level - finer)) for values in (total, count))
        pairs.append((total / ops.maximum(count, 1.0), ops.cast(count[..., 0] > 0, valid.dtype)))
    return pairs


def _interpolate(flow: Tensor, places: Sequence[float], *, axis: int) -> Tensor:
    """Puts, for every pixel, its value at each of `places` beside it along `axis`."""

    def cut(*bounds: int | None) -> Tensor:
        return flow[(*(slice(None),) * axis, slice(*bounds))]

    following = ops.concatenate([cut(1, None), cut(-1, None)], axis=axis)
    steps = [flow + place * (following - flow) for place in places if place >= 0]
    if places[0] < 0:
        previous = ops.concatenate([cut(0, 1), cut(0, -1)], axis=axis)
        steps = [flow + place * (flow - previous) for place in places if place < 0] + steps
    shape = list(ops.shape(flow))
    shape[0], shape[axis] = -1, shape[axis] * len(places)
    return ops.reshape(ops.stack(steps, axis=axis + 1), shape)


def _block_sum(values: Tensor, factor: int) -> Tensor:
    _, height, width, channels = values.shape
    blocks = (-1, height // factor, factor, width // factor, factor, channels)
    return ops.sum(ops.reshape(values, blocks), axis=(2, 4))


def _check(alignment: str) -> None:
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment must be one of {ALIGNMENTS}. Received: {alignment!r}")
