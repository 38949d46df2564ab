"""Weights from a network of another size or with other levels: what is taken, and what is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.errors import DataError
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.transfer import Transfer
from pwc_exp.weights import load_weights, transfer_weights

Build = Callable[..., PWCNet]
Frames = tuple[np.ndarray, np.ndarray]

COARSE = "model.output_level=3"  # of 4 levels
COST = 81  # channels of the cost volume
FEATURES = {2: 16, 3: 24}  # channels of the pyramid, by level


@pytest.fixture
def build(configure: Callable[..., Any]) -> Build:
    """(*overrides) -> a `tiny` network of which every variable has random values."""
    seeds = iter(range(100))

    def built(*overrides: str) -> PWCNet:
        config = configure("describe", "model=tiny", *overrides).model
        model = build_model(config, PrecisionConfig(policy=Precision.fp32))
        rng = np.random.default_rng(next(seeds))
        for variable in model.variables:
            variable.assign(rng.normal(0, 0.1, variable.shape))
        return model

    return built


@pytest.fixture
def frames() -> Frames:
    rng = np.random.default_rng(7)
    first, second = rng.random((2, 1, 32, 48, 3), np.float32)
    return first, second


def save(model: PWCNet, path: Path) -> Path:
    arrays = {n: np.asarray(v) for n, v in checkpoints.named_state(model).items()}
    safetensors.numpy.save_file(arrays, path)
    return path


def values(model: PWCNet) -> dict[str, np.ndarray]:
    return {v.path.removeprefix("pwcnet/"): v.numpy() for v in model.variables}


def transferred(source: PWCNet, target: PWCNet, folder: Path) -> Transfer:
    return transfer_weights(target, save(source, folder / "source.safetensors"))[1]


def flows(model: PWCNet, frames: Frames) -> dict[int, np.ndarray]:
    return {level: np.asarray(flow) for level, flow in model(frames).items()}


def channels(*parts: str, level: int) -> np.ndarray:
    """Which input channels of an estimator's first convolution read `parts`."""
    sizes = {"cost": COST, "features": FEATURES[level], "up_flow": 2, "up_features": 2}
    kinds = np.repeat(list(sizes), list(sizes.values()))
    return np.flatnonzero(np.isin(kinds, parts))


def test_levels_that_both_networks_have_estimate_the_same_flow(
    build: Build, frames: Frames, tmp_path: Path
) -> None:
    contexts = "model.context=all"  # with "output", level 3's flow is not refined in the second
    source, target = build(COARSE, contexts), build(contexts)
    expected, before = flows(source, frames), flows(target, frames)
    transferred(source, target, tmp_path)
    found = flows(target, frames)
    assert found.keys() == {4, 3, 2}
    for level in (4, 3):
        assert not np.array_equal(before[level], expected[level])
        assert np.array_equal(found[level], expected[level])


def test_a_finer_level_starts_from_the_finest_that_the_source_has(
    build: Build, tmp_path: Path
) -> None:
    source, target = build(COARSE), build()
    theirs, fresh = values(source), values(target)
    transfer = transferred(source, target, tmp_path)
    now = values(target)

    for name, value in now.items():
        layer, _, rest = name.partition("/")
        origin = {
            "estimator2": f"estimator3/{rest}",
            "context2": f"context3/{rest}",
            "up_flow3": f"up_flow4/{rest}",
            "up_features3": f"up_features4/{rest}",
        }.get(layer, name)
        if name != "estimator2/conv0/kernel":
            assert np.array_equal(value, theirs[origin]), name
        assert transfer.renamed.get(name, name) == origin

    kernel = now["estimator2/conv0/kernel"]
    source_kernel = theirs["estimator3/conv0/kernel"]
    taken = ("cost", "up_flow", "up_features")
    mine, source_channels = channels(*taken, level=2), channels(*taken, level=3)
    assert np.array_equal(kernel[:, :, mine], source_kernel[:, :, source_channels])
    others = channels("features", level=2)
    assert np.array_equal(kernel[:, :, others], fresh["estimator2/conv0/kernel"][:, :, others])
    assert transfer.partial == {"estimator2/conv0/kernel": list(taken)}
    assert not transfer.fresh
    assert not transfer.unused
    text = transfer.summary()
    assert "context2 from context3, estimator2 from estimator3" in text
    assert "in part: estimator2 (1)" in text and "\n" not in text


@pytest.mark.parametrize("dense", ["true", "false"])
def test_input_channels_keep_what_they_read(
    build: Build, frames: Frames, dense: str, tmp_path: Path
) -> None:
    """With features that nothing reads, level 2 estimates as if it were level 3 of the source."""
    chosen = (f"model.dense={dense}", "model.context=none", "model.feature_channels=[8,24,24,32]")
    source, target = build(COARSE, *chosen), build(*chosen)
    transferred(source, target, tmp_path)
    rng = np.random.default_rng(3)
    parts = {"cost": COST, "features": 24, "up_flow": 2, "up_features": 2}
    inputs = np.concatenate([rng.random((1, 8, 8, n), np.float32) for n in parts.values()], -1)
    expected = source.estimators[3](inputs)[1]
    assert np.array_equal(target.estimators[2](inputs)[1], expected)


