"""The operations that TensorFlow runs much faster with hand-written gradients.

Each equals its portable version (tests hold them to it). Why they exist: the automatic gradient of
a cost volume or a warp moves many times the memory that it needs, a dilated convolution has none of
its own on a CPU, and a filter gradient has several formulations, each fastest somewhere.

Letters: B batch, H height, W width, C channels, r search range.
"""

import functools
import os
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import tensorflow as tf

from pwc_exp import machine
from pwc_exp.flow.convolution import Geometry
from pwc_exp.flow.cost_volume import VARIANCE_FLOOR, portable_cost_volume, portable_normalize
from pwc_exp.flow.warp import cell_and_fraction, inside, target_coordinates

Gradient = Callable[..., tuple[tf.Tensor, ...]]  # upstream -> that of each argument


def convolution(
    parts: Sequence[tf.Tensor],
    kernel: tf.Tensor,
    bias: tf.Tensor,
    geometry: Geometry,
    *,
    leakiness: float | None,
) -> tf.Tensor:
    """See `pwc_exp.flow.convolution.convolution`; for a CPU.

    Half precision that the processor has no arithmetic for is computed in float32 and rounded, as
    a GPU does: TensorFlow's own convolutions are then up to 30 times slower than float32.
    """
    dtype = parts[0].dtype
    native = dtype == tf.bfloat16 and machine.has_bfloat16()  # no CPU computes in float16
    compute = dtype if native else tf.float32
    sizes = [part.shape[-1] for part in parts]
    stride, dilation, padding = geometry

    @tf.custom_gradient
    def operation(
        kernel: tf.Tensor, bias: tf.Tensor, *parts: tf.Tensor
    ) -> tuple[tf.Tensor, Gradient]:
        kernels = tf.split(tf.cast(kernel, compute), sizes, axis=2)
        result, *others = [
            tf.nn.conv2d(
                tf.cast(part, compute), part_kernel, stride, padding.upper(), dilations=dilation
            )
            for part, part_kernel in zip(parts, kernels, strict=True)
        ]
        for other in others:
            result += other
        # This very operation is what oneDNN fuses. It must come after the sum: of convolution,
        # bias, sum and LeakyReLU in this order, TensorFlow 2.21 makes one operation that is wrong.
        result = tf.nn.bias_add(result, tf.cast(bias, compute))
        if leakiness is not None:
            result = tf.nn.leaky_relu(result, leakiness)
        result = tf.cast(result, dtype)

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if leakiness is not None:  # the result has the sign of what went in
                upstream = tf.raw_ops.LeakyReluGrad(
                    gradients=upstream, features=result, alpha=leakiness
                )
            upstream = tf.cast(upstream, compute)
            into_kernels = [
                _filter_gradient(tf.cast(part, compute), upstream, geometry) for part in parts
            ]
            into_parts = [
                _input_gradient(part.shape, part_kernel, upstream, geometry)
                for part, part_kernel in zip(parts, kernels, strict=True)
            ]
            into_bias = tf.reduce_sum(upstream, axis=(0, 1, 2))
            gradients = (tf.concat(into_kernels, axis=2), into_bias, *into_parts)
            return tuple(tf.cast(gradient, dtype) for gradient in gradients)

        return result, backward

    return operation(tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias), *parts)


def _dilates_gradients() -> bool:
    """Whether TensorFlow's own convolution gradients, of oneDNN, are fastest and take dilations.

    Without AVX-512, oneDNN's filter gradient reaches a third of a matrix product's rate. Without
    oneDNN there are none for dilated convolutions.
    """
    return machine.has_avx512() and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"


def _attributes(geometry: Geometry) -> dict[str, Any]:
    """Those of TensorFlow's own gradients."""
    stride, dilation, padding = geometry
    strides, dilations = [1, stride, stride, 1], [1, dilation, dilation, 1]
    return {"strides": strides, "dilations": dilations, "padding": padding.upper()}


def _input_gradient(
    shape: tf.TensorShape, kernel: tf.Tensor, upstream: tf.Tensor, geometry: Geometry
) -> tf.Tensor:
    """The gradient [B, H, W, C in] of a convolution."""
    native = upstream.dtype == tf.bfloat16 and _dilates_gradients()
    if geometry.stride > 1 or native:
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape, filter=kernel, out_backprop=upstream, **_attributes(geometry)
        )
    turned = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
    return tf.nn.conv2d(upstream, turned, 1, "SAME", dilations=geometry.dilation)


