"""A moving average of the weights, which is often better than the weights themselves."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Average:
    """Exponential moving average of a network's weights, held by a second network.

    In its first updates it forgets faster, as TensorFlow's `ExponentialMovingAverage` does with
    `num_updates`: after n updates the decay is min(decay, (1 + n) / (10 + n)).

    Args:
        model: of the same architecture as the trained one, with weights of its own; it holds the
            average and can be evaluated like any other. On the devices of the strategy in scope.
        decay: share of the average that one update leaves.
    """

    def __init__(self, model: keras.Model, *, decay: float) -> None:
        self.model = model
        self.decay = decay
        self._strategy = tf.distribute.get_strategy()

    def start(self, weights: Sequence[keras.Variable]) -> None:
        """Sets the average to `weights`, in the order of the model's trainable variables."""
        for mean, weight in zip(self.model.trainable_variables, weights, strict=True):
            mean.assign(weight.value)

    def follow(self, weights: Sequence[keras.Variable], updates: tf.Tensor) -> None:
        """Moves the average towards `weights`; in a compiled step, outside of replicas.

        updates: how many there have been, this one included.
        """
        count = tf.cast(updates, tf.float32)
        share = 1.0 - tf.minimum(self.decay, (1.0 + count) / (10.0 + count))

        for mean, weight in zip(self.model.trainable_variables, weights, strict=True):
            self._strategy.extended.update(
                mean.value, _move, args=(weight.value, share), group=False
            )


def _move(mean: tf.Variable, weight: tf.Variable, share: tf.Tensor) -> None:
    mean.assign_sub(share * (mean - weight))