@pytest.mark.parametrize("dense", ["true", "false"])
def test_of_other_features_nothing_is_read_and_all_else_is(
    build: Build, dense: str, tmp_path: Path
) -> None:
    source, target = build(COARSE, f"model.dense={dense}"), build(f"model.dense={dense}")
    transfer = transferred(source, target, tmp_path)
    for kernel in transfer.partial:
        axis = 3 if kernel.startswith("up_features") else 2
        model = values(target)[kernel]
        model = np.moveaxis(model, axis, -1)
        model[..., -(4 + FEATURES[2]) : -4] = 0.0  # the features are the last but the up parts
        variable = next(v for v in target.variables if v.path == f"pwcnet/{kernel}")
        variable.assign(np.moveaxis(model, -1, axis))
        theirs = next(v for v in source.variables if v.path.endswith(transfer.renamed[kernel]))
        origin = np.moveaxis(theirs.numpy(), axis, -1)
        origin[..., -(4 + FEATURES[3]) : -4] = 0.0
        theirs.assign(np.moveaxis(origin, -1, axis))
    rng = np.random.default_rng(3)
    cost, up = rng.random((1, 8, 8, COST), np.float32), rng.random((1, 8, 8, 4), np.float32)

    def estimated(model: PWCNet, level: int) -> np.ndarray:
        features = rng.random((1, 8, 8, FEATURES[level]), np.float32)
        inputs = np.concatenate([cost, features, up], axis=-1)
        read, flow = model.estimators[level](inputs)
        return np.asarray(flow + model.contexts[level](read))

    np.testing.assert_allclose(estimated(target, 2), estimated(source, 3), rtol=1e-4, atol=1e-6)


def test_flow_in_pixels_of_its_grid_is_doubled_at_the_next_finer_level(
    build: Build, tmp_path: Path
) -> None:
    source, target = (build("model.level_units=grid", *more) for more in ([COARSE], []))
    theirs = values(source)
    transferred(source, target, tmp_path)
    now = values(target)
    factors = {"estimator2/flow/kernel": 2, "estimator2/flow/bias": 2, "up_flow3/kernel": 0.5}
    factors |= {"context2/conv5/kernel": 2, "context2/conv5/bias": 2}
    factors |= {"estimator2/conv1/kernel": 1, "context2/conv4/bias": 1, "up_flow3/bias": 1}
    for name, factor in factors.items():
        layer, _, rest = name.partition("/")
        origin = layer[:-1] + str(int(layer[-1]) + 1)
        assert np.array_equal(now[name], factor * theirs[f"{origin}/{rest}"]), name


def test_what_has_another_shape_stays_fresh_and_is_listed(build: Build, tmp_path: Path) -> None:
    source = build("model.context_channels=[32,16]", "model.context_dilations=[1,2]")
    target = build()
    fresh, theirs = values(target), values(source)
    transfer = transferred(source, target, tmp_path)
    unlike = {f"context2/conv{n}/{kind}" for n in range(2, 6) for kind in ("kernel", "bias")}
    assert set(transfer.fresh) == unlike
    for name, value in values(target).items():
        assert np.array_equal(value, fresh[name] if name in unlike else theirs[name]), name
    assert set(transfer.unused) == {
        n for n in theirs if n.startswith(("context2/conv2", "context2/conv3"))
    }
    lines = transfer.details().splitlines()
    assert "context2/conv3/kernel: fresh" in lines
    assert "context2/conv1/kernel: from context2/conv1/kernel" in lines
    assert "not used: context2/conv3/bias" in lines
    assert f"took {len(fresh) - 8} of {len(fresh)} variables" in transfer.summary()
    assert "fresh: context2 (8); not used: context2 (4)" in transfer.summary()


def test_a_network_without_a_level_takes_those_it_has(build: Build, tmp_path: Path) -> None:
    source, target = build("model.context=none"), build(COARSE, "model.context=none")
    theirs = values(source)
    transfer = transferred(source, target, tmp_path)
    assert all(np.array_equal(value, theirs[name]) for name, value in values(target).items())
    assert not transfer.fresh
    assert {name.partition("/")[0] for name in transfer.unused} == {
        "estimator2",
        "up_flow3",
        "up_features3",
    }


def test_the_same_network_is_taken_whole(build: Build, tmp_path: Path) -> None:
    source, target, exact = build(), build(), build()
    transfer = transferred(source, target, tmp_path)
    load_weights(exact, tmp_path / "source.safetensors")
    expected = values(exact)
    assert all(np.array_equal(value, expected[name]) for name, value in values(target).items())
    assert not (transfer.fresh or transfer.partial or transfer.renamed or transfer.unused)


def test_a_network_with_nothing_in_common_or_nan_is_refused(build: Build, tmp_path: Path) -> None:
    arrays = {"model/pwcnet/pyramid/conv1a/kernel": np.zeros((3, 3, 3, 5), np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "other.safetensors")
    source, target = build(COARSE), build()
    before = values(target)
    with pytest.raises(DataError, match="other.safetensors must have a variable in common"):
        transfer_weights(target, tmp_path / "other.safetensors")
    source.variables[0].assign(np.full(source.variables[0].shape, np.nan))
    with pytest.raises(DataError, match="NaN"):
        transferred(source, target, tmp_path)
    assert all(np.array_equal(value, before[name]) for name, value in values(target).items())
