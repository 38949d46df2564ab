"""Generated scenes with exact flow: layers cut from photographs, each of which moves on its own.

Back to front lie a background and ellipses, polygons, stars, blobs and strands. Point x of a layer
is found in frame 2 by a map in closed form (motion.py): that is the flow. Everything is a function
of (seed, index), made of TensorFlow operations.

Letters: L layers, the background first, H height, W width, N = H W pixels.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.cache import Cache, Record, scaled
from pwc_exp.data.formats.image_headers import Size
from pwc_exp.data.sample import Example, Part
from pwc_exp.data.scenes.film import FilmLimits, develop, draw_strengths, fog
from pwc_exp.data.scenes.layers import draw_layers
from pwc_exp.data.scenes.motion import MotionLimits
from pwc_exp.data.scenes.outlines import OutlineLimits
from pwc_exp.data.scenes.rendering import (
    hidden,
    outside,
    paint,
    pixels,
    targets,
    velocities,
    view_frame1,
    view_frame2,
)
from pwc_exp.data.scenes.textures import load_textures
from pwc_exp.errors import UserError


class Scene(NamedTuple):
    """A generated pair and what is known of it."""

    frame1: tf.Tensor  # [H, W, 3] float32 RGB in [0, 1], multiples of 1/255
    frame2: tf.Tensor  # [H, W, 3]
    flow: tf.Tensor  # [H, W, 2] pixels, of the topmost layer at each pixel of frame1
    occlusion: tf.Tensor  # [H, W] float32, 1 where that point is hidden in, or outside of, frame2
    layer: tf.Tensor  # [H, W] int32, the topmost layer in frame1; 0 is the background


class SyntheticSource:
    """Generated scenes, the same for the same arguments.

    seed: another seed gives other scenes. size: how many there are. frame_size: (height, width).
    layers: shapes before the background. concave: share of them that are stars or blobs. thin:
    share that are strands a few pixels wide. edge: pixels over which an outline becomes opaque.
    tint: how far colours are changed, 0 to 1. textures: folder of further pictures.
    film_share: share of scenes with the effects of film.FilmLimits, which explains fog, shutter,
    defocus, noise and flicker. All others: motion.MotionLimits. cache: folder of scenes that are
    read in place of being generated, and added as they are.
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        seed: int,
        size: int,
        frame_size: Sequence[int],
        layers: int,
        concave: float,
        thin: float,
        edge: float,
        tint: float,
        textures: str | None,
        speed_shares: Sequence[float],
        speed_bounds: Sequence[float],
        coherence: float,
        max_rotation: float,
        max_zoom: float,
        max_shear: float,
        max_perspective: float,
        bending: float,
        max_strain: float,
        film_share: float,
        fog: float,
        shutter: float,
        defocus: float,
        noise: float,
        flicker: float,
        cache: str | None = None,
    ) -> None:
        self.size = size
        self.parts: Sequence[Part] = (Part(size, 1.0),)
        self.ids: Sequence[str] = [f"{index:06d}" for index in range(size)]
        self._seed = seed
        self._frame_size = Size(*frame_size)
        self._layers = layers
        self._edge = edge
        self._tint = tint
        self._outlines = OutlineLimits(concave, thin)
        self._motion = MotionLimits(
            speed_shares=tuple(speed_shares),
            speed_bounds=tuple(speed_bounds),
            coherence=coherence,
            max_rotation=max_rotation,
            max_zoom=max_zoom,
            max_shear=max_shear,
            max_perspective=max_perspective,
            bending=bending,
            max_strain=max_strain,
        )
        self._film = FilmLimits(film_share, fog, shutter, defocus, noise, flicker)
        self._textures = load_textures(textures)
        knobs = (self._outlines, self._motion, self._film, self._textures.digest)
        recipe = (seed, self._frame_size, layers, edge, tint, *knobs)
        self.digest = _digest(size, recipe)
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
        """Example `index`; its flow is known everywhere, also where it leads behind something."""
        if self._cache is None:
            return Example(*self._record(index)[:4])
        example = Example(*self._cache.get(index, lambda: self._record(index))[:4])
        for part in example:
            part.set_shape([*self._frame_size, *part.shape[2:]])
        return example

    def failure(self, index: int) -> UserError | None:
        """None: no file is read that could be damaged.

        Raises:
            OutputError: the scene cannot be written to the cache.
        """
        if self._cache is not None and self._cache.read(index) is None:
            record = self._record(tf.constant(index))
            self._cache.write(index, Record(*(part.numpy() for part in record)))
        return None

    def scene(self, index: tf.Tensor) -> Scene:
        """Scene `index`, a scalar, with what only a generator knows."""
        return _compiled(self)(tf.cast(index, tf.int64))

    def _record(self, index: tf.Tensor) -> Record:
        scene = self.scene(index)
        valid = tf.ones_like(scene.occlusion)
        return Record(scene.frame1, scene.frame2, scene.flow, valid, scene.occlusion)

    def draw(self, index: tf.Tensor) -> Scene:
        """What `scene` compiles."""
        size, film = self._frame_size, self._film
        seeds = tf.random.split(tf.stack([self._seed, index]), 4)
        layers = draw_layers(
            seeds[0],
            count=self._layers + 1,
            size=size,
            outlines=self._outlines,
            motion=self._motion,
            photographs=self._textures.number,
            tint=self._tint,
        )
        strengths = draw_strengths(seeds[1], film)
        if film.share and film.fog:
            veiled = fog(layers.colours, strengths.fog, seed=seeds[2])
            layers = layers._replace(colours=veiled)
        view1 = view_frame1(layers, size, edge=self._edge)
        view2 = view_frame2(layers, size, edge=self._edge)
        views = (view1, view2)
        frames = tf.stack([paint(layers, view.fragments, self._textures, size) for view in views])
        target = targets(layers, view1.layer, size)
        x, y = pixels(size)
        flow = tf.reshape(tf.stack([target.x - x, target.y - y], -1), [*size, 2])
        if any(film[1:]) and film.share:

            def developed() -> tf.Tensor:
                motions = []
                if film.shutter:
                    motions = [flow, velocities(layers, view2.fragments, size)]
                return develop(frames, motions, seed=seeds[3], strengths=strengths, limits=film)

            frames = tf.cond(strengths.chosen, developed, lambda: frames)
        levels = tf.cast(tf.round(tf.clip_by_value(frames, 0.0, 1.0) * 255), tf.uint8)
        frames = scaled(levels, 255)  # as a camera gives them
        occlusion = hidden(layers, target) | outside(target, size)
        return Scene(
            frame1=frames[0],
            frame2=frames[1],
            flow=flow,
            occlusion=tf.reshape(tf.cast(occlusion, tf.float32), size),
            layer=tf.reshape(view1.layer, size),
        )


def _digest(*recipe: object) -> str:
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=8)
def _compiled(source: SyntheticSource) -> Callable[[tf.Tensor], Scene]:
    """Traced once for whoever reads: training, evaluation, pictures, and the next run too.

    Tracing takes seconds, as long as a hundred steps of a small network.
    """
    return tf.function(source.draw, input_signature=[tf.TensorSpec([], tf.int64)])
