"""Photographs that generated scenes are cut from, and how they are read between their pixels.

Letters: P photographs, S their side, N points.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
import tensorflow as tf

from pwc_exp.data.formats.images import read_frame
from pwc_exp.errors import MissingInputError

SIDE = 512  # pixels; all photographs are cut or mirrored to this, to be one tensor
MOST = 128  # pictures taken from a folder; they take 96 MiB

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
    "ihc.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm"})


class Textures(NamedTuple):
    """Square photographs, one after the other."""

    pixels: tf.Tensor  # [P S S, 3] uint8 RGB
    number: int  # of photographs
    digest: str  # hexadecimal, of their content


def load_textures(folder: str | None) -> Textures:
    """scikit-image's photographs and the pictures in `folder` and below it.

    Of more than MOST pictures it takes so many, evenly spread over their sorted names.
    """
    own = Path(skimage.__file__).parent / "data"
    paths = [own / name for name in PHOTOGRAPHS]
    if folder is not None:
        paths += _pictures(Path(folder))
    pixels = np.stack([_square(read_frame(path)) for path in paths])
    digest = hashlib.sha256(pixels.tobytes() + version("scikit-image").encode()).hexdigest()
    with tf.device("CPU"):
        flat = tf.constant(pixels.reshape(-1, 3))
    return Textures(flat, len(paths), digest)


def sample(
    textures: Textures, photograph: tf.Tensor, x: tf.Tensor, y: tf.Tensor
) -> list[tf.Tensor]:
    """Reads photographs bilinearly at points, mirrored beyond their edges.

    photograph: [N] int32. x, y: [N] pixels. Returns red, green and blue, each [N] in [0, 1].
    """
    x, y = _mirrored(x), _mirrored(y)
    left = tf.minimum(tf.floor(x), SIDE - 2)
    top = tf.minimum(tf.floor(y), SIDE - 2)
    first = (photograph * SIDE + tf.cast(top, tf.int32)) * SIDE + tf.cast(left, tf.int32)
    right_share, down_share = (x - left)[:, None], (y - top)[:, None]
    upper = _between(_read(textures, first), _read(textures, first + 1), right_share)
    first += SIDE
    lower = _between(_read(textures, first), _read(textures, first + 1), right_share)
    return tf.unstack(_between(upper, lower, down_share) * (1 / 255), axis=1)


def _read(textures: Textures, index: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(textures.pixels, index), tf.float32)


def _between(one: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return one + (other - one) * share


def _mirrored(place: tf.Tensor) -> tf.Tensor:
    """Folds a coordinate into 0 .. SIDE - 1."""
    period = 2 * (SIDE - 1)
    within = place - period * tf.floor(place / period)
    return (SIDE - 1) - tf.abs(within - (SIDE - 1))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingInputError(f"Folder of textures not found: {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise MissingInputError(
            f"No pictures ({', '.join(sorted(_SUFFIXES))}) in the folder of textures: {folder}"
        )
    if len(paths) > MOST:
        paths = [paths[number * len(paths) // MOST] for number in range(MOST)]
    return paths


def _square(image: np.ndarray) -> np.ndarray:
    """Shrinks an image by a whole number, then cuts its middle or mirrors it, [S, S, 3] uint8."""
    factor = max(min(image.shape[:2]) // SIDE, 1)
    height, width = (length // factor for length in image.shape[:2])
    image = image[: height * factor, : width * factor]
    image = image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    for axis in (0, 1):
        start = max(image.shape[axis] - SIDE, 0) // 2
        image = image.take(range(start, min(start + SIDE, image.shape[axis])), axis)
        short = SIDE - image.shape[axis]
        widths = [(0, short if dim == axis else 0) for dim in range(3)]
        image = np.pad(image, widths, mode="symmetric")
    return np.rint(image * 255).astype(np.uint8)
