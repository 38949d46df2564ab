"""Batches, sizes and memory: whatever way a pair goes through the network, its flow is one."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import COMPLETE

from pwc_exp import inference
from pwc_exp.build import build_model
from pwc_exp.errors import DeviceMemoryError
from pwc_exp.inference import KEPT_SIZES, Estimator
from pwc_exp.models.pwcnet import PWCNet

HEIGHT, WIDTH = 50, 70


@pytest.fixture(scope="module")
def model(configure: Callable[..., Any]) -> PWCNet:
    config = configure("train", *COMPLETE, "model.normalize_features=false")
    keras.utils.set_random_seed(4)
    return build_model(config.model, config.precision)


@pytest.fixture(scope="module")
def estimator(model: PWCNet) -> Estimator:
    """One for all tests: what is compiled, is compiled once."""
    return Estimator(model)


def pictures(count: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    return list(np.random.default_rng(2).random((count, height, width, 3), np.float32))


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """In place of the network: a flow of (1, 1); the shapes that it gets are noted."""
    shapes = []

    def estimate(frame1: tf.Tensor, frame2: tf.Tensor) -> tf.Tensor:
        shapes.append(tuple(frame1.shape))
        return tf.ones((*frame1.shape[:3], 2))

    monkeypatch.setattr(inference, "make_estimate", lambda model, xla: estimate)
    yield shapes


def test_a_batch_gives_the_flow_of_each_pair_alone(model: PWCNet, estimator: Estimator) -> None:
    first, second = pictures(6)[:3], pictures(6)[3:]
    together = Estimator(model, batch_size=2)(first, second)  # two, and the one that is left
    assert len(together) == 3
    for number, flow in enumerate(together):
        (expected,) = estimator(first[number : number + 1], second[number : number + 1])
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(flow, expected, atol=1e-5)


def test_any_size_is_padded_with_zeros_and_cut_back(estimator: Estimator) -> None:
    first, second = pictures(2)
    (flow,) = estimator([first], [second])
    padded = [np.pad(frame, ((0, 6), (0, 2), (0, 0))) for frame in (first, second)]
    (expected,) = estimator(padded[:1], padded[1:])
    assert flow.shape == (HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(flow, expected[:HEIGHT, :WIDTH], atol=1e-5)
    for size in ((1, 1), (9, 23)):
        (flow,) = estimator(pictures(1, *size), pictures(1, *size))
        assert flow.shape == (*size, 2) and np.isfinite(flow).all()


def test_padding_leaves_the_interior_as_it_is(estimator: Estimator) -> None:
    first, second = pictures(2, 16, 512)
    (whole,) = estimator([first], [second])
    (cut,) = estimator([first[:, :-4]], [second[:, :-4]])  # and padded again
    np.testing.assert_allclose(cut[:, :256], whole[:, :256], atol=1e-5)
    assert np.abs(cut - whole[:, :-4]).max() > 1e-4  # near the cut, the network sees it


@pytest.mark.parametrize(
    ("settings", "seen"), [({"size": (32, 64)}, (32, 64)), ({"scale": 2.0}, (104, 144))]
)
def test_a_resized_flow_is_in_pixels_of_the_frame(
    model: PWCNet, constant: list[tuple[int, ...]], settings: dict[str, Any], seen: tuple[int, int]
) -> None:
    (flow,) = Estimator(model, **settings)(pictures(1), pictures(1))
    network = settings.get("size", (100, 140))
    assert constant == [(1, *seen, 3)]
    assert flow.shape == (HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(flow[5, 5], (WIDTH / network[1], HEIGHT / network[0]), rtol=1e-6)


def test_a_frame_that_does_not_fit_is_refused_in_one_line(
    model: PWCNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=1000)
    monkeypatch.setattr(inference.psutil, "virtual_memory", lambda: free)
    with pytest.raises(DeviceMemoryError, match=r"56 x 72 .* need about .* GB, more than is free"):
        Estimator(model)(pictures(1), pictures(1))


def test_under_a_memory_limit_the_flow_is_the_same(
    model: PWCNet, estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pictures(1, 200, 330), pictures(2, 200, 330)[1:]
    (expected,) = estimator(*pair)
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0))
    monkeypatch.setattr(inference.psutil, "Process", lambda: memory)
    limited = Estimator(model, memory_limit=8.6e-3)
    (flow,) = limited(*pair)
    assert limited.account(200, 330)["tiles_of_levels"]["2"] > 1
    np.testing.assert_allclose(flow, expected, atol=1e-4)
    assert Estimator(model, memory_limit=1).account(200, 330)["tiles_of_levels"] is None


def test_many_sizes_do_not_fill_the_memory(model: PWCNet, constant: list[tuple[int, ...]]) -> None:
    estimator = Estimator(model)
    for number in range(1, KEPT_SIZES + 4):
        estimator(pictures(1, 16, 16 * number), pictures(1, 16, 16 * number))
    assert len(estimator._plans) == KEPT_SIZES


def test_a_size_is_compiled_once(estimator: Estimator) -> None:
    for height in (49, 50, 56):  # padded, they are of one size
        estimator(pictures(1, height, WIDTH), pictures(1, height, WIDTH))
    compiled: Any = estimator._plans[56, 72].estimate
    assert compiled.experimental_get_tracing_count() == 1
