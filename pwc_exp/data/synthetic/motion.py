"""How the layers of a generated scene move: each by a homography and, some, by waves before it.

A point p of a layer, in pixels of frame 1, is found in frame 2 at `to_frame2 (p + waves(p))`. That
is exact where flow is asked for. Frame 2 is drawn by the inverse: of the homography in closed form,
of the waves by rounds of p <- q - waves(p), as many as make it right to _TOLERANCE.

Drawn with NumPy, evaluated with TensorFlow.

Letters: L layers, the background first and then back to front, W waves.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.headers import Size

WAVES = 2
_WAVE_LENGTHS = (0.15, 0.5)  # diagonals of the frame
_TOLERANCE = 1e-3  # pixels, at the worst
_BACKGROUND_TURN = 1 / 3  # of what a layer may turn, grow and shear: it is as large as the frame
_BACKGROUND_EXPANSION = 0.3  # of what the nearest layer grows about the focus
_BACKWARD = 0.25  # share of the scenes with a focus in which the camera moves back
_BEHIND = 0.02  # of a homography's last coordinate: less is behind the camera
_CDF = np.vectorize(NormalDist().cdf)


class MotionLimits(NamedTuple):
    """How far layers move between the frames, and how alike."""

    speed_shares: Sequence[float]  # shares of layers that are slow, medium and fast; their sum is 1
    speed_bounds: Sequence[float]  # largest speed of each, ascending, in diagonals of the frame
    background_speed: float  # factor of the background's speed
    coherence: float  # 0: each layer on its own; 1: all as the background
    max_rotation: float  # degrees, either way
    max_zoom: float  # 0.05: 5 percent, either way
    max_shear: float  # 0.05: 5 percent of the distance from the axis, either way
    max_perspective: float  # change of scale over a diagonal of the frame
    max_expansion: float  # growth of the nearest layer about a focus inside the frame
    bending: float  # share of layers that waves bend
    max_strain: float  # largest change of length by the waves, a share


class Motion(NamedTuple):
    """The maps of layers. Of a single layer, all without L."""

    to_frame2: np.ndarray  # [L, 3, 3] homographies
    from_frame2: np.ndarray  # [L, 3, 3]
    waves: np.ndarray  # [L, W, 5] of each wave: its vector, phase (turns) and amplitude (x, y)
    bends: np.ndarray  # [L] bool, whether it has waves


class Points(NamedTuple):
    """Points in pixels, and whether they are before the camera."""

    x: tf.Tensor
    y: tf.Tensor
    seen: tf.Tensor


def draw_motion(
    rng: np.random.Generator, centre: np.ndarray, *, size: Size, limits: MotionLimits
) -> Motion:
    """Draws motions of layers around centre, [L, 2], for frames of `size`.

    The speed of each layer follows limits.speed_shares, whatever the coherence: it mixes ranks.
    What turns, grows, shears and bends does so in proportion to the speed, and fully from the
    speed on that is fast, so that slow scenes are slow everywhere.
    """
    count = len(centre)
    diagonal = math.hypot(*size)
    speed, heading = _draw_speed(rng, count, limits)
    vigour = np.minimum(speed / limits.speed_bounds[1], 1.0)
    # Mixed with the background's, which is smaller.
    shape = rng.uniform(-1, 1, (5, count))
    background = _BACKGROUND_TURN * shape[:, :1]
    shape = limits.coherence * background + (1 - limits.coherence) * shape
    shape[:, :1] = background
    shape = vigour * shape
    linear = _linear(shape[:3], limits)
    slant = limits.max_perspective / diagonal * shape[3:].T
    shift = diagonal * speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    # A layer that moves with the background also takes part in how that turns where the layer is.
    turn = (centre - centre[0]) @ (linear[0] - np.eye(2)).T
    goal = centre + shift + limits.coherence * turn
    to_frame2 = _expansion(rng, count, size, limits) @ _homography(centre, linear, slant, goal)
    waves, bends = _draw_waves(rng, count, vigour, diagonal, limits)
    return Motion(to_frame2, np.linalg.inv(to_frame2), waves, bends)


def move(motion: Motion, x: tf.Tensor, y: tf.Tensor) -> Points:
    """Maps points of one layer from frame 1 to frame 2."""

    def bent() -> tuple[tf.Tensor, tf.Tensor]:
        along_x, along_y = displacement(motion.waves, x, y)
        return x + along_x, y + along_y

    return project(motion.to_frame2, *tf.cond(motion.bends, bent, lambda: (x, y)))


def trace(motion: Motion, x: tf.Tensor, y: tf.Tensor, *, rounds: int) -> Points:
    """Maps points of frame 2 to where they are on one layer, in pixels of frame 1."""
    goal = project(motion.from_frame2, x, y)

    def unbent() -> tuple[tf.Tensor, tf.Tensor]:
        def closer(number: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
            along_x, along_y = displacement(motion.waves, x, y)
            return number + 1, goal.x - along_x, goal.y - along_y

        # Unrolled, it would be fused into one expression whose size doubles with every round.
        start = (0, goal.x, goal.y)
        return tuple(tf.while_loop(lambda number, *_: number < rounds, closer, start)[1:])

    x, y = tf.cond(motion.bends, unbent, lambda: (goal.x, goal.y))
    return Points(x, y, goal.seen)


def project(matrix: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> Points:
    """Applies a homography, [3, 3], whose last coordinate is positive before the camera."""
    rows = [matrix[n, 0] * x + matrix[n, 1] * y + matrix[n, 2] for n in range(3)]
    scale = 1 / tf.maximum(rows[2], _BEHIND)
    return Points(rows[0] * scale, rows[1] * scale, rows[2] > _BEHIND)


def move_points(motion: Motion, points: np.ndarray) -> np.ndarray:
    """Maps points of all layers from frame 1 to frame 2, with NumPy: [L, M, 2] -> [L, M, 2]."""
    x, y = points[..., 0], points[..., 1]
    waves = motion.waves.transpose(1, 2, 0)[..., None]  # [W, 5, L, 1]
    along_x, along_y = displacement(waves, x, y, floor=np.floor)
    bent = np.stack([x + along_x, y + along_y, np.ones_like(x)], axis=-1)
    moved = bent @ motion.to_frame2.transpose(0, 2, 1)
    goal: np.ndarray = moved[..., :2] / np.maximum(moved[..., 2:], _BEHIND)
    return goal


def displacement(waves, x, y, *, floor=tf.floor):  # type: ignore[no-untyped-def]
    """How far waves, [W, 5], push points: (x, y). Of NumPy or TensorFlow, as `floor` is."""
    along_x = along_y = 0.0
    for number in range(WAVES):
        wave_x, wave_y, phase, amplitude_x, amplitude_y = (waves[number][n] for n in range(5))
        turn = wave_x * x + wave_y * y + phase
        # A sine, to 0.1 percent, of arithmetic alone: with smooth slopes, and exact by definition.
        part = turn - floor(turn + 0.5)
        arch = part * (8 - 16 * abs(part))
        height = arch * (0.775 + 0.225 * abs(arch))
        along_x = along_x + amplitude_x * height
        along_y = along_y + amplitude_y * height
    return along_x, along_y


def rounds_of(max_strain: float, diagonal: float) -> int:
    """How many rounds undo the waves: each shrinks the error by max_strain."""
    error = max_strain * _WAVE_LENGTHS[1] * diagonal / (2 * math.pi)
    if error <= _TOLERANCE:
        return 0
    return math.ceil(math.log(_TOLERANCE / error) / math.log(max_strain))


def _draw_speed(
    rng: np.random.Generator, count: int, limits: MotionLimits
) -> tuple[np.ndarray, np.ndarray]:
    """Speed, [L] in diagonals, and heading, [L] in radians."""
    # Mixed normal numbers are normal: the rank of each layer stays evenly distributed.
    normal = rng.standard_normal(count)
    mixed = limits.coherence * normal[0] + math.sqrt(1 - limits.coherence**2) * normal
    mixed[0] = normal[0]
    speed = speed_at(_CDF(mixed), limits)
    speed[0] *= limits.background_speed
    turn = math.pi * rng.uniform(-1, 1, count)
    heading = turn[0] + (1 - limits.coherence) * turn
    heading[0] = turn[0]
    return speed, heading


def speed_at(rank: np.ndarray, limits: MotionLimits) -> np.ndarray:
    """The speed below which the share `rank` of layers is, in diagonals.

    Even up to the first bound, beyond it even in the logarithm: a long tail.
    """
    speed = np.zeros_like(rank)
    start, low = 0.0, 0.0
    for share, high in zip(limits.speed_shares, limits.speed_bounds, strict=True):
        if share > 0:
            part = np.clip((rank - start) / share, 0.0, 1.0)
            grown = part * high if low == 0 else low * (high / low) ** part
            speed = np.where(rank >= start, grown, speed)
        start, low = start + share, high
    return speed


def _linear(shape: np.ndarray, limits: MotionLimits) -> np.ndarray:
    """Matrices, [L, 2, 2], of rotation, growth and shear; shape: [3, L], each in [-1, 1]."""
    zoom = np.exp(shape[1] * math.log1p(limits.max_zoom))
    shear = shape[2] * limits.max_shear
    sheared = np.stack([np.ones_like(shear), shear, shear, np.ones_like(shear)], axis=-1)
    turned = rotation(shape[0] * math.radians(limits.max_rotation))
    return zoom[:, None, None] * turned @ sheared.reshape(-1, 2, 2)


def rotation(angle: np.ndarray) -> np.ndarray:
    """Matrices, [..., 2, 2]; with y down, a positive angle turns clockwise."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _homography(
    centre: np.ndarray, linear: np.ndarray, slant: np.ndarray, goal: np.ndarray
) -> np.ndarray:
    """Matrices, [L, 3, 3], of p -> goal + linear q / (1 + slant . q), q = p - centre."""
    matrices = np.zeros((len(centre), 3, 3))
    matrices[:, :2, :2] = linear + goal[:, :, None] * slant[:, None, :]
    matrices[:, :2, 2] = goal
    matrices[:, 2, :2] = slant
    matrices[:, 2, 2] = 1
    back = np.tile(np.eye(3), (len(centre), 1, 1))
    back[:, :2, 2] = -centre
    return matrices @ back


