"""Photographs of generated scenes: reading between pixels, folders of users."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import sample as numpy_sample
from scenes import MOVING, scenes_of, source_of

from pwc_exp.data.formats.images import write_image
from pwc_exp.data.scenes import textures
from pwc_exp.data.scenes.textures import PHOTOGRAPHS, SIDE, load_textures
from pwc_exp.errors import DataError, MissingInputError


def picture(path: Path, height: int = 40, width: int = 30, *, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    write_image(path, image)
    return image


def squares(folder: Path | None) -> np.ndarray:
    loaded = load_textures(None if folder is None else str(folder))
    return loaded.pixels.numpy().reshape(loaded.number, SIDE, SIDE, 3)


def test_sampling_is_bilinear_and_mirrors_at_the_edges() -> None:
    loaded = load_textures(None)
    generator = np.random.default_rng(3)
    x, y = generator.uniform(-1.5 * SIDE, 2.5 * SIDE, (2, 2000)).astype(np.float32)
    which = generator.integers(0, loaded.number, 2000).astype(np.int32)
    planes = textures.sample(loaded, *(tf.constant(part) for part in (which, x, y)))
    last = SIDE - 1
    inside = [np.abs((place + last) % (2 * last) - last) for place in (x, y)]
    for number, image in enumerate(squares(None) / 255):
        chosen = which == number
        expected = numpy_sample(image, *(place[chosen] for place in inside))
        np.testing.assert_allclose(np.stack(planes, -1)[chosen], expected, atol=2e-3)


def test_pictures_of_a_folder_are_added_cut_mirrored_or_shrunk(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    small = picture(tmp_path / "a.png")
    middle = picture(tmp_path / "below" / "b.PNG", SIDE + 100, SIDE + 11)
    large = picture(tmp_path / "c.png", 2 * SIDE, 2 * SIDE + 2)
    (tmp_path / "notes.txt").write_text("not a picture")
    added = squares(tmp_path)[len(PHOTOGRAPHS) :]
    assert len(added) == 3
    np.testing.assert_array_equal(added[0][:40, :30], small)
    np.testing.assert_array_equal(added[0][40:80, 30:60], small[::-1, ::-1])
    np.testing.assert_array_equal(added[1], middle[50 : 50 + SIDE, 5 : 5 + SIDE])
    pooled = large.reshape(SIDE, 2, SIDE + 1, 2, 3).mean(axis=(1, 3))[:, :SIDE]
    np.testing.assert_allclose(added[2], pooled, atol=0.51)


def test_scenes_show_the_pictures_and_their_content_is_in_the_digest(tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), [0, 255, 0], np.uint8))
    knobs = MOVING | {"tint": 0.0}
    with_folder = source_of(knobs | {"textures": str(tmp_path)})
    green = [(scene.frame1 == [0, 1, 0]).all(axis=-1).mean() for scene in scenes_of(with_folder, 1)]
    assert green[0] > 0.2
    write_image(tmp_path / "7.png", np.full((8, 8, 3), 255, np.uint8))
    changed = source_of(knobs | {"textures": str(tmp_path)})
    assert len({source_of(knobs).digest, with_folder.digest, changed.digest}) == 3


def test_of_many_pictures_so_many_are_taken_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textures, "MOST", 3)
    images = [picture(tmp_path / f"{number}.png", seed=number) for number in range(7)]
    added = squares(tmp_path)[len(PHOTOGRAPHS) :]
    assert len(added) == 3
    for square, number in zip(added, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(square[:40, :30], images[number])


def test_a_folder_that_is_not_there_or_has_no_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=f"not found: {re.escape(str(tmp_path / 'no'))}"):
        load_textures(str(tmp_path / "no"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(MissingInputError, match=f"No pictures.*{re.escape(str(tmp_path))}"):
        load_textures(str(tmp_path))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"cut\.png"):
        load_textures(str(tmp_path))
