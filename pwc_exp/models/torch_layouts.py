"""Weights of PyTorch's PWC-Nets, by the names that NVlabs, ptlflow and mmflow give them.

What is done to them is exact, but for rounding where mmflow's cost volume is concerned:
- kernels are transposed to [H, W, in, out]; those of transposed convolutions to [H, W, out, in],
  not flipped, as TensorFlow's "same" of kernel 4 and stride 2 pads as PyTorch's padding=1;
- the first kernel's input channels are reversed where the project feeds BGR;
- the two frames at level 6: NVlabs calls its first convolution conv6aa and its second conv6a;
- mmflow sums over channels in the cost volume where the others take the mean: the kernels that
  read it are multiplied by the number of channels, which LeakyReLU lets through;
- NVlabs' PWCDCNet_old puts some activations behind what they are made from: the input channels of
  the kernels that read them are brought into the order of the later network.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.errors import DataError
from pwc_exp.origin import MMFLOW, NVLABS, PTLFLOW

CONVENTIONS = {
    "warp_border": "zero",
    "stride_padding": "symmetric",
    "upsample_alignment": "center",
    "level_units": "scaled",
    "center_frames": False,
    "normalize_features": False,
}  # of `PWCNet`, without which these weights mean nothing

_OUTPUT_LEVEL = 2
_UNUSED = "deconv2."  # NVlabs' network has it, and never uses it
_NVLABS = (
    (r"conv(\d)(a|aa|b)\.0", r"pyramid/conv\1\2"),
    (r"conv(\d)_(\d)\.0", r"estimator\1/conv\2"),
    (r"predict_flow(\d)", r"estimator\1/flow"),
    (r"deconv(\d)", r"up_flow\1"),
    (r"upfeat(\d)", r"up_features\1"),
    (r"dc_conv(\d)(?:\.0)?", rf"context{_OUTPUT_LEVEL}/conv\1"),
)
_SWAPPED = {"conv6aa.0": "pyramid/conv6a", "conv6a.0": "pyramid/conv6aa"}
_MMFLOW = (
    (r"encoder\.layers\.(\d)\.layers\.([012])\.conv", "pyramid"),
    (r"decoder\.decoders\.level(\d)\.dense_net\.layers\.(\d)\.layers\.conv", r"estimator\1/conv\2"),
    (r"decoder\.decoders\.level(\d)\.predict_layer", r"estimator\1/flow"),
    (r"decoder\.decoders\.level(\d)\.upflow_layer", r"up_flow\1"),
    (r"decoder\.decoders\.level(\d)\.upfeat_layer", r"up_features\1"),
    (r"decoder\.post_processor\.layers\.(\d)(?:\.conv)?", "context"),
)
_LAYOUTS = (
    "NVlabs/PWC-Net and ptlflow (conv1a.0.weight, …, predict_flow2.bias), "
    "mmflow (encoder.layers.0.layers.0.conv.weight, …)"
)


class Converted(NamedTuple):
    """Weights by the names of this project."""

    weights: dict[str, np.ndarray]
    project: str  # whose layout it is
    fits: str  # the model that they are for


def convert(tensors: Mapping[str, np.ndarray], *, source: str) -> Converted:
    """From a state_dict to {weight name: value}.

    Raises:
        DataError: none of the known layouts, a name that such a network has not, or no numbers.
    """
    try:
        if {"conv1a.0.weight", "conv6_0.0.weight"} <= tensors.keys():
            return _convert_nvlabs(tensors, source)
        if "decoder.decoders.level6.dense_net.layers.0.layers.conv.weight" in tensors:
            weights = _renamed(tensors, _mmflow_layer, source)
            return Converted(_with_mean_cost(_with_rgb(weights)), MMFLOW, "official")
    except KeyError as error:
        raise DataError(f"{source} lacks the weights {error}") from None
    except IndexError:
        raise DataError(f"{source} holds kernels whose channels do not fit together") from None
    received = ", ".join(name[:40] for name in list(tensors)[:3])
    raise DataError(f"{source} must hold a PWC-Net as of {_LAYOUTS}. Received: {received}, …")


def _convert_nvlabs(tensors: Mapping[str, np.ndarray], source: str) -> Converted:
    used = {name: value for name, value in tensors.items() if not name.startswith(_UNUSED)}
    project = NVLABS if len(used) < len(tensors) else PTLFLOW
    three = "conv1aa.0.weight" in used  # convolutions at each level of the pyramid
    weights = _renamed(used, _nvlabs_layer if three else _nvlabs_old_layer, source)
    context = f"context{_OUTPUT_LEVEL}/conv1/kernel" in weights
    # ptlflow feeds RGB to its pwcnet, and BGR to pwcnet_nodc (bgr_to_rgb in pwcnet.py).
    if not (project == PTLFLOW and context):
        weights = _with_rgb(weights)
    if not three:
        return Converted(_with_new_order(weights), project, "official-old")
    return Converted(weights, project, "official" if context else "official-nodc")


def _renamed(
    tensors: Mapping[str, np.ndarray], layer_of: Callable[[str], str | None], source: str
) -> dict[str, np.ndarray]:
    weights = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        renamed = layer_of(layer)
        if renamed is None or kind not in ("weight", "bias"):
            raise DataError(f"{source} holds {name[:60]!r}, which no PWC-Net of its layout has")
        if value.dtype.kind not in "fV" or value.ndim != (4 if kind == "weight" else 1):
            received = f"{value.dtype} {value.shape}"
            raise DataError(f"{source}: {name} must be numbers of a {kind}. Received: {received}")
        numbers = np.asarray(value, np.float32)
        if kind == "weight":
            weights[f"{renamed}/kernel"] = numbers.transpose(2, 3, 1, 0)
        else:
            weights[f"{renamed}/bias"] = numbers
    return weights


def _nvlabs_layer(layer: str) -> str | None:
    return _SWAPPED.get(layer) or _nvlabs_old_layer(layer)


def _nvlabs_old_layer(layer: str) -> str | None:
    return _matched(layer, _NVLABS)


def _mmflow_layer(layer: str) -> str | None:
    kind = _matched(layer, _MMFLOW)
    numbers = [int(digit) for digit in re.findall(r"\.(\d)", layer)]
    if kind == "pyramid":
        return f"pyramid/conv{numbers[0] + 1}{('a', 'aa', 'b')[numbers[1]]}"
    if kind == "context":
        return f"context{_OUTPUT_LEVEL}/conv{numbers[0] + 1}"
    return kind


def _matched(layer: str, patterns: Sequence[tuple[str, str]]) -> str | None:
    matches = ((re.fullmatch(pattern, layer), name) for pattern, name in patterns)
    return next((match.expand(name) for match, name in matches if match), None)


def _with_rgb(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = "pyramid/conv1a/kernel"
    return {**weights, first: weights[first][:, :, ::-1]}


def _with_mean_cost(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels for the mean over channels from kernels for the sum."""
    scaled = dict(weights)
    for level in _levels(weights):
        channels = weights[f"pyramid/conv{level}b/kernel"].shape[3]
        for name, axis, parts in _readers(weights, level):
            kernel = np.moveaxis(scaled[name].copy(), axis, -1)
            start = sum(parts[:-1])
            kernel[..., start : start + _cost_channels(weights)] *= channels
            scaled[name] = np.moveaxis(kernel, -1, axis)
    return scaled


