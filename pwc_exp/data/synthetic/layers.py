"""The layers of a generated scene: what defines them, and how they are drawn at random.

`draw_flat_layers` draws layers parallel to the frame. `draw_driving_layers` draws what is seen from
a car: a sky, a road, walls beside it, and things on it. Each is then a plane n . X = 1 in space,
with X = (right, down, ahead) in heights of the camera above the road. A camera that turns by R and
moves by -t sees it move by the homography K (R + t n) K^-1; the inverse depth of a plane is linear
in the picture, n . K^-1 (x, y, 1).

Letters: L layers, the background (in a car: the sky, the road, two walls) first and then back to
front, M points of an outline.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.synthetic import textures
from pwc_exp.data.synthetic.film import FilmLimits
from pwc_exp.data.synthetic.motion import WAVES, Motion, MotionLimits, draw_motion, rotation
from pwc_exp.data.synthetic.outlines import FAR, OutlineLimits, Outlines, draw_outlines
from pwc_exp.data.synthetic.textures import Textures

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


class DrivingLimits(NamedTuple):
    """How the car moves from frame 1 to frame 2."""

    share: float  # of the scenes that are seen from a car
    max_advance: float  # way ahead, as a share of the distance to what is nearest
    max_yaw: float  # turn to the side, degrees


class Kind(NamedTuple):
    """What scenes of one kind are made of."""

    layers: Sequence[int]  # fewest and most things in front of the background
    outlines: OutlineLimits
    look: LookLimits
    motion: MotionLimits
    driving: DrivingLimits
    film: FilmLimits


class Layers(NamedTuple):
    """All that a scene is made of."""

    outlines: Outlines
    motion: Motion
    look: Look
    edge_points: np.ndarray  # [L, M, 2] of the outlines, in frame 1


def draw_flat_layers(
    rng: np.random.Generator, count: int, *, size: Size, kind: Kind, materials: Textures
) -> Layers:
    """Draws `count` layers parallel to frames of `size`, at random places."""
    extent = np.array([size.width, size.height], np.float64)
    diagonal = math.hypot(*size)
    centre = rng.random((count, 2)) * extent
    centre[0] = extent / 2
    smallest, largest = kind.outlines.radius
    radius = diagonal * smallest * (largest / smallest) ** rng.random(count)
    radius[0] = FAR
    edges, edge_points = draw_outlines(rng, centre, radius, diagonal=diagonal, limits=kind.outlines)
    depth = 1 - np.arange(count) / count
    nearness = np.zeros((count, 3))
    nearness[:, 2] = 1 / depth
    return Layers(
        outlines=edges,
        motion=draw_motion(rng, centre, size=size, limits=kind.motion),
        look=draw_look(
            rng,
            centre,
            np.minimum(radius, diagonal / 2),
            nearness=nearness,
            limits=kind.look,
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
    texels = rng.uniform(*_TEXELS_PER_PIXEL, count)
    linear = texels[:, None, None] * rotation(rng.uniform(-math.pi, math.pi, count))
    place = rng.random((count, 2)) * (textures.SIDE - 1)
    window = np.tile(np.eye(3), (count, 1, 1))
    window[:, :2, :2] = linear
    window[:, :2, 2] = place - np.einsum("lij,lj->li", linear, centre)
    return Look(
        texture=texture.astype(np.int32),
        window=window,
        colour=colour,
        mean=np.stack([np.einsum("lij,lj->li", colour, means), goal], axis=1),
        slope=np.concatenate([slope, 1 - np.sum(slope * centre, axis=1, keepdims=True)], axis=1),
        nearness=nearness,
    )


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


_ROAD, _WALLS, _FIRST_THING = 1, (2, 3), 4
_SKY_NEARNESS = 1e-6
_NO_WALL = 0.35  # share of the sides of the road without a wall
_RADII = (0.25, 1.8)  # of things on the road, in heights of the camera
_NEARNESS = (0.08, 0.9)  # of things, relative to the road at the lower edge of the picture
_MOVING = 0.5  # share of the things that move by themselves
_ROAD_LENGTH = 12.0  # from where it enters the picture to where it ends, in distances to there
_FOG_DISTANCE = 4.0  # distance of depth 1, likewise


def draw_driving_layers(
    rng: np.random.Generator, count: int, *, size: Size, kind: Kind, materials: Textures
) -> Layers:
    """Draws `count` layers, at least _FIRST_THING, of a scene that is seen from a car."""
    height, width = size
    things = count - _FIRST_THING
    focal = width * rng.uniform(0.6, 1.6)
    middle_x, horizon = width * rng.uniform(0.15, 0.85), height * rng.uniform(0.2, 0.55)
    rays = np.array([[1, 0, -middle_x], [0, 1, -horizon], [0, 0, focal]]) / focal  # K^-1
    road_start = focal / (height - horizon)  # distance of the road at the lower edge
    sides = np.array([-1.2, 1.2]) * 8 ** rng.random(2)
    wall_start = np.min(np.abs(sides)) * focal / max(middle_x, width - middle_x)
    nearest = min(road_start, wall_start)
    low, high = _NEARNESS
    distance = road_start / np.sort(low * (high / low) ** rng.random(things))
    distance = np.maximum(distance, 1.1 * nearest)
    normals = np.zeros((count, 3))
    normals[0, 2] = _SKY_NEARNESS
    normals[_ROAD] = [rng.uniform(-0.02, 0.02), 1, rng.uniform(-0.02, 0.02)]
    normals[_WALLS, 0] = 1 / sides
    normals[_FIRST_THING:, 2] = 1 / distance
    to_frame2 = _homographies(rng, normals, rays, nearest, kind.driving)
    nearness = normals @ rays  # [L, 3]
    radius = focal / distance * rng.uniform(*_RADII, things)
    centre = np.tile([middle_x, horizon], (count, 1))
    centre[_FIRST_THING:, 0] = width * rng.uniform(-0.1, 1.1, things)
    centre[_FIRST_THING:, 1] = horizon + focal / distance - 0.8 * radius
    radius = np.concatenate([np.full(_FIRST_THING, FAR), radius])
    diagonal = math.hypot(*size)
    edges, edge_points = draw_outlines(rng, centre, radius, diagonal=diagonal, limits=kind.outlines)
    tops = 0.3 + 6 * rng.random(2) ** 2
    built = rng.random(2) > _NO_WALL
    cuts = _cuts(edges.cuts, nearness, rays, road_start=road_start, tops=tops, built=built)
    edges = edges._replace(cuts=cuts)
    painted = draw_look(
        rng,
        centre,
        np.minimum(radius, diagonal / 2),
        nearness=nearness * (_FOG_DISTANCE * road_start),
        limits=kind.look,
        materials=materials,
    )
    texels = focal / (2 * nearest)  # for a height of the camera: one a pixel not far away
    window = _windows(painted.window, rays, nearness, texels)
    slope = painted.slope.copy()
    slope[:_FIRST_THING] = [0, 0, 1]
    return Layers(
        outlines=edges,
        motion=Motion(
            to_frame2,
            np.linalg.inv(to_frame2),
            waves=np.zeros((count, WAVES, 5)),
            bends=np.zeros(count, bool),
        ),
        look=painted._replace(window=window, slope=slope),
        edge_points=edge_points,
    )


def _homographies(
    rng: np.random.Generator,
    normals: np.ndarray,
    rays: np.ndarray,
    nearest: float,
    limits: DrivingLimits,
) -> np.ndarray:
    """Maps of the planes from frame 1 to frame 2, [L, 3, 3]."""
    count = len(normals)
    yaw, pitch, roll = rng.uniform(-1, 1, 3) ** 3 * math.radians(limits.max_yaw) * [1, 0.25, 0.25]
    turned = _turn(1, yaw) @ _turn(0, pitch) @ _turn(2, roll)
    way = nearest * limits.max_advance * rng.random() ** 1.5
    way = way * np.array([0.1 * rng.uniform(-1, 1), 0.03 * rng.uniform(-1, 1), 1.0])
    moves = np.arange(count) >= _FIRST_THING
    moves &= rng.random(count) < _MOVING
    own = nearest * limits.max_advance * 0.5 * rng.uniform(-1, 1, (count, 3)) * [1, 0, 1.5]
    shift = (np.where(moves[:, None], own, 0) - way) @ turned.T  # [L, 3], t
    maps = turned + shift[:, :, None] * normals[:, None, :]
    return np.linalg.inv(rays) @ maps @ rays


def _turn(axis: int, angle: float) -> np.ndarray:
    """Matrix, [3, 3], of a turn around one axis."""
    one, other = (n for n in range(3) if n != axis)
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


def _cuts(
    cuts: np.ndarray,
    nearness: np.ndarray,
    rays: np.ndarray,
    *,
    road_start: float,
    tops: np.ndarray,
    built: np.ndarray,
) -> np.ndarray:
    """Where road and walls end, [L, C, 3]: at each other, at their tops, and far away."""
    end = np.array([0, 0, 1 / (_ROAD_LENGTH * road_start)])
    lines = {(_ROAD, 0): end - nearness[_ROAD]}
    for wall, top in zip(_WALLS, tops, strict=True):
        lines[wall, 0] = nearness[_ROAD] - nearness[wall]
        lines[wall, 1] = -rays[1] - top * nearness[wall]
        lines[wall, 2] = end - nearness[wall]
    cuts = cuts.copy()
    for place, line in lines.items():
        cuts[place] = line / np.linalg.norm(line[:2])
    cuts[np.array(_WALLS)[~built], 2] = [0, 0, FAR]
    return cuts


def _windows(
    windows: np.ndarray, rays: np.ndarray, nearness: np.ndarray, texels: float
) -> np.ndarray:
    """Maps to texels, [L, 3, 3], by which road and walls are seen in perspective."""
    windows = windows.copy()
    for layer, row in ((_ROAD, 0), *((wall, 1) for wall in _WALLS)):
        # (right or down, ahead) = (ray, 1) / nearness
        plane = np.stack([rays[row], [0, 0, 1], nearness[layer]])
        offset = windows[layer, :2, 2]
        windows[layer] = (
            np.array([[texels, 0, offset[0]], [0, texels, offset[1]], [0, 0, 1]]) @ plane
        )
    return windows
