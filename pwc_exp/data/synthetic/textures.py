"""What the layers of generated scenes are cut from: photographs and procedural patterns.

Photographs are cut into square tiles at two or three scales. Patterns (noise octaves, gradients,
stripes, checks, dots, bricks, blotches and fallen leaves) are functions of (seed, number), made
once, when the textures are loaded. All are one tensor of packed texels, mirrored beyond their
edges.

Letters: T textures, S their side.
"""

import functools
import hashlib
import itertools
import math
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
import tensorflow as tf

from pwc_exp.data.formats.images import read_frame
from pwc_exp.data.sample import spread
from pwc_exp.errors import MissingInputError

SIDE = 512  # pixels of a texture
MOST = 128  # tiles taken from a folder; they take 128 MiB
PATTERNS = 48  # procedural textures
_TILES_PER_SCALE = 4  # of one photograph
_PATTERN_SEED = 7

# They are in scikit-image's own package: nothing is downloaded.
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
    """
    own = Path(skimage.__file__).parent / "data"
    tiles = [tile for name in PHOTOGRAPHS for tile in cut_tiles(read_frame(own / name))]
    if folder is not None:
        paths = _pictures(Path(folder))
        each = max(MOST // len(paths), 1)
        tiles += [tile for path in paths for tile in spread(cut_tiles(read_frame(path)), each)]
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
    tiles = []
    fitting = max(min(image.shape[:2]) // SIDE, 1)
    for factor in sorted({max(fitting // 2, 1), fitting, 2 * fitting}):
        height, width = (length // factor for length in image.shape[:2])
        whole = image[: height * factor, : width * factor]
        shrunk = whole.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
        margins = [(0, max(SIDE - length, 0)) for length in (height, width)]
        pixels = np.rint(shrunk * 255).astype(np.uint8)
        pixels = np.pad(pixels, [*margins, (0, 0)], mode="symmetric")
        places = list(itertools.product(*map(_starts, pixels.shape[:2])))
        tiles += [
            pixels[top : top + SIDE, left : left + SIDE]
            for top, left in spread(places, _TILES_PER_SCALE)
        ]
    return tiles


def _starts(length: int) -> list[int]:
    """Where tiles begin so that they cover a length, overlapping by less than two thirds."""
    count = 1 + -(-(length - SIDE) * 3 // (2 * SIDE)) if length >= SIDE * 5 // 4 else 1
    return [round(place) for place in np.linspace(0, length - SIDE, count)]


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MissingInputError(f"Folder of textures not found: {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise MissingInputError(
            f"No pictures ({', '.join(sorted(_SUFFIXES))}) in the folder of textures: {folder}"
        )
    return list(spread(paths, MOST))


_PALETTE = 10  # colours of the leaves of one texture
_LEAVES = 160
_KINDS = ("noise", "gradient", "stripes", "checks", "dots", "bricks", "blotches", "leaves")


def draw_pattern(seed: int, number: int, side: int) -> np.ndarray:
    """Pattern `number`, [S, S, 3] uint8 RGB."""
    rng = np.random.default_rng([seed, number])
    kind = _KINDS[number % len(_KINDS)]
    fields = [_octaves(rng, side) for _ in range(2)]
    if kind == "leaves":
        image = _leaves(rng, side)
    else:
        one, other = _colours(rng, 2)
        image = one + _share(rng, kind, side, fields[0])[..., None] * (other - one)
    grain, cloud = 0.12 * rng.random() ** 2, 0.25 * rng.random() ** 2
    image = image + grain * fields[0][..., None] + cloud * fields[1][..., None]
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _share(rng: np.random.Generator, kind: str, side: int, field: np.ndarray) -> np.ndarray:
    """How much of the second of two colours each texel has, [S, S] in [0, 1]."""
    if kind == "noise":
        return 0.5 + 0.25 * field
    # Patterns are bent by noise, more or less, and turned.
    place = np.arange(side) / side
    bend = 0.15 * rng.random() ** 3
    turn = math.pi * rng.random()
    x, y = place + bend * field, place[:, None] + bend * np.roll(field, side // 3)
    u, v = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    if kind == "gradient":
        return np.asarray(
            0.5 + 0.5 * np.sin((1 + 2 * rng.random()) * math.pi * u + 6 * field * bend)
        )
    along, across = 3 * 12 ** rng.random(2)  # periods
    threshold, sharpness = rng.uniform(-0.5, 0.5), 1 + 9 * rng.random()
    columns, rows = np.sin(2 * math.pi * along * u), np.sin(2 * math.pi * across * v)
    if kind == "stripes":
        signed = columns - threshold
    elif kind == "checks":
        signed = 4 * columns * rows
    elif kind == "dots":
        signed = columns + np.sin(2 * math.pi * along * v) - 1 - threshold
    elif kind == "bricks":
        row = np.floor(v * across)
        joint = np.minimum(
            0.46 - np.abs((u * along / 2 + 0.5 * (row % 2)) % 1 - 0.5),
            0.4 - np.abs((v * across) % 1 - 0.5),
        )
        signed = 12 * joint
    else:  # blotches
        signed = field - threshold
    return np.clip(0.5 + 0.5 * sharpness * signed, 0, 1)


def _octaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """A periodic field of normal values, [S, S], whose amplitude falls with the frequency."""
    slope, turn = rng.uniform(0.7, 1.9), math.pi * rng.random()
    stretch = 1 + 12 * rng.random() ** 4  # grain along one direction, as of wood or hair
    down, right = np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)
    along = math.cos(turn) * right + math.sin(turn) * down
    across = math.cos(turn) * down - math.sin(turn) * right
    frequency = np.sqrt(along**2 * stretch + across**2 / stretch)
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1.0) ** -slope, 0.0)
    parts = rng.standard_normal((2, *amplitude.shape))
    field: np.ndarray = np.fft.irfft2(amplitude * (parts[0] + 1j * parts[1]), (side, side))
    return field / field.std()


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours of any brightness, most of them pale, [count, 3]."""
    brightness = rng.uniform(0.1, 0.9, (count, 1))
    saturation = 0.25 * rng.random((count, 1))
    return np.clip(brightness + saturation * rng.standard_normal((count, 3)), 0, 1)


