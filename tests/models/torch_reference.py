"""The networks of NVlabs, ptlflow and mmflow, from their own weights, in NumPy.

Written after their published code (NVlabs/PWC-Net PyTorch/models/PWCNet.py, ptlflow pwcnet.py,
mmflow pwcnet_decoder.py), in their conventions: [C, H, W], frames in [0, 1].
Kernels are [out, in, 3, 3]. Nothing of pwc_exp is used.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

State = Mapping[str, np.ndarray]
LEVELS = (6, 5, 4, 3, 2)


class Layout(NamedTuple):
    """How a project names and arranges its layers."""

    pyramid: Callable[[int], list[str]]  # level -> convolutions
    estimator: Callable[[int, int], str]  # level, number -> convolution
    head: Callable[[int], str]
    up_flow: Callable[[int], str]
    up_features: Callable[[int], str]
    context: Callable[[int], str]  # number from 1 -> convolution
    contexts: int = 7
    bgr: bool = True
    mean_cost: bool = True
    second_in_front_only: bool = False  # of the activations, as PWCDCNet_old has them


def _nvlabs_pyramid(level: int) -> list[str]:
    order = ("aa", "a", "b") if level == 6 else ("a", "aa", "b")
    return [f"conv{level}{letters}.0" for letters in order]


def _dilated(number: int) -> str:
    return "dc_conv7" if number == 7 else f"dc_conv{number}.0"


NVLABS = Layout(
    pyramid=_nvlabs_pyramid,
    estimator=lambda level, number: f"conv{level}_{number}.0",
    head=lambda level: f"predict_flow{level}",
    up_flow=lambda level: f"deconv{level}",
    up_features=lambda level: f"upfeat{level}",
    context=_dilated,
)
LAYOUTS = {
    "nvlabs": NVLABS,
    "nvlabs old": NVLABS._replace(
        pyramid=lambda level: [f"conv{level}a.0", f"conv{level}b.0"], second_in_front_only=True
    ),
    "ptlflow": NVLABS._replace(bgr=False),
    "ptlflow nodc": NVLABS._replace(contexts=0),
    "mmflow": Layout(
        pyramid=lambda level: [f"encoder.layers.{level - 1}.layers.{i}.conv" for i in range(3)],
        estimator=lambda level, number: (
            f"decoder.decoders.level{level}.dense_net.layers.{number}.layers.conv"
        ),
        head=lambda level: f"decoder.decoders.level{level}.predict_layer",
        up_flow=lambda level: f"decoder.decoders.level{level}.upflow_layer",
        up_features=lambda level: f"decoder.decoders.level{level}.upfeat_layer",
        context=lambda number: (
            f"decoder.post_processor.layers.{number - 1}" + ("" if number == 7 else ".conv")
        ),
        mean_cost=False,
    ),
}
DILATIONS = (1, 2, 4, 8, 16, 1, 1)


def convolve(
    x: np.ndarray, state: State, layer: str, stride: int = 1, dilation: int = 1
) -> np.ndarray:
    kernel, bias = state[f"{layer}.weight"].astype(np.float64), state[f"{layer}.bias"]
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation)))
    result = np.tile(bias.astype(np.float64)[:, None, None], (1, height, width))
    for i in range(3):
        for j in range(3):
            part = padded[:, i * dilation :, j * dilation :][:, :height, :width]
            result += np.einsum("oc,chw->ohw", kernel[:, :, i, j], part)
    return result[:, ::stride, ::stride]


def enlarge(x: np.ndarray, state: State, layer: str) -> np.ndarray:
    kernel, bias = state[f"{layer}.weight"].astype(np.float64), state[f"{layer}.bias"]
    _, height, width = x.shape
    result = np.zeros((kernel.shape[1], 2 * height + 2, 2 * width + 2))
    for i in range(4):
        for j in range(4):
            spread = np.einsum("co,chw->ohw", kernel[:, :, i, j], x)
            result[:, i : i + 2 * height : 2, j : j + 2 * width : 2] += spread
    return result[:, 1:-1, 1:-1] + bias[:, None, None]


def warp(x: np.ndarray, flow: np.ndarray) -> np.ndarray:
    _, height, width = x.shape
    result = np.zeros_like(x)
    for row in range(height):
        for column in range(width):
            u, v = column + flow[0, row, column], row + flow[1, row, column]
            if 0 <= u <= width - 1 and 0 <= v <= height - 1:
                left, top = min(int(u), width - 2), min(int(v), height - 2)
                a, b = u - left, v - top
                corner = x[:, top : top + 2, left : left + 2]
                above = (1 - a) * corner[:, 0, 0] + a * corner[:, 0, 1]
                below = (1 - a) * corner[:, 1, 0] + a * corner[:, 1, 1]
                result[:, row, column] = (1 - b) * above + b * below
    return result


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.1 * x)


def correlate(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    _, height, width = x.shape
    padded = np.pad(other, ((0, 0), (4, 4), (4, 4)))
    shifts = [(i, j) for i in range(9) for j in range(9)]
    return np.stack([(x * padded[:, i : i + height, j : j + width]).sum(0) for i, j in shifts])


def flows(
    state: State, layout: Layout, frame1: np.ndarray, frame2: np.ndarray
) -> dict[int, np.ndarray]:
    """Two frames [H, W, 3], RGB in [0, 1] -> {level: flow [2, H/2^level, W/2^level] / 20}."""
    pyramid1, pyramid2 = (_pyramid(state, layout, frame) for frame in (frame1, frame2))
    found: dict[int, np.ndarray] = {}
    coarser: list[np.ndarray] = []
    for level in LEVELS:
        features1, features2 = pyramid1[level], pyramid2[level]
        if coarser:
            features2 = warp(features2, coarser[0] * {5: 0.625, 4: 1.25, 3: 2.5, 2: 5.0}[level])
        cost = correlate(features1, features2)
        cost = relu(cost / len(features1) if layout.mean_cost else cost)
        x = np.concatenate([cost, features1, *coarser]) if coarser else cost
        for number in range(5):
            activation = relu(convolve(x, state, layout.estimator(level, number)))
            in_front = number == 1 or not layout.second_in_front_only
            x = np.concatenate([activation, x] if in_front else [x, activation])
        found[level] = convolve(x, state, layout.head(level))
        if level > 2:
            coarser = [
                enlarge(found[level], state, layout.up_flow(level)),
                enlarge(x, state, layout.up_features(level)),
            ]
    for number in range(1, layout.contexts + 1):
        x = convolve(x, state, layout.context(number), dilation=DILATIONS[number - 1])
        x = x if number == 7 else relu(x)
    if layout.contexts:
        found[2] = found[2] + x
    return found


def _pyramid(state: State, layout: Layout, frame: np.ndarray) -> dict[int, np.ndarray]:
    x = frame.transpose(2, 0, 1)[::-1] if layout.bgr else frame.transpose(2, 0, 1)
    levels = {}
    for level in range(1, 7):
        for number, layer in enumerate(layout.pyramid(level)):
            x = relu(convolve(x, state, layer, stride=2 if number == 0 else 1))
        levels[level] = x
    return levels


def random_state(
    layout: Layout,
    *,
    pyramid: tuple[int, ...],
    estimator: tuple[int, ...],
    context: tuple[int, ...],
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Weights of a project's network, float32, of a spread that keeps signals going."""
    rng = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {}

    def add(layer: str, inputs: int, outputs: int, *, transposed: bool = False) -> None:
        shape = (inputs, outputs, 4, 4) if transposed else (outputs, inputs, 3, 3)
        spread = np.sqrt(2 / (inputs * (4 if transposed else 9)))
        state[f"{layer}.weight"] = rng.normal(0, spread, shape).astype(np.float32)
        state[f"{layer}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)

    inputs = 3
    for level, channels in enumerate(pyramid, start=1):
        for layer in layout.pyramid(level):
            add(layer, inputs, channels)
            inputs = channels
    for level in LEVELS:
        inputs = 81 + (0 if level == 6 else pyramid[level - 1] + 4)
        for number, channels in enumerate(estimator):
            add(layout.estimator(level, number), inputs, channels)
            inputs += channels
        add(layout.head(level), inputs, 2)
        if level > 2:
            add(layout.up_flow(level), 2, 2, transposed=True)
            add(layout.up_features(level), inputs, 2, transposed=True)
    for number in range(1, layout.contexts + 1):
        channels = 2 if number == 7 else context[number - 1]
        add(layout.context(number), inputs, channels)
        inputs = channels
    return state
