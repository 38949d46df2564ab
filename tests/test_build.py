"""Every choice of a configuration becomes the object that it names."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import build, machine
from pwc_exp.build import (
    build_augment,
    build_loss,
    build_model,
    build_optimizer,
    build_schedule,
    build_source,
    index,
)
from pwc_exp.config.data import Split
from pwc_exp.config.training import LossConfig, OptimizerConfig, ScheduleConfig
from pwc_exp.data.sample import Example
from pwc_exp.errors import ConfigError
from pwc_exp.flow import losses
from pwc_exp.models.pwcnet import PWCNet

SMALL = ("model=tiny", "data.crop=[32,48]")
PAPER = [0.02, 0.01, 0.005]  # of levels 4, 3 and 2
PLUS = [0.02, 0.01, 0.0005]  # of levels 4 and 3, and at full resolution


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def tiny(configure: Callable[..., Any]) -> PWCNet:
    config = configure("train", *SMALL)
    return build_model(config.model, config.precision)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_a_processor_without_bfloat16_is_reported_once(
    bfloat16: bool,
    configure: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(build, "on_cpu", lambda: True)
    build._say_that_bfloat16_is_missing.cache_clear()
    for precision in ("fp32", "fp16", "bf16", "bf16"):
        config = configure("train", *SMALL, f"precision={precision}")
        build_model(config.model, config.precision)
    assert capsys.readouterr().err.count(build.NO_BFLOAT16) == (not bfloat16)


def random_flows() -> tuple[dict[int, tf.Tensor], tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(4)
    flows = {k: rng.standard_normal((1, 32 >> k, 48 >> k, 2)).astype("f4") for k in (4, 3, 2)}
    target = rng.standard_normal((1, 32, 48, 2)).astype("f4") * 9
    valid = (rng.random((1, 32, 48)) > 0.2).astype("f4")
    return {k: tf.constant(flow) for k, flow in flows.items()}, *map(tf.constant, (target, valid))


@pytest.mark.parametrize(
    ("overrides", "function"),
    [
        (["loss=multiscale"], losses.multiscale_loss),
        (["loss=robust"], partial(losses.robust_loss, q=0.4, epsilon=0.01)),
        (
            ["loss=robust", "loss.compat=true", "loss.q=0.7", "loss.epsilon=0.1"],
            partial(losses.compat_robust_loss, q=0.7, epsilon=0.1),
        ),
    ],
    ids=["multiscale", "robust", "compat"],
)
@pytest.mark.parametrize("weights", [None, [3.0, 2.0, 1.0]], ids=["paper", "own"])
def test_a_loss_is_the_chosen_function_with_the_networks_units(
    overrides: list[str],
    function: Callable[..., tf.Tensor],
    weights: list[float] | None,
    configure: Callable[..., Any],
    tiny: PWCNet,
) -> None:
    chosen = [] if weights is None else [f"loss.level_weights={weights}"]
    loss = build_loss(configure("train", *SMALL, *overrides, *chosen).loss, tiny)
    levels = losses.Levels(weights or PAPER, {4: 20, 3: 20, 2: 20}, "center")
    expected = function(*random_flows(), levels=levels)
    assert float(loss(*random_flows())) == pytest.approx(float(expected))


@pytest.mark.parametrize(("judged", "q"), [("flow", 0.4), ("up_flow", 0.2)])
def test_plus_judges_a_level_by_its_flow_or_by_what_the_next_starts_from(
    judged: str, q: float, configure: Callable[..., Any], tiny: PWCNet
) -> None:
    loss = build_loss(
        configure("train", *SMALL, "loss=plus", f"loss.judged={judged}", f"loss.q={q}").loss, tiny
    )
    flows, target, valid = random_flows()
    levels = losses.Levels(PLUS, {4: 20, 3: 20, 2: 20}, "center")
    options: dict[str, Any] = {"levels": levels, "q": q, "epsilon": 0.01}
    with tf.GradientTape() as tape:
        value = loss(flows, target, valid)
    if judged == "flow":
        expected = losses.plus_loss(flows, target, valid, **options)
    else:
        expected = losses.plus_up_loss(
            flows, target, valid, up_flow=tiny.up_flow, up_unit=20.0, **options
        )
    assert float(value) == pytest.approx(float(expected))
    gradient = tape.gradient(value, tiny.up_flow[4].kernel.value)
    assert (gradient is None) == (judged == "flow")


def test_an_unknown_loss_schedule_or_optimizer_is_an_error(
    tiny: PWCNet, configure: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match="loss must be a known configuration"):
        build_loss(LossConfig(), tiny)
    with pytest.raises(TypeError, match="schedule must be a known configuration"):
        build_schedule(ScheduleConfig())
    with pytest.raises(TypeError, match="optimizer must be a known configuration"):
        build_optimizer(OptimizerConfig(), 0.25, configure("train").precision)


def test_the_optimizer_is_adam_with_the_configured_values(configure: Callable[..., Any]) -> None:
    changes = ("optimizer.beta_1=0.8", "optimizer.beta_2=0.95", "optimizer.epsilon=1e-4")
    config = configure("train", *SMALL, *changes)
    adam = build_optimizer(config.optimizer, 0.25, config.precision)
    assert isinstance(adam, keras.optimizers.Adam)
    assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.8, 0.95, 1e-4)
    assert float(adam.learning_rate) == 0.25


def test_weights_that_adamw_decays_are_the_kernels(
    tiny: PWCNet, configure: Callable[..., Any]
) -> None:
    changes = ("optimizer=adamw", "optimizer.weight_decay=0.4", "optimizer.beta_1=0.8")
    config = configure("train", *SMALL, *changes)
    adamw = build_optimizer(config.optimizer, 0.25, config.precision)
    assert isinstance(adamw, keras.optimizers.Adam) and adamw.weight_decay == 0.4
    assert (adamw.beta_1, adamw.beta_2, adamw.epsilon) == (0.8, 0.999, 1e-8)
    weights = [
        keras.Variable(np.ones(w.shape, np.float32), name=w.name) for w in tiny.trainable_variables
    ]
    adamw.apply([tf.zeros(w.shape) for w in weights], weights)
    after = {w.name: set(np.unique(w.numpy()).tolist()) for w in weights}
    assert after == {"kernel": {np.float32(0.9)}, "bias": {1.0}}
    decayed = [w.name == "kernel" for w in weights]
    assert [bool(np.all(w.numpy() < 1)) for w in weights] == decayed


def test_half_precision_scales_the_loss_of_the_same_adam(configure: Callable[..., Any]) -> None:
    config = configure("train", *SMALL, "precision=fp16", "optimizer.epsilon=1e-4")
    scaled = build_optimizer(config.optimizer, 0.25, config.precision)
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert isinstance(scaled.inner_optimizer, keras.optimizers.Adam)
    assert scaled.inner_optimizer.epsilon == 1e-4


def test_precision_holds_for_the_network_that_is_built(configure: Callable[..., Any]) -> None:
    for precision, dtype in (("fp16", "float16"), ("fp32", "float32")):
        config = configure("train", *SMALL, f"precision={precision}")
        model = build_model(config.model, config.precision)
        assert model.estimators[2].head.compute_dtype == dtype
        assert model.variables[0].dtype == "float32"


def test_augmentation_flips_as_often_as_it_is_told(configure: Callable[..., Any]) -> None:
    frame = tf.random.stateless_uniform([16, 24, 3], [1, 2])
    example = Example(frame, frame, tf.ones([16, 24, 2]), tf.ones([16, 24]))
    seed = tf.constant([1, 2], tf.int64)
    never = build_augment(configure("train", *SMALL, "augment=none").augment)
    np.testing.assert_array_equal(never(example, crop=[16, 24], seed=seed).frame1, frame)
    always = configure("train", *SMALL, "augment=basic", "augment.flip_left_right=1.0")
    always.augment.flip_up_down = 0.0
    flipped = build_augment(always.augment)(example, crop=[16, 24], seed=seed)
    np.testing.assert_array_equal(flipped.frame1, frame[:, ::-1])
    np.testing.assert_array_equal(flipped.flow[0, 0], [-1, 1])


def test_generated_scenes_to_validate_are_never_those_that_train(
    configure: Callable[..., Any],
) -> None:
    sizes = ("data.train_size=7", "data.val_size=3")
    data = configure("train", *SMALL, *sizes).data
    train, val, every = (build_source(data, s) for s in (Split.train, Split.val, Split.all))
    assert (train.size, val.size, every.size) == (7, 3, 3)
    first = tf.constant(0, tf.int64)
    assert train.example(first).frame1.shape == (32, 48, 3)
    assert np.any(train.example(first).frame1 != val.example(first).frame1)
    assert every.digest == val.digest != train.digest


def test_generated_scenes_have_no_files_to_list(configure: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="not a data set on disk"):
        index(configure("train", *SMALL).data)
