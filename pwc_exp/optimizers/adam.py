"""Adam and AdamW with Keras's numbers, in half as many operations; average of the weights."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras's Adam, or with `weight_decay` its AdamW; bits, names and variables are the same.

    What all weights share is computed once, and each sum of a product is one operation.
    TensorFlow's `ResourceApplyAdam`, one operation for each weight, rounds 1 - beta otherwise: the
    second moments differ by 1e-5 of their value.
    """

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Is part of the update."""

    def _backend_update_step(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
    ) -> None:
        rate = tf.cast(learning_rate, tf.float32)
        number = tf.cast(self.iterations.value + 1, tf.float32)
        bias1, bias2 = (1.0 - tf.pow(beta, number) for beta in (self.beta_1, self.beta_2))
        variables = [variable.value for variable in trainable_variables]
        tf.__internal__.distribute.interim.maybe_merge_call(
            self._update,
            self._distribution_strategy,
            self._all_reduce_sum_gradients(list(zip(grads, variables, strict=True))),
            rate,
            rate * tf.sqrt(bias2) / bias1,
        )

    def _update(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[tuple[tf.Tensor, tf.Variable]],
        rate: tf.Tensor,
        corrected_rate: tf.Tensor,
    ) -> None:
        for gradient, variable in gradients:
            strategy.extended.update(
                variable, self._update_one, args=(gradient, rate, corrected_rate), group=False
            )

    def _update_one(
        self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor, corrected_rate: tf.Tensor
    ) -> None:
        index = self._get_variable_index(variable)
        mean, mean_square = self._momentums[index].value, self._velocities[index].value
        _subtract(mean, self.beta_1 - 1.0, gradient - mean)
        _subtract(mean_square, self.beta_2 - 1.0, tf.square(gradient) - mean_square)
        if self.weight_decay is not None and self._use_weight_decay(variable):
            # Keras's own expression: TensorFlow may reorder its products, and here does so alike.
            variable.assign_sub(variable * self.weight_decay * rate)
        variable.assign_sub(mean * corrected_rate / (tf.sqrt(mean_square) + self.epsilon))


def _subtract(variable: tf.Variable, factor: tf.Tensor | float, values: tf.Tensor) -> None:
    """Subtracts factor · values."""
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=factor, delta=values)


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
