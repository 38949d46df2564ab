"""Compiled steps: the original's numbers, and nothing moved where something is not finite."""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import inference
from pwc_exp.build import build_loss, build_model, build_optimizer
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.data.sample import Batch
from pwc_exp.inference import make_estimate, make_eval_step, make_levels
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.tfoptflow import convert
from pwc_exp.training.step import TrainStep, make_train_step

SLOPE, SHIFT = 3.0, 0.5  # weights of `Line`
FP32 = PrecisionConfig(policy=Precision.fp32)


class Line(keras.layers.Layer):
    """A network of one kernel and one bias, whose loss and gradients can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__(name="line")
        constant = keras.initializers.Constant
        self.kernel = self.add_weight(name="kernel", shape=(), initializer=constant(SLOPE))
        self.bias = self.add_weight(name="bias", shape=(), initializer=constant(SHIFT))

    def call(self, frames: tuple[tf.Tensor, tf.Tensor]) -> dict[int, tf.Tensor]:
        return {0: self.kernel * frames[0][..., :2] + self.bias}

    def full_resolution(self, flows: Mapping[int, tf.Tensor]) -> tf.Tensor:
        return flows[0]


def mean_loss(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(flows[0])


def ones(*, value: float = 1.0) -> Batch:
    """Two pairs, of frames that are `value` everywhere; a part of the ground truth is unknown."""
    frame = tf.fill([2, 4, 6, 3], value)
    valid = np.ones((2, 4, 6), np.float32)
    valid[0, :2] = 0
    flow = np.where(valid[..., None] > 0, np.float32(SLOPE + SHIFT - 1), np.float32(np.nan))
    return Batch(frame, frame, tf.constant(flow), tf.constant(valid), tf.range(2, dtype=tf.int64))


def values_of(step: TrainStep, batch: Batch) -> dict[str, float]:
    return {name: float(value) for name, value in step(batch).items()}


def copies(*owners: Any) -> list[np.ndarray]:
    return [variable.numpy().copy() for owner in owners for variable in owner.variables]


def all_equal(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


# One update of the original's own training, and what it gave.


class Recorded(NamedTuple):
    """A step with the original's weights, and the original's numbers."""

    step: TrainStep
    batch: Batch
    expected: Mapping[str, np.ndarray]
    model: PWCNet
    optimizer: keras.optimizers.Optimizer


RECORDED = [
    "sm_robust",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("sm_multiscale", "lg_multiscale", "lg_robust")
    ),
]


@pytest.fixture(scope="module")
def recorded(shared: Path, configure: Callable[..., Any]) -> Callable[[str], Recorded]:
    weights_of = runpy.run_path(str(shared / "parity/make_checkpoint.py"))["weights"]

    def get(name: str) -> Recorded:
        size, loss = name.split("_")
        changes = ["loss=robust", "loss.compat=true"] if loss == "robust" else []
        config = configure("train", f"model={size}", *changes)
        model = build_model(config.model, FP32)
        weights = convert(weights_of(size))
        for variable in model.variables:
            variable.assign(weights[variable.path.removeprefix("pwcnet/")])
        optimizer = (
            keras.optimizers.SGD(1e-4)
            if loss == "robust"
            else keras.optimizers.Adam(1e-4, epsilon=1e-8)
        )
        step = make_train_step(
            model, optimizer, build_loss(config.loss, model), l2=4e-4, l2_biases=True
        )
        with np.load(shared / f"parity/train_{name}_128x192b2.npz") as file:
            arrays = dict(file)
        frame1, frame2 = (tf.constant(arrays[k], tf.float32) / 255 for k in ("img1", "img2"))
        flow = tf.constant(arrays["gt_flow"], tf.float32)
        batch = Batch(frame1, frame2, flow, tf.ones(flow.shape[:3]), tf.range(2, dtype=tf.int64))
        return Recorded(step, batch, arrays, model, optimizer)

    return get


@pytest.mark.parametrize("name", RECORDED)
def test_an_update_is_the_originals_and_one_that_is_not_finite_is_none(
    name: str, recorded: Callable[[str], Recorded]
) -> None:
    case = recorded(name)
    first, second = values_of(case.step, case.batch), values_of(case.step, case.batch)
    expected = case.expected
    gradient_norm = np.sqrt(np.sum(np.square(expected["grad_l2"].astype(np.float64))))
    for received, original in (
        (first["train/flow_loss"], expected["loss_unreg"]),
        (first["train/loss"], expected["loss_total"]),
        (first["train/aepe"], expected["epe"]),
        (first["train/grad_norm"], gradient_norm),
        (second["train/loss"], expected["loss_after_1_step"]),
        (second["train/aepe"], expected["epe_after_1_step"]),
    ):
        assert received == pytest.approx(float(original), rel=1e-4)
    assert first["train/lr"] == pytest.approx(1e-4)
    assert first["applied"] == second["applied"] == 1
    # The same compiled step, to save time.
    before = copies(case.model, case.optimizer)
    frame1 = case.batch.frame1.numpy()
    frame1[1, 60, 90] = np.nan
    results = values_of(case.step, case.batch._replace(frame1=tf.constant(frame1)))
    assert results["applied"] == 0
    assert np.isnan(results["train/loss"])
    assert all_equal(before, copies(case.model, case.optimizer))
    assert case.step.experimental_get_tracing_count() == 1  # type: ignore[attr-defined]


# What a step reports and does, on a network that can be worked out by hand.


@pytest.mark.parametrize(
    ("l2", "l2_biases", "penalty"),
    [(0.1, True, 0.05 * (SLOPE**2 + SHIFT**2)), (0.1, False, 0.05 * SLOPE**2), (0.0, True, 0.0)],
)
def test_the_penalty_is_half_the_sum_of_squares_of_kernels_and_if_asked_of_biases(
    l2: float, l2_biases: bool, penalty: float
) -> None:
    line, sgd = Line(), keras.optimizers.SGD(0.5)
    step = make_train_step(line, sgd, mean_loss, l2=l2, l2_biases=l2_biases)
    results = values_of(step, ones())
    assert results["train/flow_loss"] == pytest.approx(SLOPE + SHIFT)
    assert results["train/loss"] == pytest.approx(SLOPE + SHIFT + penalty)
    gradients = np.array([1 + l2 * SLOPE, 1 + l2 * SHIFT * l2_biases])
    assert results["train/grad_norm"] == pytest.approx(np.linalg.norm(gradients))
    assert results["train/lr"] == 0.5
    np.testing.assert_allclose(copies(line), [SLOPE, SHIFT] - 0.5 * gradients, atol=1e-6)


def test_the_error_is_that_of_the_known_pixels() -> None:
    step = make_train_step(Line(), keras.optimizers.SGD(0.5), mean_loss, l2=0, l2_biases=False)
    assert values_of(step, ones())["train/aepe"] == pytest.approx(np.sqrt(2))
    nothing_known = ones()._replace(valid=tf.zeros([2, 4, 6]))
    assert values_of(step, nothing_known)["train/aepe"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_an_update_that_is_not_finite_is_held_back(value: float) -> None:
    def square(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(flows[0] ** 2)  # of 1e30 infinite in float32

    line, adam = Line(), keras.optimizers.Adam(0.5, name="adam")
    step = make_train_step(line, adam, square, l2=0.1, l2_biases=True)
    assert values_of(step, ones())["applied"] == 1
    before = copies(line, adam)
    assert values_of(step, ones(value=value))["applied"] == 0
    assert all_equal(before, copies(line, adam))
    assert values_of(step, ones())["applied"] == 1
    assert int(adam.iterations) == 2


def test_a_gradient_that_is_not_finite_is_held_back_though_the_loss_is() -> None:
    def root(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(tf.reduce_mean(tf.nn.relu(-flows[0])))

    line, sgd = Line(), keras.optimizers.SGD(0.5)
    results = values_of(make_train_step(line, sgd, root, l2=0, l2_biases=False), ones())
    assert results["train/loss"] == 0
    assert results["applied"] == 0
    np.testing.assert_array_equal(copies(line), [SLOPE, SHIFT])


def test_an_overflow_in_half_precision_lowers_the_scale_and_changes_no_weight() -> None:
    factor = tf.Variable(1e37)

    def loss(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        return factor * tf.reduce_mean(flows[0])

    line, sgd = Line(), keras.optimizers.SGD(0.25)
    scaled = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=2.0**10)
    step = make_train_step(line, scaled, loss, l2=0, l2_biases=False)
    results = values_of(step, ones())
    assert results["applied"] == 0
    assert float(scaled.dynamic_scale) == 2**9
    np.testing.assert_array_equal(copies(line), [SLOPE, SHIFT])
    assert int(sgd.iterations) == 0
    factor.assign(2.0)
    results = values_of(step, ones())
    assert results["applied"] == 1
    assert results["train/grad_norm"] == pytest.approx(np.sqrt(8))  # not scaled
    np.testing.assert_allclose(copies(line), [SLOPE - 0.5, SHIFT - 0.5], atol=1e-6)


# Clipping and decay.


def square_loss(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    return 2 * flows[0][0, 0, 0, 0] ** 2  # of frames that are 1, both gradients are 4 (3 + 0.5)


GRADIENT = 4 * (SLOPE + SHIFT)
NORM = GRADIENT * np.sqrt(2)


@pytest.mark.parametrize(("clip_norm", "length"), [(0.5, 0.5), (NORM * 2, NORM), (None, NORM)])
@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_a_gradient_that_is_too_long_is_cut_to_the_given_norm_and_reported_as_it_was(
    scale: float | None, clip_norm: float | None, length: float
) -> None:
    line, optimizer = Line(), keras.optimizers.SGD(0.5)
    if scale is not None:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
    step = make_train_step(line, optimizer, square_loss, l2=0, l2_biases=False, clip_norm=clip_norm)
    results = values_of(step, ones())
    assert results["train/grad_norm"] == pytest.approx(NORM)
    assert results["applied"] == 1
    expected = np.array([SLOPE, SHIFT]) - 0.5 * length / np.sqrt(2)
    np.testing.assert_allclose(copies(line), expected, rtol=1e-5)


def test_the_penalty_is_clipped_with_the_rest() -> None:
    line, sgd = Line(), keras.optimizers.SGD(1.0)
    step = make_train_step(line, sgd, mean_loss, l2=0.5, l2_biases=True, clip_norm=0.1)
    values_of(step, ones())
    gradient = np.array([1 + 0.5 * SLOPE, 1 + 0.5 * SHIFT])
    expected = [SLOPE, SHIFT] - 0.1 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(copies(line), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, 1e30])
@pytest.mark.parametrize("scaled", [False, True])
def test_clipping_makes_no_update_of_one_that_is_not_finite(value: float, scaled: bool) -> None:
    def loss(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(flows[0])  # of 1e30: finite, as is its gradient, but not its norm

    line = Line()
    optimizer = keras.optimizers.Adam(0.5, name="adam")
    inner = optimizer
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0)
    step = make_train_step(line, optimizer, loss, l2=0, l2_biases=False, clip_norm=1.0)
    assert values_of(step, ones())["applied"] == 1
    before = copies(line, inner)
    assert values_of(step, ones(value=value))["applied"] == 0
    assert all_equal(before, copies(line, inner))


def test_an_update_of_adamw_is_that_of_its_paper(configure: Callable[..., Any]) -> None:
    changes = ("optimizer.weight_decay=0.3", "optimizer.beta_1=0.8", "optimizer.beta_2=0.9")
    config = configure("train", "optimizer=adamw", *changes).optimizer
    line = Line()
    step = make_train_step(
        line,
        build_optimizer(config, 0.1, FP32),
        square_loss,
        l2=config.l2,
        l2_biases=config.l2_biases,
    )
    weights, mean, mean_square = np.array([SLOPE, SHIFT]), 0.0, 0.0
    decayed = np.array([True, False])  # the kernel, not the bias
    for number in (1, 2, 3):
        gradient = 4 * weights.sum()
        assert values_of(step, ones())["train/loss"] == pytest.approx(2 * weights.sum() ** 2)
        mean = 0.8 * mean + 0.2 * gradient
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        direction = mean / (1 - 0.8**number) / np.sqrt(mean_square / (1 - 0.9**number))
        weights = weights - 0.1 * direction - 0.1 * 0.3 * weights * decayed
        np.testing.assert_allclose(copies(line), weights, rtol=1e-5)


def test_a_training_step_is_traced_once() -> None:
    traces = []

    def loss(flows: Mapping[int, tf.Tensor], target: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        traces.append(1)
        return mean_loss(flows, target, valid)

    step = make_train_step(Line(), keras.optimizers.SGD(0.5), loss, l2=0.1, l2_biases=True)
    for value in (0.5, 1.0, 2.0):
        step(ones(value=value))
    assert len(traces) == 1


# Steps that change nothing.


@pytest.fixture(scope="module")
def tiny(configure: Callable[..., Any]) -> PWCNet:
    keras.utils.set_random_seed(3)
    return build_model(configure("describe", "model=tiny").model, FP32)


def random_batch(count: int, height: int, width: int, *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    frame1, frame2 = rng.random((2, count, height, width, 3)).astype(np.float32)
    flow = rng.standard_normal((count, height, width, 2)).astype(np.float32) * 4
    valid = (rng.random((count, height, width)) > 0.3).astype(np.float32)
    flow[valid == 0] = np.nan
    arrays = (frame1, frame2, flow, valid, np.arange(count))
    return Batch(*(tf.constant(array) for array in arrays))


def test_evaluation_sums_the_errors_of_each_sample() -> None:
    batch = random_batch(3, 8, 12)
    step = make_eval_step(lambda frame1, frame2: frame2[..., :2] - 5 * frame1[..., 1:])
    estimate = batch.frame2.numpy()[..., :2] - 5 * batch.frame1.numpy()[..., 1:]
    sums = {name: value.numpy() for name, value in step(batch).items()}
    for i in range(3):
        known = batch.valid[i].numpy() > 0
        target = batch.flow[i].numpy()[known]
        error = np.linalg.norm(estimate[i][known] - target, axis=-1)
        assert 0 < (error > 3).sum() < known.sum()
        assert sums["valid_pixels"][i] == known.sum()
        assert sums["aepe"][i] == pytest.approx(error.sum(), rel=1e-5)
        assert sums["outlier_3px"][i] == (error > 3).sum()
        outlier = (error > 3) & (error > 0.05 * np.linalg.norm(target, axis=-1))
        assert sums["fl_all"][i] == outlier.sum()


def test_evaluation_is_traced_once_for_each_size(tiny: PWCNet) -> None:
    estimate = make_estimate(tiny, xla=False)
    step: Any = make_eval_step(estimate)
    for seed in range(3):
        step(random_batch(1, 32, 48, seed=seed))
    assert step.experimental_get_tracing_count() == 1


def test_levels_are_in_pixels_and_end_in_the_estimate(tiny: PWCNet) -> None:
    batch = random_batch(1, 30, 40)
    levels = make_levels(tiny)(batch)
    estimate = tiny.estimate(batch.frame1, batch.frame2)
    np.testing.assert_allclose(levels.estimate, estimate, atol=1e-3)
    assert [flow.shape[1:3] for flow in levels.flows.values()] == [(2, 3), (4, 6), (8, 12)]
    whole = keras.ops.image.resize(levels.flows[2], (32, 48), interpolation="bilinear")
    np.testing.assert_allclose(levels.estimate, whole[:, :30, :40], atol=1e-3)


@pytest.mark.parametrize(
    ("pays", "asked", "compiled"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_the_decoder_is_compiled_where_that_pays_and_is_asked_for(
    pays: bool, asked: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Network:
        decode = staticmethod(tf.identity)
        decoder: Any = None

        def estimate(
            self, frame1: tf.Tensor, frame2: tf.Tensor, *, decode: Any = None
        ) -> tf.Tensor:
            self.decoder = decode
            return frame2

    network: Any = Network()
    monkeypatch.setattr(inference, "xla_pays", lambda: pays)
    estimate = make_estimate(network, xla=asked)
    np.testing.assert_array_equal(estimate(tf.zeros([2]), tf.ones([2])), [1, 1])
    assert (network.decoder is not None) == compiled


def test_an_estimate_that_is_not_finite_has_no_finite_error() -> None:
    step = make_eval_step(lambda frame1, frame2: frame1[..., :2] * np.nan)
    assert np.isnan(step(random_batch(2, 8, 12))["aepe"]).all()
