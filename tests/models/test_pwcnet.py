"""The network: its size, the shapes it gives, and what must not change its flow."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet

SEED = 5
FP32 = PrecisionConfig(policy=Precision.fp32)
Network = Callable[..., PWCNet]


@pytest.fixture(scope="module")
def network(configure: Callable[..., Any]) -> Network:
    """(*overrides) -> a network with fresh weights; built once for each choice."""
    built: dict[tuple[str, ...], PWCNet] = {}

    def get(*overrides: str) -> PWCNet:
        if overrides not in built:
            keras.utils.set_random_seed(SEED)
            built[overrides] = build_model(configure("describe", *overrides).model, FP32)
        return built[overrides]

    return get


@pytest.fixture
def half_precision() -> Iterator[PrecisionConfig]:
    yield PrecisionConfig(policy=Precision.fp16)
    keras.config.set_dtype_policy("float32")


def frames(*shape: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Two unlike pairs of random frames [B, H, W, 3], smooth enough to have features."""
    rng = np.random.default_rng(SEED)
    batch, height, width = shape
    coarse = rng.random((2, batch, height // 8 + 1, width // 8 + 1, 3)).astype(np.float32)
    pair = [tf.image.resize(frame, (height, width), "bicubic") for frame in coarse]
    return tf.clip_by_value(pair[0], 0, 1), tf.clip_by_value(pair[1], 0, 1)


def largest_difference(flow: tf.Tensor, other: tf.Tensor) -> float:
    """In pixels."""
    return float(tf.reduce_max(tf.abs(flow - other)))


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (("model=sm",), 4_705_064),
        (("model=lg",), 14_079_050),
        (("model=official",), 9_374_274),
        (("model=official-old",), 8_749_214),
        (("model=official-nodc",), 8_243_008),  # official without its 1,131,266 of context
        (("model=official-small",), 4_705_064),
        (("model=fast",), 1_300_826),
        (("model=sm", "model.context=all"), 6_774_064),  # tfoptflow with residual connections only
        (("model=lg", "model.context=output"), 9_374_274),  # ... with dense ones only
    ],
    ids=["sm", "lg", "official", "old", "nodc", "small", "fast", "residual", "dense"],
)
def test_the_number_of_parameters_is_the_originals(
    overrides: tuple[str, ...], count: int, network: Network
) -> None:
    assert network(*overrides).count_params() == count


