"""Training losses, against values worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.losses import (
    Levels,
    compat_robust_loss,
    full_resolution_loss,
    l2_norm,
    multiscale_loss,
    plus_loss,
    plus_up_loss,
    robust_loss,
)

LEVELS = Levels(weights=[0.5, 2.0], units={2: 20.0, 1: 20.0}, alignment="center")
OPTIONS: dict[str, Any] = {"levels": LEVELS}
ROBUST: dict[str, Any] = {**OPTIONS, "q": 0.5, "epsilon": 0.0}
# What level 2 hands on to level 1: its flow, of two pixels for each.
PLUS_UP: dict[str, Any] = {
    **ROBUST,
    "up_flow": {2: lambda flow: tf.repeat(tf.repeat(flow, 2, axis=1), 2, axis=2)},
    "up_unit": 10.0,
}


def setting() -> tuple[dict[int, tf.Tensor], tf.Tensor, tf.Tensor]:
    """A target of (60, 80) px everywhere, which is (3, 4) in units of 20 px; estimates of zero."""
    target = tf.broadcast_to(tf.constant([60.0, 80.0]), [2, 4, 8, 2])
    flows = {2: tf.zeros([2, 1, 2, 2]), 1: tf.zeros([2, 2, 4, 2])}
    return flows, target, tf.ones([2, 4, 8])


@pytest.mark.parametrize(
    ("loss", "options", "expected"),
    [
        # 2 pixels at the coarser level, 8 at the finer, each off by 5 units.
        (multiscale_loss, OPTIONS, 0.5 * 10 + 2 * 40),
        # The power of each pixel's 3 + 4 units, or of each level's sum.
        (robust_loss, ROBUST, (0.5 * 2 + 2 * 8) * 7**0.5),
        (compat_robust_loss, ROBUST, 0.5 * 14**0.5 + 2 * 56**0.5),
        # 2 pixels of level 2, off by 5 units; 32 of the target, off by 3 + 4 units.
        (plus_loss, ROBUST, 0.5 * 2 * 5 + 2 * 32 * 7**0.5),
        # Level 2 hands on 8 pixels of level 1, off by 6 + 8 units of 10 px.
        (plus_up_loss, PLUS_UP, 0.5 * 8 * 14**0.5 + 2 * 32 * 7**0.5),
    ],
)
def test_a_loss_is_its_formula(loss: Callable, options: dict[str, Any], expected: float) -> None:
    assert loss(*setting(), **options).numpy() == pytest.approx(expected)


def test_full_resolution_compares_every_pixel_of_the_target() -> None:
    flows, target, valid = setting()
    options: dict[str, Any] = {"levels": LEVELS, "q": 0.5, "epsilon": 2.0}
    value = full_resolution_loss(flows, target, valid, **options)
    assert value.numpy() == pytest.approx(2 * 4 * 8 * (7 + 2) ** 0.5)
    flows[1] += tf.constant([3.0, 4.0])  # what the target is
    value = full_resolution_loss(flows, target, valid, **options)
    assert value.numpy() == pytest.approx(2 * 4 * 8 * 2**0.5)


def test_full_resolution_interpolates_the_flow() -> None:
    flow = tf.reshape(tf.constant([0.0, 0.0, 4.0, 0.0]), [1, 1, 2, 2])  # u is 0 and 4
    target, valid = tf.zeros([1, 2, 4, 2]), tf.ones([1, 2, 4])
    for alignment, row in (("center", [0, 1, 3, 4]), ("corner", [0, 2, 4, 4])):
        levels = Levels([1.0], {1: 1.0}, alignment)
        value = full_resolution_loss({1: flow}, target, valid, levels=levels, q=1.0, epsilon=0.0)
        assert value.numpy() == pytest.approx(2 * sum(row))


@pytest.mark.parametrize(
    ("loss", "options", "reach"),  # reach: pixels beyond the valid ones that these interpolate
    [
        (multiscale_loss, OPTIONS, 0),
        (robust_loss, ROBUST, 0),
        (compat_robust_loss, ROBUST, 0),
        (plus_loss, ROBUST, 1),
        (plus_up_loss, PLUS_UP, 1),
    ],
)
@pytest.mark.parametrize("alignment", ["center", "corner"])
def test_invalid_pixels_count_for_nothing_whatever_they_hold(
    loss: Callable, options: dict[str, Any], reach: int, alignment: str
) -> None:
    flows, target, valid = setting()
    options = {**options, "levels": LEVELS._replace(alignment=alignment)}
    half = valid.numpy()
    half[:, :, 4:] = 0
    unknown = target.numpy()
    unknown[:, :, 4:] = np.nan
    halves = {level: flow[:, :, : flow.shape[2] // 2] for level, flow in flows.items()}
    expected = loss(halves, target[:, :, :4], valid[:, :, :4], **options)
    with tf.GradientTape() as tape:
        tape.watch(flows)
        value = loss(flows, tf.constant(unknown), tf.constant(half), **options)
    assert value.numpy() == pytest.approx(expected.numpy())
    for gradient in tape.gradient(value, flows).values():
        assert np.isfinite(gradient).all()
        assert not gradient.numpy()[:, :, gradient.shape[2] // 2 + reach :].any()


def test_the_norm_has_a_gradient_where_it_is_zero() -> None:
    vectors = tf.constant([[0.0, 0.0], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        norms = l2_norm(vectors)
    np.testing.assert_allclose(norms, [0.0, 5.0])
    np.testing.assert_allclose(tape.gradient(norms, vectors), [[0.0, 0.0], [0.6, 0.8]])


def test_without_a_valid_pixel_the_loss_is_0_and_without_a_weight_it_is_refused() -> None:
    flows, target, valid = setting()
    assert multiscale_loss(flows, target, 0 * valid, levels=LEVELS).numpy() == 0
    with pytest.raises(ValueError, match="zip"):
        multiscale_loss(flows, target, valid, levels=LEVELS._replace(weights=[1.0]))
