"""Occlusion and confidence, from a flow and the flow of the swapped frames.

A pixel that is seen in both frames is led back by the backward flow to where it came from. The
bound on what it may be off is that of Sundaram, Brox and Keutzer, "Dense Point Trajectories by
GPU-accelerated Large Displacement Optical Flow", ECCV 2010, eq. 5, with their numbers, which are
also UnFlow's (Meister et al., AAAI 2018, https://arxiv.org/abs/1711.07837, eq. 1):

    |flow + backward(x + flow)|² < relative · (|flow|² + |backward(x + flow)|²) + absolute

Letters: B batch, H height, W width.
"""

from typing import Any

from keras import ops

from pwc_exp.flow.warp import backward_warp, inside, target_coordinates

Tensor = Any  # a tensor of the Keras backend in use


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
