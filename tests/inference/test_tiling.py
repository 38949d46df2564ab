"""Tiles give the flow of the whole frame."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import COMPLETE

from pwc_exp import inference
from pwc_exp.build import build_model
from pwc_exp.errors import DeviceMemoryError
from pwc_exp.inference import TiledEstimate, kept_bytes, least_bytes, spans

HEIGHT, WIDTH = 232, 264
# The larger networks' parts: dense estimators, a context network at every level.
LARGE = (
    "model.dense=true",
    "model.context=all",
    "model.normalize_features=false",
    "model.warp_border=edge",
    "model.stride_padding=same",
    "model.upsample_alignment=corner",
)


def frames(height: int, width: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A random picture, smooth over some pixels, and the same moved by (12, 7)."""
    rng = np.random.default_rng(5)
    coarse = rng.random((1, height // 4, width // 4, 3), np.float32)
    frame = tf.image.resize(coarse, (height, width))
    return frame, tf.roll(frame, (7, 12), axis=(1, 2))


@pytest.mark.parametrize("size", [1, 7, 40, 41, 1000])
@pytest.mark.parametrize("inner", [1, 16, 40])
@pytest.mark.parametrize("border", [0, 5, 60])
def test_tiles_keep_each_cell_once_and_read_the_border_around_it(
    size: int, inner: int, border: int
) -> None:
    tiles = spans(size, inner, border)
    kept = [cell for tile in tiles for cell in range(tile.kept_start, tile.kept_stop)]
    assert kept == list(range(size))
    assert len({tile.stop - tile.start for tile in tiles}) == 1  # one shape: compiled once
    for tile in tiles:
        assert tile.start == 0 or tile.kept_start - tile.start >= border
        assert tile.stop == size or tile.stop - tile.kept_stop >= border
        assert 0 <= tile.start <= tile.kept_start < tile.kept_stop <= tile.stop <= size


@pytest.mark.parametrize(("variant", "tiled_levels"), [((), {2, 3}), (LARGE, {2})])
def test_tiled_equals_whole(
    configure: Callable[..., Any],
    variant: tuple[str, ...],
    tiled_levels: set[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure("train", *COMPLETE, *variant)
    keras.utils.set_random_seed(3)
    model = build_model(config.model, config.precision)
    costs = {2: 1, 3: 3 if 3 in tiled_levels else 1}
    monkeypatch.setattr(inference, "decoding_bytes", lambda model, level: costs[level])
    sizes = {level: (HEIGHT >> level, WIDTH >> level) for level in costs}
    room = max(least_bytes(model, level, size) for level, size in sizes.items())
    tiled = TiledEstimate(model, HEIGHT, WIDTH, memory=kept_bytes(model, HEIGHT, WIDTH) + room)
    assert {level for level, count in tiled.tiles.items() if count > 1} == tiled_levels
    pair = frames(HEIGHT, WIDTH)
    whole = tf.function(model.estimate)(*pair).numpy()
    assert np.abs(whole).max() > 0.1
    np.testing.assert_allclose(tiled(*pair), whole, rtol=1e-4, atol=1e-4)


def test_no_tile_is_so_small_that_it_is_all_border(configure: Callable[..., Any]) -> None:
    config = configure("train", *COMPLETE)
    model = build_model(config.model, config.precision)
    with pytest.raises(
        DeviceMemoryError, match=r"memory_limit must be 0.00 GB higher, at least, for .*232 x 264"
    ):
        TiledEstimate(model, HEIGHT, WIDTH, memory=kept_bytes(model, HEIGHT, WIDTH) + 1_000)
