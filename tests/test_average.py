"""The moving average of the weights."""

import keras
import numpy as np
import tensorflow as tf

from pwc_exp.optimizers import Average


class Numbers(keras.layers.Layer):
    """Three weights."""

    def __init__(self, value: float) -> None:
        super().__init__()
        constant = keras.initializers.Constant(value)
        self.kernel = self.add_weight(name="kernel", shape=(3,), initializer=constant)


def test_it_forgets_fast_at_first_and_by_its_decay_later() -> None:
    trained, twin = Numbers(2.0), Numbers(0.0)
    average = Average(twin, decay=0.9)
    average.start(trained.trainable_variables)
    follow = tf.function(lambda n: average.follow(trained.trainable_variables, n))
    expected = 2.0
    for count, value in ((1, 5.0), (2, -1.0), (1000, 7.0)):
        trained.kernel.assign([value] * 3)
        follow(tf.constant(count))
        decay = min(0.9, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
        np.testing.assert_allclose(np.array(twin.kernel.value), expected, rtol=1e-6)
