"""What a film adds to drawn frames, as Sintel's final pass does: fog, blur, light, noise, JPEG.

None of it moves a point: flow and occlusion stay as they are. A share of the scenes has such
effects, each chosen on its own and with a strength drawn anew between 0 and its limit.

Strengths are drawn with NumPy, effects applied with TensorFlow.

Letters: H height, W width, K lights.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.headers import Size

_TAPS = 4  # of each of the two passes of the motion blur: 16 places along the path
_FOG_LIGHT = (0.45, 0.9)
_FOG_TINT = 0.08
_LIGHTS = 3  # highlights and shadows of one scene
_LIGHT_RADII = (0.03, 0.3)  # of these, in diagonals
_LIGHT_MOVES = 0.05  # diagonals between the frames, in each direction
_NOISE_SHIFTS = 2**18  # places in the table of noise where that of a plane may begin
_BEST_JPEG = 95  # quality; better ones leave no trace


class FilmLimits(NamedTuple):
    """How strong the effects may be."""

    share: float  # of the scenes that have any
    effects: float  # share of the effects that such a scene has
    fog: float  # optical depth of the fog before the background
    shutter: float  # time that the shutter is open, in frames
    defocus: float  # blur of both frames, standard deviation in pixels
    noise: float  # standard deviation, as a share of white
    flicker: float  # change of brightness from frame 1 to frame 2, a share
    gamma: float  # change of the exponent of the tones from frame 1 to frame 2, a share
    light: float  # change of brightness from the middle of each frame to its corners, a share
    highlights: float  # strength of highlights and shadows that move by themselves, a share
    jpeg: int  # lowest quality of a compression of both frames, of 100; 100: none


class Film(NamedTuple):
    """The effects of one scene: scalars, 0 where there is none, but for what says otherwise."""

    fog: np.ndarray
    fog_light: np.ndarray  # [3]
    shutter: np.ndarray
    defocus: np.ndarray
    noise: np.ndarray
    noise_starts: np.ndarray  # [2, 3] int32, of each plane in the table of noise
    gain: np.ndarray  # of frame 2; 1: none
    gamma: np.ndarray  # of frame 2; 1: none
    light: np.ndarray  # [2, 3] of each frame, brightness a x + b y + c
    highlights: np.ndarray  # [2, K, 6] place, a, b, c of exp(-a x2 - b x y - c y2), strength
    jpeg: np.ndarray | int  # quality; 100: none


def draw_film(rng: np.random.Generator, limits: FilmLimits, size: Size) -> Film:
    """Draws the effects of one scene; none where it has none."""
    filmed = rng.random() < limits.share
    present = filmed & (rng.random(9) < limits.effects)
    strength = rng.random(9) * present
    low, high = _FOG_LIGHT
    fog_light = rng.uniform(low, high) + rng.uniform(-_FOG_TINT, _FOG_TINT, 3)
    signs = rng.choice([-1, 1], 2)
    quality = _BEST_JPEG - (_BEST_JPEG - limits.jpeg) * strength[8]
    return Film(
        fog=strength[0] * limits.fog,
        fog_light=fog_light,
        shutter=strength[1] * limits.shutter,
        defocus=strength[2] * limits.defocus,
        noise=strength[3] * limits.noise,
        noise_starts=rng.integers(_NOISE_SHIFTS, size=(2, 3)),
        gain=(1 + limits.flicker) ** (signs[0] * strength[4]),
        gamma=(1 + limits.gamma) ** (signs[1] * strength[5]),
        light=_draw_light(rng, strength[6] * limits.light, size),
        highlights=_draw_highlights(rng, strength[7] * limits.highlights, size),
        jpeg=round(quality) if present[8] and limits.jpeg < 100 else 100,
    )


def _draw_light(rng: np.random.Generator, strength: float, size: Size) -> np.ndarray:
    towards = rng.uniform(-math.pi, math.pi)
    slopes = []
    for turn in (0.0, rng.normal(0, 0.3)):
        slope = strength * np.array([np.cos(towards + turn), np.sin(towards + turn)])
        slope /= math.hypot(*size) / 2
        slopes.append([*slope, 1 - slope @ [size.width / 2, size.height / 2]])
    return np.array(slopes)


def _draw_highlights(rng: np.random.Generator, strength: float, size: Size) -> np.ndarray:
    diagonal = math.hypot(*size)
    low, high = _LIGHT_RADII
    place = rng.random((_LIGHTS, 2)) * [size.width, size.height]
    radius = diagonal * low * (high / low) ** rng.random((_LIGHTS, 1, 1))
    turn = rng.uniform(-math.pi, math.pi, _LIGHTS)
    axes = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], -1)
    axes = axes.reshape(-1, 2, 2) / radius
    axes[:, 1] /= rng.uniform(0.15, 1, (_LIGHTS, 1))
    form = 0.5 * axes.transpose(0, 2, 1) @ axes  # [K, 2, 2]
    weight = strength * rng.uniform(0.5, 1, _LIGHTS) * rng.choice([-1, 1], _LIGHTS)
    lights = []
    for _ in range(2):
        parts = [place, form[:, 0, 0, None], 2 * form[:, 0, 1, None], form[:, 1, 1, None]]
        lights.append(np.concatenate([*parts, weight[:, None]], axis=1))
        place = place + _LIGHT_MOVES * diagonal * rng.uniform(-1, 1, (_LIGHTS, 2))
        weight = weight * rng.uniform(0.7, 1.3, _LIGHTS)
    return np.array(lights)


def make_noise(size: Size) -> tf.Tensor:
    """A table of normal values that is long enough for planes of `size`, wherever they begin."""
    count = size.height * size.width + _NOISE_SHIFTS
    with tf.init_scope(), tf.device("CPU"):  # once, also when a graph is being built that needs it
        return tf.random.stateless_normal([count], [3, 1])


def develop(
    frames: list[tf.Tensor],
    motions: list[tf.Tensor],
    film: Film,
    noise: tf.Tensor,
    *,
    limits: FilmLimits,
) -> list[tf.Tensor]:
    """Applies what happens in light and camera to both frames, [3, H, W] each.

    motions: of what each frame shows, [2, H, W] pixels a frame. noise: the table of `make_noise`.
    limits: the largest of any scene; a limit that leaves out an effect leaves no operation.
    """
    if not limits.share:
        return frames
    developed = []
    for number, (shown, motion) in enumerate(zip(frames, motions, strict=True)):
        frame = shown
        light, lights = film.light[number], film.highlights[number]
        tones = limits.flicker + limits.gamma if number == 1 else 0
        grain = (film.noise, noise, film.noise_starts[number])
        changed = (film.gain != 1) | (film.gamma != 1)
        for limit, happens, effect, arguments in (
            (limits.shutter, film.shutter > 0, smear, (motion, film.shutter)),
            (limits.light, light[2] != 1, shine, (light,)),
            (limits.highlights, lights[0, 5] != 0, highlight, (lights,)),
            (limits.defocus, film.defocus > 0, defocus, (film.defocus,)),
            (tones, changed, change_tones, (film.gain, film.gamma)),
            (limits.noise, film.noise > 0, add_noise, grain),
        ):
            if limit > 0:
                applied = functools.partial(effect, frame, *arguments)
                frame = tf.cond(happens, applied, functools.partial(tf.identity, frame))
        developed.append(frame)
    return developed


# Each effect is a program of its own: in one, XLA would compute what they share over and over.
_compiled = tf.function(jit_compile=True, autograph=False)


def compress(frame: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Compresses and decompresses a frame, [H, W, 3] in [0, 1], as JPEG; a quality of 100: not."""

    def compressed() -> tf.Tensor:
        pixels = tf.cast(frame * 255 + 0.5, tf.uint8)
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=pixels, quality=quality)
        decoded = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_FAST")
        return tf.ensure_shape(tf.cast(decoded, tf.float32) / 255, frame.shape)

    return tf.cond(quality < 100, compressed, lambda: frame)


