"""Generated scenes with exact flow: layers cut from photographs, each of which moves on its own.

Back to front lie a background and some ellipses and polygons. A layer turns, grows and shifts as a
whole: point x of frame 1 is found in frame 2 at A (x - centre) + centre + shift. Everything is a
function of (seed, index), made of TensorFlow operations.

Letters: L layers, the background first, H height, W width, N = H W points, S side of a photograph.
"""

import hashlib
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
import tensorflow as tf

from pwc_exp.data.images import Size, read_frame
from pwc_exp.data.layers import (
    Affine,
    Layers,
    Motion,
    compose,
    draw_layers,
    edge_distance,
    transform,
)
from pwc_exp.data.sample import Example
from pwc_exp.errors import UserError

# They lie in scikit-image's own package: nothing is downloaded.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "rocket.jpg",
)
PHOTOGRAPH_SIDE = 512  # pixels; all are cut or mirrored to this, to be one tensor


class Scene(NamedTuple):
    """A generated pair and what is known of it."""

    frame1: tf.Tensor  # [H, W, 3] float32 RGB in [0, 1]
    frame2: tf.Tensor  # [H, W, 3]
    flow: tf.Tensor  # [H, W, 2] pixels, of the topmost layer at each pixel of frame1
    occlusion: tf.Tensor  # [H, W] float32, 1 where that point is hidden in, or outside of, frame2
    layer: tf.Tensor  # [H, W] int32, the topmost layer in frame1; 0 is the background


class SyntheticSource:
    """Generated scenes, the same for the same arguments.

    seed: another seed gives other scenes. size: how many there are. frame_size: (height, width).
    layers: shapes before the background. max_speed: largest shift of a layer, in diagonals of
    the frame; the mean is a fifth of it. max_rotation: degrees. max_zoom: 0.05 is 5 percent.
    """

    name = "synthetic"
    failure: UserError | None = None

    def __init__(
        self,
        *,
        seed: int,
        size: int,
        frame_size: Sequence[int],
        layers: int,
        max_speed: float,
        max_rotation: float,
        max_zoom: float,
    ) -> None:
        self.size = size
        self.ids: Sequence[str] = [f"{index:06d}" for index in range(size)]
        self._seed = seed
        self._frame_size = Size(*frame_size)
        self._layers = layers
        max_shift = max_speed * math.hypot(*self._frame_size)
        self._motion = Motion(max_shift, max_rotation, max_zoom)
        with tf.device("CPU"):
            self._photographs = tf.constant(_read_photographs())
        recipe = (seed, size, self._frame_size, layers, self._motion, version("scikit-image"))
        self.digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]

    def example(self, index: tf.Tensor) -> Example:
        """Example `index`; its flow is known everywhere, also where it leads behind something."""
        scene = self.scene(index)
        return Example(scene.frame1, scene.frame2, scene.flow, tf.ones_like(scene.occlusion))

    def scene(self, index: tf.Tensor) -> Scene:
        """Scene `index`, a scalar, with what only a generator knows."""
        layers = draw_layers(
            tf.stack([self._seed, index]),
            count=self._layers + 1,
            size=self._frame_size,
            motion=self._motion,
            photographs=len(PHOTOGRAPHS),
            side=PHOTOGRAPH_SIDE,
        )
        pixels = _pixels(self._frame_size)
        distance1 = edge_distance(layers.outline, transform(layers.object_from_frame1, pixels))
        distance2 = edge_distance(layers.outline, transform(layers.object_from_frame2, pixels))
        layer = _topmost(distance1)
        target = _pick(transform(layers.frame2_from_frame1, pixels), layer)
        occlusion = _hidden(layers, layer, target) | _outside(target, self._frame_size)
        return Scene(
            frame1=self._paint(layers, layers.object_from_frame1, distance1),
            frame2=self._paint(layers, layers.object_from_frame2, distance2),
            flow=tf.reshape(tf.transpose(target - pixels), [*self._frame_size, 2]),
            occlusion=tf.reshape(tf.cast(occlusion, tf.float32), self._frame_size),
            layer=tf.reshape(layer, self._frame_size),
        )

    def _paint(self, layers: Layers, object_from_frame: Affine, distance: tf.Tensor) -> tf.Tensor:
        """Lays the layers' textures over each other, [H, W, 3]; distance: [L, N]."""
        window = compose(layers.photograph_from_object, object_from_frame)
        photographs = tf.gather(self._photographs, layers.photograph)
        textures = _sample(photographs, window, self._frame_size)
        cover = tf.clip_by_value(0.5 - distance, 0.0, 1.0)  # an edge of one pixel
        cover = tf.reshape(cover, [-1, *self._frame_size, 1])
        frame = textures[0]
        for number in range(1, textures.shape[0]):
            frame += cover[number] * (textures[number] - frame)
        return frame


def _pixels(size: Size) -> tf.Tensor:
    """The pixels' own coordinates, [2, N], row by row."""
    x, y = tf.meshgrid(tf.range(size.width), tf.range(size.height))
    return tf.cast(tf.stack([tf.reshape(x, [-1]), tf.reshape(y, [-1])]), tf.float32)


def _topmost(distance: tf.Tensor) -> tf.Tensor:
    """The nearest layer that covers each point, [N] int32; distance: [L, N]."""
    numbers = tf.range(distance.shape[0])[:, None]
    return tf.reduce_max(tf.where(distance <= 0, numbers, 0), axis=0)


def _pick(values: tf.Tensor, layer: tf.Tensor) -> tf.Tensor:
    """The value of each point's own layer, [2, N]; values: [L, 2, N]."""
    picked = values[0]
    for number in range(1, values.shape[0]):
        picked = tf.where(layer == number, values[number], picked)
    return picked


def _hidden(layers: Layers, layer: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Whether a nearer layer covers `target`, [2, N], in frame 2; [N] bool."""
    distance = edge_distance(layers.outline, transform(layers.object_from_frame2, target))
    return _topmost(distance) > layer


def _outside(target: tf.Tensor, size: Size) -> tf.Tensor:
    """Whether `target`, [2, N], lies beyond the outermost pixels of its frame; [N] bool."""
    x, y = target[0], target[1]
    return (x < 0) | (y < 0) | (x > size.width - 1) | (y > size.height - 1)


def _sample(images: tf.Tensor, window: Affine, size: Size) -> tf.Tensor:
    """Reads images, [L, S, S, 3], bilinearly at window(x), mirrored beyond their edges."""
    rows = tf.concat([window.linear, window.offset[..., None]], axis=-1)  # [L, 2, 3]
    coefficients = tf.pad(tf.reshape(rows, [-1, 6]), [[0, 0], [0, 2]])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=coefficients,
        output_shape=tf.constant(size),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _read_photographs() -> np.ndarray:
    """[P, S, S, 3] float32 RGB in [0, 1]."""
    folder = Path(skimage.__file__).parent / "data"
    return np.stack([_square(read_frame(folder / name)) for name in PHOTOGRAPHS])


def _square(image: np.ndarray) -> np.ndarray:
    """Cuts the middle out of an image, or mirrors it at its edges, to PHOTOGRAPH_SIDE squared."""
    for axis in (0, 1):
        start = max(image.shape[axis] - PHOTOGRAPH_SIDE, 0) // 2
        image = image.take(range(start, min(start + PHOTOGRAPH_SIDE, image.shape[axis])), axis)
        short = PHOTOGRAPH_SIDE - image.shape[axis]
        widths = [(0, short if dim == axis else 0) for dim in range(3)]
        image = np.pad(image, widths, mode="symmetric")
    return image