def _with_new_order(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels that read activations newest first, from those of PWCDCNet_old."""
    ordered = dict(weights)
    for level in _levels(weights):
        for name, axis, parts in _readers(weights, level):
            count = len(parts) - 1  # of the activations; the inputs are the part number `count`
            later = range(count - 3, -1, -1)  # from the third activation on
            before = [count, *([count - 1] if count else []), *later]  # as the old network has them
            if count > 1:
                before.insert(0, count - 2)  # the second activation
            ends = dict(zip(before, np.cumsum([parts[part] for part in before]), strict=True))
            index = [np.arange(ends[part] - size, ends[part]) for part, size in enumerate(parts)]
            ordered[name] = np.take(ordered[name], np.concatenate(index), axis)
    return ordered


def _levels(weights: Mapping[str, np.ndarray]) -> list[int]:
    return [level for level in range(1, 10) if f"estimator{level}/flow/kernel" in weights]


def _cost_channels(weights: Mapping[str, np.ndarray]) -> int:
    coarsest = max(_levels(weights))
    return weights[f"estimator{coarsest}/conv0/kernel"].shape[2]


def _readers(weights: Mapping[str, np.ndarray], level: int) -> Iterator[tuple[str, int, list[int]]]:
    """The kernels that read what an estimator was given and made.

    For each its name, the axis of what it reads, and the channels of the parts of that: the
    activations, newest first, and then the inputs.
    """
    first = weights[f"estimator{level}/conv0/kernel"]
    parts = [first.shape[2]]
    yield f"estimator{level}/conv0/kernel", 2, parts
    number = 0
    while (name := f"estimator{level}/conv{number}/kernel") in weights:
        parts = [weights[name].shape[3], *parts]
        number += 1
        if (name := f"estimator{level}/conv{number}/kernel") in weights:
            yield name, 2, parts
    ends = ((f"estimator{level}/flow", 2), (f"up_features{level}", 3), (f"context{level}/conv1", 2))
    for layer, axis in ends:
        if f"{layer}/kernel" in weights:
            yield f"{layer}/kernel", axis, parts
