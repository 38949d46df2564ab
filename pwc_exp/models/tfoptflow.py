"""Weights of philferriere/tfoptflow, converted to the standard warp.

The original warps at `x - swap(flow)`: its upsampled flow means (-y, -x). Its checkpoints have
learned that, in the deconvolution that makes the upsampled flow and in every layer that reads it.
Negating and swapping those two channels where they are made and where they are read gives the same
network with the standard (x, y) flow and a warp at `x + flow(x)`, exactly.
"""

import re
from collections.abc import Mapping

import numpy as np

from pwc_exp.errors import DataError

SCOPE = "pwcnet/"
FP16_SCOPE = "fp32_vars/"  # where mixed-precision training kept its float32 weights
CONVENTIONS = {
    "warp_border": "edge",
    "stride_padding": "same",
    "upsample_alignment": "corner",
    "level_units": "grid",
    "center_frames": False,
    "normalize_features": False,
}  # of `PWCNet`, without which these weights mean nothing

_LAYERS = (
    (r"featpyr/conv(\d)(a|aa|b)", r"pyramid/conv\1\2"),
    (r"predict_flow/conv(\d)_(\d)", r"estimator\1/conv\2"),
    (r"predict_flow/flow(\d)", r"estimator\1/flow"),
    (r"upsample/up_flow(\d)", r"up_flow\1"),
    (r"upsample/up_feat(\d)", r"up_features\1"),
    (r"ctxt/dc_conv(\d)(\d)", r"context\1/conv\2"),
)
# In the input of a layer that reads it, the upsampled flow is the first two of the last four
# channels (the upsampled features are the other two), dense or not.
_FLOW_INPUTS = slice(-4, -2)


def weight_name(tf1_name: str) -> str | None:
    """The name in this project of a variable of the original, None if it is no weight.

    >>> weight_name("fp32_vars/pwcnet/predict_flow/conv6_0/kernel")
    'estimator6/conv0/kernel'
    """
    name = tf1_name.removeprefix(FP16_SCOPE).removeprefix(SCOPE)
    layer, _, kind = name.rpartition("/")
    if not tf1_name.removeprefix(FP16_SCOPE).startswith(SCOPE) or kind not in ("kernel", "bias"):
        return None
    for pattern, replacement in _LAYERS:
        if match := re.fullmatch(pattern, layer):
            return f"{match.expand(replacement)}/{kind}"
    raise DataError(f"unknown variable of tfoptflow: {tf1_name}")


def convert(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From the original's {variable name: value}, optimizer and all, to {weight name: value}."""
    weights = {
        name: np.asarray(value)
        for tf1_name, value in tensors.items()
        if (name := weight_name(tf1_name)) is not None
    }
    for name in [name for name in weights if re.match(r"up_flow\d/", name)]:
        kernel = name.endswith("kernel")
        weights[name] = -np.flip(weights[name], axis=2 if kernel else 0)
        level = int(name[len("up_flow")]) - 1
        for reader, axis in _readers(weights, level) if kernel else ():
            moved = np.moveaxis(weights[reader].copy(), axis, -1)
            moved[..., _FLOW_INPUTS] = -np.flip(moved[..., _FLOW_INPUTS], -1)
            weights[reader] = np.moveaxis(moved, -1, axis)
    return weights


def _readers(weights: Mapping[str, np.ndarray], level: int) -> list[tuple[str, int]]:
    """The kernels at `level` that read its upsampled flow, each with the axis of its inputs."""
    first = f"estimator{level}/conv0/kernel"
    inputs, outputs = weights[first].shape[2:]
    if weights[f"estimator{level}/conv1/kernel"].shape[2] != inputs + outputs:
        return [(first, 2)]  # not dense
    readers = [name for name in weights if re.fullmatch(rf"estimator{level}/\w+/kernel", name)]
    axes = [(name, 2) for name in [*readers, f"context{level}/conv1/kernel"]]
    axes.append((f"up_features{level}/kernel", 3))
    return [(name, axis) for name, axis in axes if name in weights]