def _leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Discs and bars of many sizes that fall over each other (Lee et al., IJCV 2001)."""
    palette = _colours(rng, _PALETTE)
    image = np.broadcast_to(palette[0], (side, side, 3)).copy()
    radii = np.sort(1 / rng.uniform(4 / side, 60 / side, _LEAVES) * rng.uniform(0.5, 1, _LEAVES))
    for radius in radii[::-1]:
        centre, turn = rng.uniform(0, side, 2), math.pi * rng.random()
        squeeze, is_round = 1 + 4 * rng.random() ** 2, rng.random() < 0.6
        colour = palette[rng.integers(_PALETTE)] + rng.uniform(-0.06, 0.06)
        low = np.maximum(np.floor(centre - 1.5 * radius), 0).astype(int)
        high = np.minimum(np.ceil(centre + 1.5 * radius) + 1, side).astype(int)
        x = np.arange(low[0], high[0]) - centre[0]
        y = np.arange(low[1], high[1])[:, None] - centre[1]
        along = (math.cos(turn) * x + math.sin(turn) * y) / radius
        across = (math.cos(turn) * y - math.sin(turn) * x) / radius * squeeze
        reach = np.hypot(along, across) if is_round else np.maximum(abs(along), abs(across))
        inside = np.clip((1 - reach) * radius + 0.5, 0, 1)[..., None]
        part = image[low[1] : high[1], low[0] : high[0]]
        part += inside * (colour * (1 + 0.2 * along[..., None]) - part)
    return image
