"""Generated scenes with exact flow: layers cut from textures, each of which moves on its own.

What a scene shows is drawn with NumPy, from (seed, index) alone: outlines, looks, maps in closed
form (motion.py), which are the flow. rendering.py turns that into frames.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.cache import Cache, Record
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import scaled
from pwc_exp.data.sample import Example, Part
from pwc_exp.data.synthetic.film import FilmLimits, compress, develop, draw_film, make_noise
from pwc_exp.data.synthetic.layers import Kind, draw_driving_layers, draw_flat_layers
from pwc_exp.data.synthetic.motion import rounds_of
from pwc_exp.data.synthetic.rendering import Drawing, make_renderer, prepare
from pwc_exp.data.synthetic.textures import load_textures
from pwc_exp.errors import UserError

_VERSION = 2  # of the generator: another one makes other scenes from the same settings


class Scene(NamedTuple):
    """A generated pair and what is known of it."""

    frame1: tf.Tensor  # [H, W, 3] float32 RGB in [0, 1], multiples of 1/255
    frame2: tf.Tensor  # [H, W, 3]
    flow: tf.Tensor  # [H, W, 2] pixels, of the topmost layer at each pixel of frame1
    occlusion: tf.Tensor  # [H, W] float32, 1 where that point is hidden in, or outside of, frame2
    layer: tf.Tensor  # [H, W] int32, the topmost layer in frame1; 0 is the background


class SyntheticSource:
    """Generated scenes, the same for the same arguments.

    Args:
        seed: another seed gives other scenes.
        size: how many there are.
        frame_size: (height, width).
        textures: folder of further pictures.
        kinds: of scenes, by name, with how often each occurs relative to the others.
        occluded: whether points that are hidden in frame 2 count as known.
        cache: folder of scenes that are read in place of being generated, and added as they are.
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        seed: int,
        size: int,
        frame_size: Sequence[int],
        textures: str | None,
        kinds: Mapping[str, tuple[Kind, float]],
        occluded: bool,
        cache: str | None = None,
    ) -> None:
        self.size = size
        self.parts: Sequence[Part] = (Part(size, 1.0),)
        self.ids: Sequence[str] = [f"{index:06d}" for index in range(size)]
        self.kinds = [kind for kind, _ in kinds.values()]
        self._seed = seed
        self._frame_size = Size(*frame_size)
        weights = np.array([weight for _, weight in kinds.values()], np.float64)
        self._ends = np.cumsum(weights / weights.sum())
        self._most = max(4, 1 + max(kind.layers[1] for kind in self.kinds))  # layers of a scene
        self._occluded = occluded
        patterns = any(kind.look.procedural for kind in self.kinds)
        self.textures = load_textures(textures, patterns=patterns)
        looks = (self.textures.digest, list(weights), self.kinds)
        recipe = (_VERSION, seed, self._frame_size, looks)
        self.digest = _digest(size, occluded, recipe)
        self._cache: Cache | None = None
        if cache is not None:
            # Neither the number of scenes nor which pixels are valid changes a scene.
            name = f"{self.name}-{_digest(recipe)}"
            places = [f"{name}/{index // 1000:04d}/{index:06d}" for index in range(size)]
            self._cache = Cache(Path(cache), places)
            self._cache.prepare(self._frame_size)

    def __eq__(self, other: object) -> bool:
        """Sources of one digest have the same scenes."""
        return isinstance(other, SyntheticSource) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def example(self, index: tf.Tensor) -> Example:
        """Example `index`; its flow is known everywhere, or where the point is seen in frame 2."""
        if self._cache is None:
            record = self._record(index)
        else:
            record = self._cache.get(index, lambda: self._record(index))
            for part in record:
                part.set_shape([*self._frame_size, *part.shape[2:]])
        valid = record.valid if self._occluded else record.valid * (1 - record.occlusion)
        return Example(record.frame1, record.frame2, record.flow, valid)

    def failure(self, index: int) -> UserError | None:
        """None: no file is read that could be damaged."""
        if self._cache is not None and self._cache.read(index) is None:
            record = self._record(tf.constant(index))
            self._cache.write(index, Record(*(part.numpy() for part in record)))
        return None

    def scene(self, index: tf.Tensor) -> Scene:
        """Scene `index`, a scalar, with what only a generator knows."""
        with tf.device("CPU"):
            return _make_scene(self)(tf.cast(index, tf.int64))

    def _record(self, index: tf.Tensor) -> Record:
        frame1, frame2, flow, occlusion, _ = self.scene(index)
        return Record(frame1, frame2, flow, tf.ones_like(occlusion), occlusion)

    def draw(self, index: int) -> Drawing:
        """What scene `index` shows."""
        rng = np.random.default_rng([self._seed, index])
        kind = self.kinds[min(int(np.searchsorted(self._ends, rng.random())), len(self._ends) - 1)]
        size, fewest, most = self._frame_size, *kind.layers
        count = 1 + int(rng.integers(fewest, most + 1))
        draw_layers = draw_flat_layers
        if rng.random() < kind.driving.share:
            count, draw_layers = max(count, 4), draw_driving_layers
        layers = draw_layers(rng, count, size=size, kind=kind, materials=self.textures)
        film = draw_film(rng, kind.film, size)
        return prepare(layers, film, size, most=self._most)

    def make_scene(self) -> Callable[[tf.Tensor], Scene]:
        """The compiled function index -> scene."""
        size = self._frame_size
        limits = [max(values) for values in zip(*(k.film for k in self.kinds), strict=True)]
        film = FilmLimits(*limits)._replace(jpeg=min(kind.film.jpeg for kind in self.kinds))
        rounds = rounds_of(max(kind.motion.max_strain for kind in self.kinds), math.hypot(*size))
        render = make_renderer(size, rounds=rounds, fog=bool(film.share and film.fog))
        sample = self.draw(0)
        flat = tf.nest.flatten(sample)
        noise = make_noise(size)

        def draw(index: np.ndarray) -> list[np.ndarray]:
            return tf.nest.flatten(self.draw(int(index)))

        def scene(index: tf.Tensor) -> Scene:
            drawn = tf.numpy_function(draw, [index], [part.dtype for part in flat])
            pairs = zip(drawn, flat, strict=True)
            shaped = [tf.ensure_shape(one, like.shape) for one, like in pairs]
            drawing = tf.nest.pack_sequence_as(sample, shaped)
            rendered = render(drawing, self.textures.texels)
            frames = develop(rendered.frames, rendered.motions, drawing.film, noise, limits=film)
            frames = [tf.transpose(frame, [1, 2, 0]) for frame in frames]
            if film.share and film.jpeg < 100:
                frames = [compress(frame, drawing.film.jpeg) for frame in frames]
            # The levels of 8 bits, as a camera has them; cached frames are then the same.
            frame1, frame2 = (
                scaled(tf.round(tf.clip_by_value(frame, 0.0, 1.0) * 255), 255.0) for frame in frames
            )
            occlusion = tf.cast(rendered.hidden, tf.float32)
            flow = tf.transpose(rendered.motions[0], [1, 2, 0])
            return Scene(frame1, frame2, flow, occlusion, rendered.layers[0])

        signature = [tf.TensorSpec([], tf.int64)]
        return tf.function(scene, input_signature=signature, autograph=False)


def _digest(*recipe: object) -> str:
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=8)
def _make_scene(source: SyntheticSource) -> Callable[[tf.Tensor], Scene]:
    """Traced once for whoever reads: training, evaluation, pictures, and the next run too.

    Tracing takes seconds, as long as a hundred steps of a small network.
    """
    return source.make_scene()
