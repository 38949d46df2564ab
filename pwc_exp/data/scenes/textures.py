"""What the layers of generated scenes are cut from: photographs and procedural patterns.

Photographs are cut into square tiles at two or three scales. Patterns are generated once, when the
textures are loaded. All of them are one tensor of packed texels, mirrored beyond their edges.

Letters: T textures, S their side.
"""

import functools
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import skimage
import tensorflow as tf

from pwc_exp.data.formats.images import read_frame
from pwc_exp.data.scenes.patterns import draw_pattern
from pwc_exp.errors import MissingInputError

SIDE = 512  # pixels of a texture
MOST = 128  # tiles taken from a folder; they take 128 MiB
PATTERNS = 48  # procedural textures
_TILES_PER_SCALE = 4  # of one photograph
_PATTERN_SEED = 7

# They lie in scikit-image's own package: nothing is downloaded.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
_T = TypeVar("_T")
_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"})


class Textures(NamedTuple):
    """Square textures, one after the other: photographs first, then patterns."""

    texels: tf.Tensor  # [T S S] int32: red, green and blue in the three lowest bytes
    means: np.ndarray  # [T, 3] float32, mean colours in [0, 1]
    photographs: int  # how many of them are cut from photographs
    digest: str  # hexadecimal, of their content


@functools.lru_cache(maxsize=2)
def load_textures(folder: str | None, *, patterns: bool) -> Textures:
    """Tiles of scikit-image's photographs and of the pictures below `folder`, and patterns.

    Of more than MOST tiles from the folder so many are taken, evenly spread over the sorted names.

    Raises:
        MissingInputError: there is no such folder, or no picture in it.
    """
    own = Path(skimage.__file__).parent / "data"
    tiles = [tile for name in PHOTOGRAPHS for tile in cut_tiles(read_frame(own / name))]
    if folder is not None:
        paths = _pictures(Path(folder))
        each = max(MOST // len(paths), 1)
        tiles += [tile for path in paths for tile in _spread(cut_tiles(read_frame(path)), each)]
    photographs = len(tiles)
    if patterns:
        tiles += [draw_pattern(_PATTERN_SEED, number, SIDE) for number in range(PATTERNS)]
    pixels = np.stack(tiles)
    digest = hashlib.sha256(pixels.tobytes() + version("scikit-image").encode()).hexdigest()
    means = pixels.mean(axis=(1, 2), dtype=np.float64).astype(np.float32) / 255
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    with tf.device("CPU"):
        texels = tf.constant((red | green << 8 | blue << 16).reshape(-1))
    return Textures(texels, means, photographs, digest)


def sample(
    texels: tf.Tensor, texture: tf.Tensor, x: tf.Tensor, y: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a texture bilinearly at points, mirrored beyond its edges.

    texture: scalar int32. x, y: of any shape, in texels. Returns red, green and blue in [0, 1].
    """
    x, y = _mirrored(x), _mirrored(y)
    left, top = tf.minimum(tf.floor(x), SIDE - 2), tf.minimum(tf.floor(y), SIDE - 2)
    first = (texture * SIDE + tf.cast(top, tf.int32)) * SIDE + tf.cast(left, tf.int32)
    right_share, down_share = x - left, y - top
    corners = [tf.gather(texels, first + offset) for offset in (0, 1, SIDE, SIDE + 1)]
    planes = []
    for shift in (0, 8, 16):
        a, b, c, d = (
            tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(word, shift), 255), tf.float32)
            for word in corners
        )
        upper, lower = a + right_share * (b - a), c + right_share * (d - c)
        planes.append((upper + down_share * (lower - upper)) * (1 / 255))
    return planes[0], planes[1], planes[2]


def _mirrored(place: tf.Tensor) -> tf.Tensor:
    """Folds a coordinate into 0 .. SIDE - 1."""
    period = 2 * (SIDE - 1)
    within = place - period * tf.floor(place * (1 / period))
    return (SIDE - 1) - tf.abs(within - (SIDE - 1))


def cut_tiles(image: np.ndarray) -> list[np.ndarray]:
    """Cuts an image, [H, W, 3] in [0, 1], into tiles of [SIDE, SIDE, 3] uint8 at several scales.

    Once it is shrunk until its shorter side just holds a tile, once to half of that, and a large
    one is also taken at twice that size. What is smaller than a tile is continued by mirroring.
    """
    fitting = max(min(image.shape[:2]) // SIDE, 1)
    factors = sorted({max(fitting // 2, 1), fitting, 2 * fitting})
    return [tile for factor in factors for tile in _tiles(_shrunk(image, factor))]


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = (length // factor for length in image.shape[:2])
    image = image[: height * factor, : width * factor]
    return image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))


def _tiles(image: np.ndarray) -> list[np.ndarray]:
    pixels = np.rint(image * 255).astype(np.uint8)
    widths = [(0, max(SIDE - length, 0)) for length in pixels.shape[:2]]
    pixels = np.pad(pixels, [*widths, (0, 0)], mode="symmetric")
    starts = [_starts(length) for length in pixels.shape[:2]]
    places = [(top, left) for top in starts[0] for left in starts[1]]
    return [
        pixels[top : top + SIDE, left : left + SIDE]
        for top, left in _spread(places, _TILES_PER_SCALE)
    ]


def _starts(length: int) -> list[int]:
    """Where tiles begin so that they cover a length, overlapping by less than two thirds."""
    count = 1 + -(-(length - SIDE) * 3 // (2 * SIDE)) if length >= SIDE * 5 // 4 else 1
    return [round(place) for place in np.linspace(0, length - SIDE, count)]


def _spread(items: list[_T], most: int) -> list[_T]:
    """At most so many of the items, from end to end."""
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingInputError(f"Folder of textures not found: {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise MissingInputError(
            f"No pictures ({', '.join(sorted(_SUFFIXES))}) in the folder of textures: {folder}"
        )
    return _spread(paths, MOST)