def _filter_gradient(features: tf.Tensor, upstream: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """The gradient [3, 3, C in, C out] of a convolution."""
    height, width, inputs = features.shape[1:]
    outputs, dilation = upstream.shape[-1], geometry.dilation
    if geometry.stride > 1 or _dilates_gradients():
        return tf.raw_ops.Conv2DBackpropFilter(
            input=features,
            filter_sizes=[3, 3, inputs, outputs],
            out_backprop=upstream,
            **_attributes(geometry),
        )
    if dilation > 1 and height % dilation == 0 and width % dilation == 0:
        # Of every d-th pixel, a dilated convolution is a plain one.
        features, upstream = _phases(features, dilation), _phases(upstream, dilation)
        dilation, height, width = 1, height // dilation, width // dilation
    # One matrix product of the features with nine shifted copies of `upstream`.
    d = dilation
    padded = tf.pad(upstream, [[0, 0], [d, d], [d, d], [0, 0]])
    shifts = product((2 * d, d, 0), repeat=2)
    shifted = [padded[:, y : y + height, x : x + width] for y, x in shifts]
    columns = tf.reshape(tf.concat(shifted, axis=-1), [-1, 9 * outputs])
    kernels = tf.matmul(tf.reshape(features, [-1, inputs]), columns, transpose_a=True)
    return tf.transpose(tf.reshape(kernels, [inputs, 3, 3, outputs]), [1, 2, 0, 3])


def _phases(values: tf.Tensor, step: int) -> tf.Tensor:
    """[B, H, W, C] -> [step² B, H/step, W/step, C]: each image holds every `step`-th pixel."""
    _, height, width, channels = values.shape
    small = (height // step, width // step)
    grid = tf.reshape(values, [-1, small[0], step, small[1], step, channels])
    return tf.reshape(tf.transpose(grid, [2, 4, 0, 1, 3, 5]), [-1, *small, channels])


@functools.cache
def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors, which TensorFlow runs as one operation, without copies between."""
    return tf.function(function, jit_compile=True)


def xla_pays() -> bool:
    """Whether XLA runs the decoder faster than single operations do.

    Without AVX-512, oneDNN's convolutions of one large image fall to a third of the rate of XLA's;
    with it they are ahead.
    """
    return on_cpu() and not machine.has_avx512()


@functools.cache
def on_cpu() -> bool:
    """Whether no GPU is visible; cuDNN needs no help with convolutions."""
    return not tf.config.list_physical_devices("GPU")


@functools.cache
def make_cost_volume(search_range: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """See `pwc_exp.flow.cost_volume.cost_volume`."""
    r = search_range

    @tf.function(jit_compile=True)
    def backward(
        features1: tf.Tensor, warped2: tf.Tensor, upstream: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        height, width, channels = features1.shape[1:]
        border = [[0, 0], [r, r], [r, r], [0, 0]]
        scaled = tf.cast(upstream, tf.float32) / channels
        padded2 = tf.pad(tf.cast(warped2, tf.float32), border)
        # With k the channel of a displacement d: cost_k(x) = f1(x) · w2(x + d), hence
        # ∂f1(x) = Σ g_k(x) w2(x + d) and ∂w2(x) = Σ g_k(x - d) f1(x - d).
        padded1 = tf.pad(tf.cast(features1, tf.float32), border)
        padded_upstream = tf.pad(scaled, border)
        gradient1, gradient2 = 0.0, 0.0
        for k, (y, x) in enumerate(product(range(2 * r + 1), repeat=2)):
            gradient1 += scaled[..., k : k + 1] * padded2[:, y : y + height, x : x + width]
            rows = slice(2 * r - y, 2 * r - y + height)
            columns = slice(2 * r - x, 2 * r - x + width)
            shifted_upstream = padded_upstream[:, rows, columns, k : k + 1]
            gradient2 += shifted_upstream * padded1[:, rows, columns]
        return tf.cast(gradient1, features1.dtype), tf.cast(gradient2, warped2.dtype)

    @tf.custom_gradient
    def operation(features1: tf.Tensor, warped2: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        costs = portable_cost_volume(features1, warped2, search_range=r)
        return costs, lambda upstream: backward(features1, warped2, upstream)

    return operation


@tf.custom_gradient
def normalize(features: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """See `pwc_exp.flow.cost_volume.normalize`."""
    return portable_normalize(features), lambda upstream: _normalization_gradient(
        features, upstream
    )


@tf.function(jit_compile=True)
def _normalization_gradient(features: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    # With y = scale · (x - mean): ∂x = scale · (g - mean(g) - y mean(g y)).
    values, upstream = tf.cast(features, tf.float32), tf.cast(upstream, tf.float32)
    centered = values - _mean(values)
    scale = tf.math.rsqrt(_mean(tf.square(centered)) + VARIANCE_FLOOR)
    result = centered * scale
    into_values = scale * (upstream - _mean(upstream) - result * _mean(upstream * result))
    return tf.cast(into_values, features.dtype)


def _mean(values: tf.Tensor) -> tf.Tensor:  # [B, H, W, C] -> [B, 1, 1, C]
    return tf.reduce_mean(values, axis=(1, 2), keepdims=True)


class _Corners(NamedTuple):
    """The four pixels around each sample: [B·H·W] indices into flat features, and weights."""

    index: tf.Tensor  # of the upper left pixel
    offsets: tuple[int, int, int, int]
    ax: tf.Tensor  # [B·H·W, 1], place between left and right
    ay: tf.Tensor
    seen: tf.Tensor  # [B·H·W, 1], 1 where the sample counts
    free_x: tf.Tensor  # 1 where moving the sample changes the value
    free_y: tf.Tensor


@functools.cache
def make_backward_warp(border: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """See `pwc_exp.flow.warp.backward_warp`; the flow must be float32."""

    @tf.function(jit_compile=True)
    def forward(features: tf.Tensor, flow: tf.Tensor) -> tf.Tensor:
        corners = _corners(flow, border)
        upper_left, upper_right, lower_left, lower_right = _gather(features, corners)
        top = upper_left + corners.ax * (upper_right - upper_left)
        bottom = lower_left + corners.ax * (lower_right - lower_left)
        sampled = corners.seen * (top + corners.ay * (bottom - top))
        return tf.cast(tf.reshape(sampled, features.shape), features.dtype)

    @tf.function(jit_compile=True)
    def backward(
        features: tf.Tensor, flow: tf.Tensor, upstream: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        corners = _corners(flow, border)
        ax, ay = corners.ax, corners.ay
        channels = features.shape[-1]
        grad = corners.seen * tf.reshape(tf.cast(upstream, tf.float32), [-1, channels])
        weights = ((1 - ax) * (1 - ay), ax * (1 - ay), (1 - ax) * ay, ax * ay)
        into_features = tf.zeros([grad.shape[0], channels])
        for offset, weight in zip(corners.offsets, weights, strict=True):
            at = (corners.index + offset)[:, None]
            into_features = tf.tensor_scatter_nd_add(into_features, at, weight * grad)
        upper_left, upper_right, lower_left, lower_right = _gather(features, corners)
        by_x = (1 - ay) * (upper_right - upper_left) + ay * (lower_right - lower_left)
        by_y = (1 - ax) * (lower_left - upper_left) + ax * (lower_right - upper_right)
        into_x = tf.reduce_sum(grad * by_x, axis=-1) * corners.free_x
        into_y = tf.reduce_sum(grad * by_y, axis=-1) * corners.free_y
        into_flow = tf.reshape(tf.stack([into_x, into_y], axis=-1), flow.shape)
        return tf.cast(tf.reshape(into_features, features.shape), features.dtype), into_flow

    @tf.custom_gradient
    def operation(features: tf.Tensor, flow: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return forward(features, flow), lambda upstream: backward(features, flow, upstream)

    return operation


def _corners(flow: tf.Tensor, border: str) -> _Corners:
    batch, height, width = flow.shape[:3]
    x, y = target_coordinates(flow)
    x0, ax = cell_and_fraction(x, width)
    y0, ay = cell_and_fraction(y, height)
    rows = tf.reshape(tf.range(batch) * height, [-1, 1, 1]) + y0
    zero = border == "zero"
    seen = tf.cast(inside(x, y, height, width), tf.float32) if zero else tf.ones_like(ax)

    def flat(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1])

    return _Corners(
        index=flat(rows * width + x0),
        offsets=(0, 1, width, width + 1),
        ax=flat(ax)[:, None],
        ay=flat(ay)[:, None],
        seen=flat(seen)[:, None],
        free_x=flat(tf.cast((x >= 0) & (x <= width - 1), tf.float32)),
        free_y=flat(tf.cast((y >= 0) & (y <= height - 1), tf.float32)),
    )


def _gather(features: tf.Tensor, corners: _Corners) -> list[tf.Tensor]:
    flat = tf.reshape(features, [-1, features.shape[-1]])
    return [
        tf.cast(tf.gather(flat, corners.index + offset), tf.float32) for offset in corners.offsets
    ]
