"""Textures of generated scenes: reading between texels, tiles, patterns, folders of users."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import sample as numpy_sample
from scenes import MOVING, scenes_of, source_of

from pwc_exp.data.formats.images import write_image
from pwc_exp.data.synthetic import textures
from pwc_exp.data.synthetic.textures import SIDE, cut_tiles, load_textures
from pwc_exp.errors import MissingInputError


def picture(path: Path, height: int = 40, width: int = 30, *, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    write_image(path, image)
    return image


def squares(folder: Path | None, *, patterns: bool = False) -> np.ndarray:
    """All textures, [T, SIDE, SIDE, 3] uint8."""
    loaded = load_textures(None if folder is None else str(folder), patterns=patterns)
    words = loaded.texels.numpy().reshape(-1, SIDE, SIDE)
    return np.stack([words >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def added(folder: Path) -> np.ndarray:
    """The tiles that come from a folder."""
    return squares(folder)[load_textures(None, patterns=False).photographs :]


def test_sampling_is_bilinear_and_mirrors_at_the_edges() -> None:
    loaded = load_textures(None, patterns=False)
    generator = np.random.default_rng(3)
    x, y = generator.uniform(-1.5 * SIDE, 2.5 * SIDE, (2, 500)).astype(np.float32)
    last = SIDE - 1
    inside = [np.abs((place + last) % (2 * last) - last) for place in (x, y)]
    for number, image in enumerate(squares(None)[:5] / 255):
        planes = textures.sample(loaded.texels, tf.constant(number), tf.constant(x), tf.constant(y))
        np.testing.assert_allclose(np.stack(planes, -1), numpy_sample(image, *inside), atol=2e-3)


def test_patterns_come_after_the_photographs_and_none_is_like_another() -> None:
    photographs = len(squares(None))
    patterns = squares(None, patterns=True)[photographs:]
    assert len(patterns) == textures.PATTERNS
    assert load_textures(None, patterns=True).photographs == photographs
    small = patterns[:, ::64, ::64].astype(float).reshape(len(patterns), -1)
    apart = np.abs(small[:, None] - small).mean(axis=2)
    assert apart[~np.eye(len(patterns), dtype=bool)].min() > 2


def test_an_image_is_cut_into_tiles_at_several_scales() -> None:
    generator = np.random.default_rng(0)
    small = generator.random((40, 30, 3))
    whole, half = (tile / 255 for tile in cut_tiles(small))
    np.testing.assert_allclose(whole[:40, :30], small, atol=2e-3)
    np.testing.assert_allclose(whole[40:80, 30:60], small[::-1, ::-1], atol=2e-3)
    pooled = small.reshape(20, 2, 15, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half[:20, :15], pooled, atol=2e-3)
    large = generator.random((2 * SIDE, 3 * SIDE, 3))
    tiles = [tile / 255 for tile in cut_tiles(large)]
    shapes = {tile.shape for tile in tiles}
    assert shapes == {(SIDE, SIDE, 3)}
    np.testing.assert_allclose(tiles[0], large[:SIDE, :SIDE], atol=2e-3)
    assert 6 <= len(tiles) <= 12


def test_pictures_of_a_folder_and_below_are_added(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    small = picture(tmp_path / "a.png")
    middle = picture(tmp_path / "below" / "b.PNG", SIDE, SIDE)
    (tmp_path / "notes.txt").write_text("not a picture")
    tiles = added(tmp_path)
    assert len(tiles) == 4  # each at two scales
    np.testing.assert_array_equal(tiles[0][:40, :30], small)
    np.testing.assert_array_equal(tiles[2], middle)


def test_scenes_show_the_pictures_and_their_content_is_in_the_digest(tmp_path: Path) -> None:
    for number in range(120):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), [0, 255, 0], np.uint8))
    settings = MOVING | {"tint": 0.0, "shading": 0.0, "procedural": 0.0}
    with_folder = source_of(settings, textures=str(tmp_path))
    green = [(scene.frame1 == [0, 1, 0]).all(axis=-1).mean() for scene in scenes_of(with_folder, 8)]
    assert 0.4 < np.mean(green) < 0.95
    load_textures.cache_clear()
    write_image(tmp_path / "7.png", np.full((8, 8, 3), 255, np.uint8))
    changed = source_of(settings, textures=str(tmp_path))
    assert len({source_of(settings).digest, with_folder.digest, changed.digest}) == 3


def test_a_folder_that_is_not_there_or_has_no_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=f"not found: {re.escape(str(tmp_path / 'no'))}"):
        load_textures(str(tmp_path / "no"), patterns=False)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(MissingInputError, match=f"No pictures.*{re.escape(str(tmp_path))}"):
        load_textures(str(tmp_path), patterns=False)