def smear(frame: tf.Tensor, motion: tf.Tensor, shutter: tf.Tensor) -> tf.Tensor:
    """Averages each pixel of frame, [3, H, W] in [0, 1], along shutter * motion, centred on it.

    motion: [2, H, W], pixels.
    """
    packed = _pack(frame)
    for spacing in (1 / _TAPS, 1 / _TAPS**2):
        packed = _add_along(packed, motion, spacing * shutter)
    return _unpack(packed) / (_TAPS * _TAPS)


# Three planes in one word of 64 bits, 20 for each: 16 of its values, and 4 for sums of 16 of them.
_FIELDS = (0, 20, 40)
_LARGEST = 2**16 - 1


@_compiled
def _pack(frame: tf.Tensor) -> tf.Tensor:
    words = tf.cast(tf.clip_by_value(frame, 0, 1) * _LARGEST + 0.5, tf.int64)
    return sum(words[n] * 2**start for n, start in enumerate(_FIELDS))


@_compiled
def _unpack(packed: tf.Tensor) -> tf.Tensor:
    shifted = tf.bitwise.right_shift(packed, tf.reshape(tf.constant(_FIELDS, tf.int64), [3, 1, 1]))
    return tf.cast(tf.bitwise.bitwise_and(shifted, 2**20 - 1), tf.float32) / _LARGEST


