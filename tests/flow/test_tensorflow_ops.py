"""Operations with gradients of their own, against the portable versions."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import machine
from pwc_exp.flow import tensorflow_ops
from pwc_exp.flow.convolution import Geometry, portable_convolution
from pwc_exp.flow.cost_volume import (
    cost_volume,
    normalize,
    portable_cost_volume,
    portable_normalize,
)
from pwc_exp.flow.warp import BORDERS, backward_warp, portable_backward_warp

rng = np.random.default_rng(7)


def random(*shape: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.cast(rng.standard_normal(shape), dtype)


def with_gradients(operation: Callable[..., tf.Tensor], *arguments: tf.Tensor) -> list[tf.Tensor]:
    """The result and the gradients of all arguments."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        result = operation(*arguments)
    upstream = tf.cos(tf.reshape(tf.range(tf.size(result), dtype=tf.float32), result.shape))
    return [result, *tape.gradient(result, arguments, tf.cast(upstream, result.dtype))]


@pytest.mark.parametrize(
    ("fast", "portable", "arguments"),
    [
        (
            partial(cost_volume, search_range=2),
            partial(portable_cost_volume, search_range=2),
            [random(2, 6, 19, 3), random(2, 6, 19, 3)],
        ),
        *(
            (
                partial(backward_warp, border=border),
                partial(portable_backward_warp, border=border),
                [random(2, 7, 11, 5), spread * random(2, 7, 11, 2)],
            )
            for border in BORDERS
            for spread in (0.5, 6.0)
        ),
        (normalize, portable_normalize, [random(2, 7, 11, 5) + 1]),
        (normalize, portable_normalize, [random(2, 7, 11, 5, dtype=tf.bfloat16)]),
    ],
    ids=["cost volume", *["warp"] * 4, "normalize", "normalize bfloat16"],
)
def test_value_and_gradients_are_those_of_the_portable_version(
    fast: Callable, portable: Callable, arguments: list[tf.Tensor]
) -> None:
    tolerance = 0.02 if arguments[0].dtype == tf.bfloat16 else 2e-5
    pairs = zip(with_gradients(fast, *arguments), with_gradients(portable, *arguments), strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype == arguments[0].dtype
        difference = tf.cast(ours, tf.float32) - tf.cast(theirs, tf.float32)
        assert np.abs(difference).max() < tolerance


CONVOLUTIONS = [
    # stride, dilation, padding, leakiness, channels of the parts, outputs
    (1, 1, "same", 0.1, [5], 16),
    (1, 1, "same", None, [5], 2),
    (1, 1, "same", 0.1, [3, 5, 2], 16),
    (1, 2, "same", 0.1, [5, 1], 16),  # divides the size
    (1, 3, "same", 0.1, [5], 4),  # does not
    (2, 1, "same", 0.1, [3], 16),
    (2, 1, "valid", None, [3], 4),
]


def convolution_case(case: tuple, dtype: tf.DType = tf.float32) -> tuple[list[tf.Tensor], Callable]:
    """Arguments, and (version) -> a function of them."""
    *geometry, leakiness, inputs, outputs = case
    shapes = [(3, 3, sum(inputs), outputs), (outputs,), *((2, 8, 10, count) for count in inputs)]

    def version_of(convolution: Callable) -> Callable[..., tf.Tensor]:
        def operation(kernel: tf.Tensor, bias: tf.Tensor, *parts: tf.Tensor) -> tf.Tensor:
            return convolution(parts, kernel, bias, Geometry(*geometry), leakiness=leakiness)

        return operation

    return [random(*shape, dtype=dtype) for shape in shapes], version_of


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_a_convolution_and_its_gradients_are_those_of_the_portable_version(
    case: tuple, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_avx512", lambda: avx512)
    arguments, version_of = convolution_case(case)
    # Compiled, as that is where TensorFlow fuses operations, not always rightly.
    own, portable = (
        tf.function(partial(with_gradients, version_of(version)))(*arguments)
        for version in (tensorflow_ops.convolution, portable_convolution)
    )
    for ours, theirs in zip(own, portable, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_compiled_convolution_of_parts_is_that_of_the_whole(parts: int) -> None:
    features = [random(1, 16, 32, 24) for _ in range(parts)]
    kernel, bias = random(3, 3, 24 * parts, 32) / 20, tf.Variable(random(32))
    arguments: Any = (features, kernel, bias, Geometry(1, 1, "same"))
    compiled = tf.function(lambda: tensorflow_ops.convolution(*arguments, leakiness=0.1))
    np.testing.assert_allclose(
        compiled(), portable_convolution(*arguments, leakiness=0.1), atol=1e-4
    )


@pytest.mark.parametrize(
    ("dtype", "bfloat16", "computed"),
    [
        (tf.float16, True, tf.float32),
        (tf.bfloat16, False, tf.float32),
        (tf.bfloat16, True, tf.bfloat16),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_half_precision_is_float32_rounded_computed_in_what_the_processor_has(
    case: tuple,
    dtype: tf.DType,
    bfloat16: bool,
    computed: tf.DType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)
    arguments, version_of = convolution_case(case, dtype)
    gradients_of = partial(with_gradients, version_of(tensorflow_ops.convolution))
    half = tf.function(gradients_of).get_concrete_function(*arguments)
    operations = [op for op in half.graph.get_operations() if op.type.startswith("Conv2D")]
    assert len(operations) >= 2
    assert {op.outputs[0].dtype for op in operations} == {computed}
    exact = gradients_of(*(tf.cast(argument, tf.float32) for argument in arguments))
    for ours, expected in zip(half(*arguments), exact, strict=True):
        assert ours.dtype == dtype
        error = tf.norm(tf.cast(ours, tf.float32) - expected) / tf.norm(expected)
        assert error < 0.1  # rounding moves some results to the other side of LeakyReLU's kink
