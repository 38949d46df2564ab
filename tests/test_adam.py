"""Our Adam beside Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.optimizers import Adam

LAYERS = 6
SHAPES = {
    f"conv{number}_{part}": shape
    for number in range(LAYERS)
    for part, shape in (("kernel", (3, 3, 5, 7)), ("bias", (7,)))
}


def trained(
    optimizer: keras.optimizers.Optimizer, *, clip_norm: float | None
) -> tuple[dict[str, bytes], int]:
    """All variables after some steps, with a gradient of 0 among them; operations of a step."""
    rng = np.random.default_rng(2)
    weights = [
        keras.Variable(rng.standard_normal(shape).astype(np.float32), name=name)
        for name, shape in SHAPES.items()
    ]
    optimizer.build(weights)
    optimizer.exclude_from_weight_decay(var_names=["bias"])

    @tf.function
    def step(gradients: list[tf.Tensor]) -> None:
        if clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
        optimizer.apply(gradients, weights)

    for number in range(5):
        size = 0.0 if number == 3 else 10.0**-number
        gradients = [size * rng.standard_normal(shape) for shape in SHAPES.values()]
        step([tf.constant(gradient, tf.float32) for gradient in gradients])
    operations = step.get_concrete_function([w.value for w in weights]).graph.get_operations()
    variables = [*weights, *optimizer.variables]
    return {v.path: np.asarray(v.numpy()).tobytes() for v in variables}, len(operations)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("weight_decay", [None, 0.3])
def test_its_weights_moments_and_names_are_keras_to_the_bit(
    weight_decay: float | None, clip_norm: float | None
) -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.03])
    options = {"learning_rate": schedule, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-7}
    if weight_decay is None:
        theirs = keras.optimizers.Adam(**options, name="adam")
    else:
        theirs = keras.optimizers.AdamW(**options, weight_decay=weight_decay, name="adam")
    ours = Adam(**options, weight_decay=weight_decay, name="adam")
    expected, their_operations = trained(theirs, clip_norm=clip_norm)
    received, our_operations = trained(ours, clip_norm=clip_norm)
    assert received == expected
    assert our_operations < 0.7 * their_operations
