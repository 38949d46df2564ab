"""The layers of a generated scene: what defines them.

Letters: L layers, the background first and then back to front, M points of an outline.
"""

import math
from typing import NamedTuple

import numpy as np

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.scenes import textures
from pwc_exp.data.scenes.motion import Motion, MotionLimits, draw_motion, rotation
from pwc_exp.data.scenes.outlines import FAR, OutlineLimits, Outlines, draw_outlines
from pwc_exp.data.scenes.textures import Textures

_TEXELS_PER_PIXEL = (0.4, 1.0)  # at most 1: more would alias, and not the same in both frames
_FLAT_CONTRAST = 0.12  # of a layer with next to no texture, at most


class LookLimits(NamedTuple):
    """What layers look like."""

    procedural: float  # share of the layers cut from patterns, the rest from photographs
    flat: float  # share of the layers with next to no texture
    tint: float  # how far colours are changed, 0 to 1
    shading: float  # change of brightness from the centre of a layer to its edge, a share


class Look(NamedTuple):
    """What layers look like. Of a single layer, all without L."""

    texture: np.ndarray  # [L] int32, which one
    window: np.ndarray  # [L, 3, 3] homography from pixels of frame 1 to texels
    colour: np.ndarray  # [L, 3, 3] what becomes of a texel's difference from the mean
    mean: np.ndarray  # [L, 2, 3] the mean of the texture times `colour`, and what it becomes
    slope: np.ndarray  # [L, 3] brightness: a x + b y + c
    nearness: np.ndarray  # [L, 3] inverse depth: a x + b y + c, 1 at the background


class Layers(NamedTuple):
    """All that a scene is made of."""

    outlines: Outlines
    motion: Motion
    look: Look
    edge_points: np.ndarray  # [L, M, 2] of the outlines, in frame 1


def draw_flat_layers(
    rng: np.random.Generator,
    count: int,
    *,
    size: Size,
    outlines: OutlineLimits,
    motion: MotionLimits,
    look: LookLimits,
    materials: Textures,
) -> Layers:
    """Draws `count` layers parallel to frames of `size`, at random places."""
    extent = np.array([size.width, size.height], np.float64)
    diagonal = math.hypot(*size)
    centre = rng.random((count, 2)) * extent
    centre[0] = extent / 2
    smallest, largest = outlines.radius
    radius = diagonal * smallest * (largest / smallest) ** rng.random(count)
    radius[0] = FAR
    edges, edge_points = draw_outlines(rng, centre, radius, diagonal=diagonal, limits=outlines)
    depth = 1 - np.arange(count) / count
    nearness = np.zeros((count, 3))
    nearness[:, 2] = 1 / depth
    return Layers(
        outlines=edges,
        motion=draw_motion(rng, centre, size=size, limits=motion),
        look=draw_look(
            rng,
            centre,
            np.minimum(radius, diagonal / 2),
            nearness=nearness,
            limits=look,
            materials=materials,
        ),
        edge_points=edge_points,
    )


def draw_look(
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: np.ndarray,
    *,
    nearness: np.ndarray,
    limits: LookLimits,
    materials: Textures,
) -> Look:
    """Draws what layers look like around centre, [L, 2], whose radius, [L], is in pixels."""
    count = len(centre)
    photographs, total = materials.photographs, len(materials.means)
    drawn = (rng.random(count) < limits.procedural) & (total > photographs)
    texture = np.where(
        drawn,
        photographs + rng.integers(max(total - photographs, 1), size=count),
        rng.integers(photographs, size=count),
    )
    means = materials.means[texture].astype(np.float64)
    colour, goal = _draw_colours(rng, means, limits)
    slope = limits.shading / radius[:, None] * rng.uniform(-1, 1, (count, 2))
    return Look(
        texture=texture.astype(np.int32),
        window=_draw_windows(rng, centre),
        colour=colour,
        mean=np.stack([np.einsum("lij,lj->li", colour, means), goal], axis=1),
        slope=np.concatenate([slope, 1 - np.sum(slope * centre, axis=1, keepdims=True)], axis=1),
        nearness=nearness,
    )


def _draw_windows(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """Affine maps from pixels of frame 1 to texels, [L, 3, 3]."""
    count = len(centre)
    low, high = _TEXELS_PER_PIXEL
    texels = rng.uniform(low, high, count)
    linear = texels[:, None, None] * rotation(rng.uniform(-math.pi, math.pi, count))
    place = rng.random((count, 2)) * (textures.SIDE - 1)
    windows = np.tile(np.eye(3), (count, 1, 1))
    windows[:, :2, :2] = linear
    windows[:, :2, 2] = place - np.einsum("lij,lj->li", linear, centre)
    return windows


def _draw_colours(
    rng: np.random.Generator, means: np.ndarray, limits: LookLimits
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of colours, [L, 3, 3], and what mean colours become, [L, 3]."""
    count = len(means)
    tint = limits.tint
    contrast = (1 - tint) + tint * rng.uniform(0.4, 1.2, count)
    flat = rng.random(count) < limits.flat
    contrast = np.where(flat, _FLAT_CONTRAST * rng.random(count), contrast)
    paleness = tint * rng.random((count, 1, 1))
    colour = (1 - paleness) * np.eye(3) + paleness / 3
    # Some have their colours exchanged.
    rolled = rng.random(count) < tint / 6
    colour = np.where(rolled[:, None, None], np.roll(colour, 1, axis=2), colour)
    colour *= contrast[:, None, None]
    brightness = 0.5 + (1 - 0.2 * tint) * (means.mean(axis=1, keepdims=True) - 0.5)
    own = means - means.mean(axis=1, keepdims=True)
    changed = brightness + (1 - 0.5 * tint) * np.where(rolled[:, None], np.roll(own, 1, 1), own)
    changed += tint * (
        0.15 * rng.standard_normal((count, 1)) + 0.05 * rng.standard_normal((count, 3))
    )
    return colour, np.clip(changed, 0.03, 0.97) if tint else changed
