"""Generated scenes for tests: settings with everything off, and with everything on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from pwc_exp.build import build_kind
from pwc_exp.config.data import SceneConfig
from pwc_exp.data.synthetic import Scene, SyntheticSource

HEIGHT, WIDTH = 72, 120  # of more than one tile of the renderer

PLAIN: dict[str, Any] = {
    "layers": 4,
    "concave": 0.0,
    "thin": 0.0,
    "edge": 1.0,
    "tint": 0.0,
    "speed_shares": [0.6, 0.28, 0.12],
    "speed_bounds": [0.009, 0.036, 0.18],
    "coherence": 0.0,
    "max_rotation": 0.0,
    "max_zoom": 0.0,
    "max_shear": 0.0,
    "max_perspective": 0.0,
    "bending": 0.0,
    "max_strain": 0.0,
    "film_share": 0.0,
    "fog": 0.0,
    "shutter": 0.0,
    "defocus": 0.0,
    "noise": 0.0,
    "flicker": 0.0,
}
MOVING = PLAIN | {
    "concave": 0.5,
    "thin": 0.2,
    "edge": 1.5,
    "tint": 0.5,
    "coherence": 0.5,
    "max_rotation": 10.0,
    "max_zoom": 0.1,
    "max_shear": 0.1,
    "max_perspective": 0.1,
    "bending": 0.5,
    "max_strain": 0.2,
    "max_expansion": 0.02,
    "holes": 0.2,
    "procedural": 0.3,
    "shading": 0.2,
}
FILMED = MOVING | {
    "film_share": 1.0,
    "fog": 1.0,
    "shutter": 0.5,
    "defocus": 1.0,
    "noise": 0.02,
    "flicker": 0.2,
    "gamma": 0.2,
    "light": 0.3,
    "highlights": 0.5,
    "jpeg": 40,
}


def source_of(
    settings: dict[str, Any] = PLAIN,
    *,
    seed: int = 5,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    count: int = 1000,
    textures: str | None = None,
    occluded: bool = True,
    cache: str | None = None,
) -> SyntheticSource:
    """Scenes of one kind."""
    return SyntheticSource(
        seed=seed,
        size=count,
        frame_size=size,
        textures=textures,
        kinds={"all": (build_kind(SceneConfig(**settings)), 1.0)},
        occluded=occluded,
        cache=cache,
    )


def scenes_of(source: SyntheticSource, count: int) -> Iterator[Scene]:
    """Scenes as numpy arrays."""
    for index in range(count):
        yield Scene(*(part.numpy() for part in source.scene(tf.constant(index, tf.int64))))


def mapped_scenes_of(source: SyntheticSource, count: int) -> Iterator[Scene]:
    """The same, made as a pipeline makes them: that takes seconds to compile, then is faster."""
    numbers = tf.data.Dataset.range(count)
    for scene in numbers.map(source.scene, num_parallel_calls=2).as_numpy_iterator():
        yield Scene(*scene)


def eroded(mask: np.ndarray, reach: int = 2) -> np.ndarray:
    """True where a pixel and all within `reach` rows and columns of it are."""
    for axis in (0, 1):
        padded = np.pad(mask, [(reach, reach) if dim == axis else (0, 0) for dim in (0, 1)])
        length = mask.shape[axis]
        windows = [
            padded.take(range(start, start + length), axis) for start in range(2 * reach + 1)
        ]
        mask = np.logical_and.reduce(windows)
    return mask


def interior(scene: Scene, reach: int = 3) -> np.ndarray:
    """Visible in both frames, and `reach` pixels away from the edges of layers in frame 1.

    What is hidden in frame 2 has its edge there, so this is also away from the edges in frame 2.
    """
    layer = np.asarray(scene.layer)
    inside = [eroded(layer == number, reach) for number in range(layer.max() + 1)]
    visible = eroded(np.asarray(scene.occlusion) == 0, reach)
    return np.logical_or.reduce(inside) & visible
