"""Procedural textures: noise octaves, gradients, stripes, checks, dots, bricks and fallen leaves.

Each is a function of (seed, number). Letters: S side of a texture.
"""

import math

import numpy as np

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
