"""Sizes: padding to what the pyramid divides, and changing the resolution of a flow.

Letters: B batch, H height, W width, C channels, f factor.
Alignment says where the pixels of a coarser grid lie: "corner": on every f-th pixel of the finer
one (tfoptflow; TensorFlow 1's `resize_bilinear`), "center": in the middle of f × f pixels.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

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


def downsample_target(
    target: Tensor, valid: Tensor, factor: int, *, alignment: str
) -> tuple[Tensor, Tensor]:
    """Brings ground truth to a coarser grid without ever mixing in invalid pixels.

    Args:
        target: [B, H, W, 2], in any unit; f divides H and W.
        valid: [B, H, W], 0 or 1.
        factor: f.
        alignment: "corner" picks every f-th pixel (which is all that the original's resizing
            does, its ratios being whole), "center" averages the valid pixels of each f × f block.

    Returns:
        The flow [B, H/f, W/f, 2], in the same unit, 0 where invalid, and its mask [B, H/f, W/f].
    """
    _check(alignment)
    if alignment == "corner":
        target, valid = target[:, ::factor, ::factor], valid[:, ::factor, ::factor]
        return ops.where(valid[..., None] > 0, target, 0.0), valid
    count = _block_sum(valid[..., None], factor)
    total = _block_sum(ops.where(valid[..., None] > 0, target, 0.0), factor)
    return total / ops.maximum(count, 1.0), ops.cast(count[..., 0] > 0, valid.dtype)


def _interpolate(flow: Tensor, places: Sequence[float], *, axis: int) -> Tensor:
    """Puts, for every pixel, its value at each of `places` beside it along `axis`."""
    beside = (slice(None),) * axis
    first, last = flow[(*beside, slice(0, 1))], flow[(*beside, slice(-1, None))]
    following = ops.concatenate([flow[(*beside, slice(1, None))], last], axis=axis)
    steps = [flow + place * (following - flow) for place in places if place >= 0]
    if places[0] < 0:
        previous = ops.concatenate([first, flow[(*beside, slice(0, -1))]], axis=axis)
        back = [flow + place * (flow - previous) for place in places if place < 0]
        steps = back + steps
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