def _expansion(
    rng: np.random.Generator, count: int, size: Size, limits: MotionLimits
) -> np.ndarray:
    """Matrices, [L, 3, 3], of growth about one focus, the more the nearer a layer is."""
    amount = limits.max_expansion * rng.random() ** 2 * (1 if rng.random() > _BACKWARD else -0.7)
    focus = rng.uniform(0.1, 0.9, 2) * [size.width, size.height]
    nearness = np.linspace(_BACKGROUND_EXPANSION, 1, count)
    grown = 1 + amount * nearness
    matrices = np.zeros((count, 3, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = grown
    matrices[:, :2, 2] = (1 - grown)[:, None] * focus
    matrices[:, 2, 2] = 1
    return matrices


def _draw_waves(
    rng: np.random.Generator, count: int, vigour: np.ndarray, diagonal: float, limits: MotionLimits
) -> tuple[np.ndarray, np.ndarray]:
    """Waves, [L, W, 5], and which layers have them, [L] bool."""
    bends = (rng.random(count) < limits.bending) & (limits.max_strain > 0)
    draws = rng.random((5, count, WAVES))
    shortest, longest = _WAVE_LENGTHS
    length = diagonal * shortest * (longest / shortest) ** draws[0]
    # Amplitude times 2 pi / length is the strain of one wave; together they keep within the limit.
    strain = limits.max_strain / WAVES * (bends * vigour)[:, None]
    amplitude = strain * (0.5 + draws[1] / 2) * length / (2 * math.pi)
    towards, along = 2 * math.pi * draws[2], 2 * math.pi * draws[4]
    parts = [np.cos(towards) / length, np.sin(towards) / length, draws[3]]
    parts += [amplitude * np.cos(along), amplitude * np.sin(along)]
    return np.stack(parts, axis=-1), bends