@_compiled
def _add_along(packed: tf.Tensor, motion: tf.Tensor, spacing: tf.Tensor) -> tf.Tensor:
    """Adds up _TAPS pixels on each path, [H, W], that are spacing * motion apart."""
    height, width = packed.shape
    x, y = _coordinates(motion)
    flat = tf.reshape(packed, [-1])
    taps = []
    for tap in range(_TAPS):
        time = spacing * (tap - (_TAPS - 1) / 2)
        # Rounded by hand: tf.round, which rounds halves to even, is many times slower here.
        column = tf.floor(tf.clip_by_value(x + time * motion[0], 0, width - 1) + 0.5)
        row = tf.floor(tf.clip_by_value(y + time * motion[1], 0, height - 1) + 0.5)
        taps.append(tf.gather(flat, tf.cast(row, tf.int32) * width + tf.cast(column, tf.int32)))
    return tf.add_n(taps)


@_compiled
def shine(frame: tf.Tensor, light: tf.Tensor) -> tf.Tensor:
    """Makes one side of frame, [3, H, W], brighter and the other darker; light: [3]."""
    x, y = _coordinates(frame)
    return tf.clip_by_value(frame * (light[0] * x + light[1] * y + light[2]), 0, 1)


@_compiled
def highlight(frame: tf.Tensor, lights: tf.Tensor) -> tf.Tensor:
    """Adds highlights (positive) and shadows to frame, [3, H, W] in [0, 1]; lights: [K, 6]."""
    x, y = _coordinates(frame)
    for number in range(_LIGHTS):
        place_x, place_y, a, b, c, weight = tf.unstack(lights[number])
        right, down = x - place_x, y - place_y
        spot = weight * tf.exp(-a * right * right - b * right * down - c * down * down)
        frame = tf.where(weight > 0, frame + spot * (1 - frame), frame * (1 + spot))
    return tf.clip_by_value(frame, 0, 1)


def _coordinates(frame: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    height, width = frame.shape[1:]
    y, x = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    return tf.cast(x, tf.float32), tf.cast(y, tf.float32)


@_compiled
def defocus(frame: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """Blurs frame, [3, H, W], by a normal distribution, of at most 3 pixels to either side."""
    radius = 3
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-0.5 * (offsets / tf.maximum(deviation, 1e-3)) ** 2)
    weights = tf.unstack(weights / tf.reduce_sum(weights), num=2 * radius + 1)
    height, width = frame.shape[1:3]
    rows = tf.pad(frame, [[0, 0], [radius, radius], [0, 0]], "SYMMETRIC")
    frame = tf.add_n([w * rows[:, n : n + height] for n, w in enumerate(weights)])
    columns = tf.pad(frame, [[0, 0], [0, 0], [radius, radius]], "SYMMETRIC")
    return tf.add_n([w * columns[:, :, n : n + width] for n, w in enumerate(weights)])


@_compiled
def change_tones(frame: tf.Tensor, gain: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """Changes brightness and gamma of frame, [3, H, W] in [0, 1]."""
    # A power, in the two functions that XLA makes fast.
    return tf.minimum(tf.exp(gamma * tf.math.log(tf.maximum(frame, 1e-4))) * gain, 1.0)


def add_noise(
    frame: tf.Tensor, deviation: tf.Tensor, noise: tf.Tensor, starts: tf.Tensor
) -> tf.Tensor:
    """Adds normal noise, other in each plane of frame, [3, H, W], and keeps to [0, 1].

    noise: the table of `make_noise`. starts: [3], where that of each plane begins.
    """
    count = frame.shape[1] * frame.shape[2]
    planes = [tf.slice(noise, [starts[n]], [count]) for n in range(3)]
    grain = tf.reshape(tf.stack(planes), frame.shape)
    return tf.clip_by_value(frame + deviation * grain, 0.0, 1.0)
