"""Training losses, against values worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.flow.losses import compat_robust_loss, l2_norm, multiscale_loss, robust_loss

OPTIONS: dict[str, Any] = {
    "level_weights": [0.5, 2.0],
    "units": {2: 20.0, 1: 20.0},
    "alignment": "center",
}
ROBUST: dict[str, Any] = {**OPTIONS, "q": 0.5, "epsilon": 0.0}


def setting() -> tuple[dict[int, tf.Tensor], tf.Tensor, tf.Tensor]:
    """A target of (60, 80) px everywhere, which is (3, 4) in units of 20 px; estimates of zero."""
    target = tf.broadcast_to(tf.constant([60.0, 80.0]), [2, 4, 8, 2])
    flows = {2: tf.zeros([2, 1, 2, 2]), 1: tf.zeros([2, 2, 4, 2])}
    return flows, target, tf.ones([2, 4, 8])


def test_multiscale_weighs_each_levels_sum_of_errors() -> None:
    # 2 pixels at the coarser level, 8 at the finer, each off by 5 units.
    assert multiscale_loss(*setting(), **OPTIONS).numpy() == pytest.approx(0.5 * 10 + 2 * 40)


def test_robust_takes_the_power_of_each_pixel() -> None:
    expected = (0.5 * 2 + 2 * 8) * 7**0.5
    assert robust_loss(*setting(), **ROBUST).numpy() == pytest.approx(expected)


def test_compat_robust_takes_the_power_of_each_levels_sum() -> None:
    expected = 0.5 * 14**0.5 + 2 * 56**0.5
    assert compat_robust_loss(*setting(), **ROBUST).numpy() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss", "options"),
    [(multiscale_loss, OPTIONS), (robust_loss, ROBUST), (compat_robust_loss, ROBUST)],
)
@pytest.mark.parametrize("alignment", ["center", "corner"])
def test_invalid_pixels_count_for_nothing_whatever_they_hold(
    loss: Callable, options: dict[str, Any], alignment: str
) -> None:
    flows, target, valid = setting()
    options = {**options, "alignment": alignment}
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
        assert not gradient.numpy()[:, :, gradient.shape[2] // 2 :].any()


def test_a_batch_without_any_valid_pixel_has_zero_loss() -> None:
    flows, target, valid = setting()
    assert multiscale_loss(flows, target, 0 * valid, **OPTIONS).numpy() == 0


def test_the_norm_has_a_gradient_where_it_is_zero() -> None:
    vectors = tf.constant([[0.0, 0.0], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        norms = l2_norm(vectors)
    np.testing.assert_allclose(norms, [0.0, 5.0])
    np.testing.assert_allclose(tape.gradient(norms, vectors), [[0.0, 0.0], [0.6, 0.8]])


def test_a_level_without_a_weight_is_refused() -> None:
    flows, target, valid = setting()
    with pytest.raises(ValueError, match="zip"):
        multiscale_loss(flows, target, valid, **{**OPTIONS, "level_weights": [1.0]})