@pytest.mark.parametrize("name", ["sm", "lg", "official"])
def test_flows_come_coarse_to_fine_each_of_the_size_of_its_level(
    name: str, network: Network
) -> None:
    flows = network(f"model={name}")(frames(2, 64, 128))
    assert [(level, tuple(flow.shape)) for level, flow in flows.items()] == [
        (level, (2, 64 // 2**level, 128 // 2**level, 2)) for level in (6, 5, 4, 3, 2)
    ]
    assert all(np.isfinite(flow).all() and np.any(flow) for flow in flows.values())
    assert list(network("model=tiny", "model.output_level=3")(frames(1, 32, 48))) == [4, 3]


def test_batching_does_not_change_a_flow(network: Network) -> None:
    tiny = network("model=tiny")
    frame1, frame2 = frames(3, 32, 64)
    together = tiny.estimate(frame1, frame2)
    assert largest_difference(together[0], together[1]) > 1e-3
    for i in range(3):
        alone = tiny.estimate(frame1[i : i + 1], frame2[i : i + 1])
        assert largest_difference(together[i : i + 1], alone) < 1e-4


@pytest.mark.parametrize("size", [(70, 100), (64, 65), (33, 128)])
def test_frames_of_any_size_are_padded_below_and_right_with_zeros(
    size: tuple[int, int], network: Network
) -> None:
    sm = network("model=sm")
    height, width = size
    pair = frames(1, height, width)
    missing = ((0, 0), (0, -height % 64), (0, -width % 64), (0, 0))
    padded = tuple(tf.constant(np.pad(frame, missing)) for frame in pair)
    whole = sm.full_resolution(sm(padded))
    flow = sm.estimate(*pair)
    assert flow.shape == (1, height, width, 2)
    assert largest_difference(flow, whole[:, :height, :width]) < 1e-4


def test_the_flow_depends_on_which_frame_comes_first(network: Network) -> None:
    tiny = network("model=tiny")
    frame1, frame2 = frames(1, 32, 64)
    forward, backward = tiny.estimate(frame1, frame2), tiny.estimate(frame2, frame1)
    assert largest_difference(forward, backward) > 0.01
    assert largest_difference(forward, -backward) > 0.01


@pytest.mark.parametrize(
    "convention",
    ["warp_border=edge", "stride_padding=same", "upsample_alignment=corner", "level_units=grid"],
)
def test_every_convention_changes_the_flow_of_the_same_weights(
    convention: str, network: Network
) -> None:
    official = network("model=tiny")
    other = network("model=tiny", f"model.{convention}")
    other.set_weights(official.get_weights())
    pair = frames(1, 32, 64)
    assert largest_difference(official.estimate(*pair), other.estimate(*pair)) > 1e-3


@pytest.mark.parametrize(("unit", "pixels"), [("scaled", 20), ("grid", 4)])
def test_the_full_resolution_flow_is_the_finest_one_in_pixels(
    unit: str, pixels: float, network: Network
) -> None:
    tiny = network("model=tiny", f"model.level_units={unit}")
    assert tiny.units == {k: pixels if unit == "scaled" else 2**k for k in (2, 3, 4)}
    flows = {level: tf.fill([1, 8, 12, 2], 10.0 * level) for level in (4, 3, 2)}
    np.testing.assert_allclose(tiny.full_resolution(flows), np.full((1, 32, 48, 2), 20.0 * pixels))


def test_centered_frames_are_in_minus_one_to_one(network: Network) -> None:
    plain, centered = network("model=tiny"), network("model=tiny", "model.center_frames=true")
    frame1, frame2 = frames(1, 32, 64)
    expected, flows = plain((2 * frame1 - 1, 2 * frame2 - 1)), centered((frame1, frame2))
    for level, flow in flows.items():
        np.testing.assert_allclose(flow, expected[level], atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_normalized_features_make_a_channels_mean_meaningless(
    normalize: bool, network: Network
) -> None:
    edge = "model.warp_border=edge"  # which keeps a constant what it is
    tiny = network("model=tiny", edge, f"model.normalize_features={normalize}")
    pyramid1, pyramid2 = tiny.features(*frames(1, 32, 64))
    shifted = {
        level: features + tf.linspace(0.0, 1.0, features.shape[-1])
        for level, features in pyramid2.items()
    }
    flows, of_shifted = tiny.decode(pyramid1, pyramid2), tiny.decode(pyramid1, shifted)
    differences = [largest_difference(flows[level], of_shifted[level]) for level in flows]
    assert max(differences) < 1e-4 if normalize else min(differences) > 1e-3


def test_half_precision_computes_nearly_the_same_flows_in_float32(
    network: Network, configure: Callable[..., Any], half_precision: PrecisionConfig
) -> None:
    single = network("model=tiny")
    half = build_model(configure("describe", "model=tiny").model, half_precision)
    half.set_weights(single.get_weights())
    assert half.pyramid.compute_dtype == "float16"
    assert {variable.dtype for variable in half.variables} == {"float32"}
    pair = frames(1, 32, 64)
    flows, expected = half(pair), single(pair)
    for level, flow in flows.items():
        assert flow.dtype == tf.float32
        error = np.abs(flow - expected[level])
        assert np.median(error) < 0.01
        assert error.max() < 0.1  # where a sample at the border is outside in one precision only
    assert half.estimate(*pair).dtype == tf.float32


def test_variables_have_the_names_that_checkpoints_know_them_by(network: Network) -> None:
    paths = [variable.path for variable in network("model=sm").variables]
    assert len(set(paths)) == len(paths) == 126
    assert {path.split("/")[1] for path in paths} == {
        "pyramid",
        *(f"estimator{level}" for level in (6, 5, 4, 3, 2)),
        *(f"up_{what}{level}" for what in ("flow", "features") for level in (6, 5, 4, 3)),
        "context2",
    }
