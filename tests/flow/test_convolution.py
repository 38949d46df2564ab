"""The convolution with gradients of its own, against the portable one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import machine
from pwc_exp.flow import tensorflow_ops
from pwc_exp.flow.convolution import portable_convolution

rng = np.random.default_rng(7)
CASES = [
    # stride, dilation, padding, leakiness, channels of the parts, outputs
    (1, 1, "same", 0.1, [5], 16),
    (1, 1, "same", None, [5], 2),
    (1, 1, "same", 0.1, [3, 5, 2], 16),
    (1, 2, "same", 0.1, [5, 1], 16),  # divides the size
    (1, 3, "same", 0.1, [5], 4),  # does not
    (2, 1, "same", 0.1, [3], 16),
    (2, 1, "valid", None, [3], 4),
]


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_portable_version(
    case: tuple, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stride, dilation, padding, leakiness, inputs, outputs = case
    monkeypatch.setattr(machine, "has_avx512", lambda: avx512)
    shapes = [(3, 3, sum(inputs), outputs), (outputs,), *((2, 8, 10, count) for count in inputs)]
    arguments = [tf.constant(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]

    @tf.function  # compiled, as that is where TensorFlow fuses operations, not always rightly
    def with_gradients(version: Callable) -> list[tf.Tensor]:
        kernel, bias, *parts = arguments
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            result = version(
                parts,
                kernel,
                bias,
                stride=stride,
                dilation=dilation,
                padding=padding,
                leakiness=leakiness,
            )
        upstream = tf.cos(tf.reshape(tf.range(tf.size(result), dtype=tf.float32), result.shape))
        return [result, *tape.gradient(result, arguments, upstream)]

    own = with_gradients(tensorflow_ops.convolution)
    for ours, portable in zip(own, with_gradients(portable_convolution), strict=True):
        np.testing.assert_allclose(ours, portable, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_compiled_convolution_of_parts_is_that_of_the_whole(parts: int) -> None:
    shapes = [(1, 16, 32, 24)] * parts
    features = [tf.constant(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
    kernel = tf.constant(rng.standard_normal((3, 3, 24 * parts, 32)).astype(np.float32) / 20)
    bias = tf.Variable(rng.standard_normal(32).astype(np.float32))
    options: dict[str, Any] = {"stride": 1, "dilation": 1, "padding": "same", "leakiness": 0.1}
    compiled = tf.function(lambda: tensorflow_ops.convolution(features, kernel, bias, **options))
    whole = portable_convolution(features, kernel, bias, **options)
    np.testing.assert_allclose(compiled(), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "bfloat16", "computed"),
    [
        (tf.float16, True, {tf.float32}),
        (tf.bfloat16, False, {tf.float32}),
        (tf.bfloat16, True, {tf.bfloat16}),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_is_float32_rounded_computed_in_what_the_processor_has(
    case: tuple,
    dtype: tf.DType,
    bfloat16: bool,
    computed: set[tf.DType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stride, dilation, padding, leakiness, inputs, outputs = case
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)
    shapes = [(3, 3, sum(inputs), outputs), (outputs,), *((2, 8, 10, count) for count in inputs)]
    arguments = [tf.cast(rng.standard_normal(shape), dtype) for shape in shapes]
    options = {"stride": stride, "dilation": dilation, "padding": padding, "leakiness": leakiness}

    def with_gradients(arguments: list[tf.Tensor]) -> list[tf.Tensor]:
        kernel, bias, *parts = arguments
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            result = tensorflow_ops.convolution(parts, kernel, bias, **options)
        upstream = tf.cos(tf.reshape(tf.range(tf.size(result), dtype=tf.float32), result.shape))
        upstream = tf.cast(tf.cast(upstream, dtype), result.dtype)  # the same in both
        return [result, *tape.gradient(result, arguments, upstream)]

    half = tf.function(with_gradients).get_concrete_function(arguments)
    operations = [op for op in half.graph.get_operations() if op.type.startswith("Conv2D")]
    assert len(operations) >= 3
    assert {op.outputs[0].dtype for op in operations} == computed
    exact = with_gradients([tf.cast(argument, tf.float32) for argument in arguments])
    for ours, expected in zip(half(arguments), exact, strict=True):
        assert ours.dtype == dtype
        error = tf.norm(tf.cast(ours, tf.float32) - expected) / tf.norm(expected)
        assert error < 0.1  # rounding moves some results to the other side of LeakyReLU's kink
