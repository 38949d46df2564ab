"""Backward warping, and the forward-backward consistency check that is made with it.

The check's bound is that of Sundaram, Brox and Keutzer, "Dense Point Trajectories by
GPU-accelerated Large Displacement Optical Flow", ECCV 2010, eq. 5, with their numbers, which are
also UnFlow's (https://arxiv.org/abs/1711.07837, eq. 1):

    |flow + backward(x + flow)|² < relative · (|flow|² + |backward(x + flow)|²) + absolute

Letters: B batch, H height, W width, C channels.
"""

from typing import Any

from keras import ops

from pwc_exp.flow.convolution import uses_tensorflow

Tensor = Any  # a tensor of the Keras backend in use

BORDERS = ("edge", "zero")


def backward_warp(features: Tensor, flow: Tensor, *, border: str = "zero") -> Tensor:
    """Samples `features` at `x + flow(x)`, bilinearly (PWC-Net, eq. 1).

    Args:
        features: [B, H, W, C], of the second frame; H and W at least 2.
        flow: [B, H, W, 2], (x, y) in pixels of this grid, from the first frame to the second.
        border: what lies outside: "zero" (as NVlabs; a sample that is not fully inside is 0) or
            "edge" (the nearest pixel, as tfoptflow).

    Returns:
        [B, H, W, C], of the dtype of `features`. Differentiable in both arguments.
    """
    if border not in BORDERS:
        raise ValueError(f"border must be one of {BORDERS}. Received: {border!r}")
    if uses_tensorflow():
        from pwc_exp.flow import tensorflow_ops  # its own gradient: 4 times less memory traffic

        return tensorflow_ops.make_backward_warp(border)(features, ops.cast(flow, "float32"))
    return portable_backward_warp(features, flow, border=border)


def portable_backward_warp(features: Tensor, flow: Tensor, *, border: str) -> Tensor:
    """`backward_warp` in operations of any Keras backend, with the backend's own gradient."""
    batch, height, width, channels = ops.shape(features)
    x, y = target_coordinates(flow)
    x0, ax = cell_and_fraction(x, width)
    y0, ay = cell_and_fraction(y, height)
    rows = ops.reshape(ops.arange(batch, dtype="int32") * height, (-1, 1, 1)) + y0
    index = rows * width + x0  # [B, H, W]: the upper left pixel of each cell
    flat = ops.reshape(features, (-1, channels))

    def corner(offset: int) -> Tensor:
        return ops.cast(ops.take(flat, index + offset, axis=0), "float32")

    ax, ay = ax[..., None], ay[..., None]
    top = corner(0) + ax * (corner(1) - corner(0))
    bottom = corner(width) + ax * (corner(width + 1) - corner(width))
    sampled = top + ay * (bottom - top)
    if border == "zero":
        sampled = ops.where(inside(x, y, height, width)[..., None], sampled, 0.0)
    return ops.cast(sampled, features.dtype)


def target_coordinates(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel goes: x and y, [B, H, W] each, float32 whatever the precision of the net."""
    flow = ops.cast(flow, "float32")
    height, width = ops.shape(flow)[1:3]
    x = ops.arange(width, dtype="float32")[None, None, :] + flow[..., 0]
    y = ops.arange(height, dtype="float32")[None, :, None] + flow[..., 1]
    return x, y


def cell_and_fraction(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The cell [i, i + 1] that holds `position`, or the nearest one, and the place in it.

    A NaN position gives cell 0: it must not become an address. (Clamped integers would do as well,
    but between 0 and 6 TensorFlow Lite takes them for a ReLU6, which it has for numbers only.)
    """
    start = ops.clip(ops.floor(position), 0, _real(size - 2))
    start = ops.where(start > 0, start, 0.0)
    return ops.cast(start, "int32"), ops.clip(position - start, 0.0, 1.0)


def inside(x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Whether a bilinear sample at (x, y) reads pixels of the image only."""
    return (x >= 0) & (x <= _real(width - 1)) & (y >= 0) & (y <= _real(height - 1))


def _real(size: Any) -> Any:
    """A size to compare coordinates with; one that is not known yet is an int32 tensor."""
    return size if isinstance(size, int) else ops.cast(size, "float32")


def occlusion(flow: Tensor, backward: Tensor, *, relative: float, absolute: float) -> Tensor:
    """1 where a pixel of the first frame is hidden in the second, or outside of it, else 0.

    Args:
        flow: [B, H, W, 2], in pixels, from the first frame to the second; H and W at least 2.
        backward: [B, H, W, 2], in pixels, from the second frame to the first.
        relative, absolute: of the bound above; absolute in pixels squared.

    Returns:
        [B, H, W], float32. It is what the flows say: where they are wrong, it is 1 as well.
    """
    share, stays = _deviation(flow, backward, relative, absolute)
    return 1.0 - ops.cast(stays & (share < 1.0), "float32")


def confidence(flow: Tensor, backward: Tensor, *, relative: float, absolute: float) -> Tensor:
    """How well the two flows agree: 1 exactly, ½ at the bound of `occlusion`, to 0; [B, H, W].

    It is 2^(-deviation² / bound), and 0 where a pixel leaves the frame: below or at ½ is what
    `occlusion` marks. No error in pixels is promised. Arguments as of `occlusion`.
    """
    share, stays = _deviation(flow, backward, relative, absolute)
    return ops.where(stays, ops.exp2(-share), 0.0)


def _deviation(
    flow: Tensor, backward: Tensor, relative: float, absolute: float
) -> tuple[Tensor, Tensor]:
    """deviation² as a share of its bound, and whether the pixel stays in the frame; [B, H, W]."""
    flow = ops.cast(flow, "float32")
    back = backward_warp(ops.cast(backward, "float32"), flow, border="edge")
    bound = relative * (_squared(flow) + _squared(back)) + absolute
    stays = inside(*target_coordinates(flow), *ops.shape(flow)[1:3])
    return _squared(flow + back) / bound, stays


def _squared(flow: Tensor) -> Tensor:
    return ops.sum(flow * flow, axis=-1)
