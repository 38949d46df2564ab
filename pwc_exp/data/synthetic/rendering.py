"""Draws a generated scene: its frames, what moves where, and what is hidden.

Both frames are drawn tile by tile, each tile front to back by the layers that reach it, until it
is covered. XLA compiles that to one program, in which a scene takes one core.

Letters: L layers, T tiles of a frame, H height, W width, h and w those of a tile.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.synthetic import textures
from pwc_exp.data.synthetic.film import Film
from pwc_exp.data.synthetic.layers import Layers, Look
from pwc_exp.data.synthetic.motion import WAVES, Motion, Points, move, move_points, trace
from pwc_exp.data.synthetic.outlines import CUTS, Outlines, edge_distance, hole_distance

TILE = Size(32, 64)
_MARGIN = 8.0  # pixels by which a box is larger than the points of its outline
_UNSEEN = 1 / 1024  # what covers less leaves no trace in 8 bits
_DEEPEST = 3.0  # depth of what is farther than the background
_BACKGROUND = -1  # in place of a layer: none yet


class Drawing(NamedTuple):
    """What is needed to draw a scene, in arrays of fixed shapes; P numbers define a layer."""

    numbers: np.ndarray  # [2, L, P] as each frame shows the layers; see `_packed`
    tables: np.ndarray  # [L, K, 3] of Outlines
    order: np.ndarray  # [2, T, L] int32, of each frame and tile: the layers there, front to back
    counts: np.ndarray  # [2, T] int32, how many these are
    boxes: np.ndarray  # [L, 4] of each layer in frame 2: lowest x and y, highest x and y
    layers: np.ndarray  # int32, how many there are
    film: Film


class Rendered(NamedTuple):
    """A drawn scene."""

    frames: list[tf.Tensor]  # [3, H, W] each, float32 RGB in [0, 1]
    motions: list[tf.Tensor]  # [2, H, W] each, pixels, of the topmost layer from frame 1 to 2
    hidden: tf.Tensor  # [H, W] bool, whether that point is covered in, or outside of, frame 2
    layers: list[tf.Tensor]  # [H, W] int32 each, the topmost layer; 0 is the background


def tiles_of(size: Size) -> tuple[int, int]:
    """Rows and columns of tiles that hold a frame."""
    return -(-size.height // TILE.height), -(-size.width // TILE.width)


def prepare(layers: Layers, film: Film, size: Size, *, most: int) -> Drawing:
    """What is needed to draw these layers; most: layers for which there is room."""
    count = len(layers.edge_points)
    moved = move_points(layers.motion, layers.edge_points)
    margin = _MARGIN + layers.outlines.edge[:, None]
    boxes = [
        np.concatenate([points.min(axis=1) - margin, points.max(axis=1) + margin], axis=1)
        for points in (layers.edge_points, moved)
    ]
    orders = [_order(box, size, most) for box in boxes]
    order, counts = (np.stack(parts) for parts in zip(*orders, strict=True))
    room = most - count
    numbers = np.stack([_packed(layers, frame) for frame in range(2)])
    drawing = Drawing(
        numbers=np.pad(numbers, [(0, 0), (0, room), (0, 0)]),
        tables=np.pad(layers.outlines.table, [(0, room), (0, 0), (0, 0)]),
        order=order,
        counts=counts,
        boxes=np.pad(boxes[1], [(0, room), (0, 0)]),
        layers=np.array(count),
        film=film,
    )
    kinds = {"f": np.float32, "i": np.int32, "b": np.bool_}
    arrays = tf.nest.map_structure(np.asarray, drawing)
    return tf.nest.map_structure(lambda array: array.astype(kinds[array.dtype.kind]), arrays)


def _packed(layers: Layers, frame: int) -> np.ndarray:
    """All that defines layers but their tables, in one row each, [L, P]: one read in place of 25.

    Frame 1, number 0, shows layers where they are.
    """
    motion = layers.motion
    if frame == 0:
        unmoved = np.broadcast_to(np.eye(3), motion.from_frame2.shape)
        motion = motion._replace(from_frame2=unmoved)
    parts = [
        *layers.outlines._replace(table=np.zeros((len(motion.bends), 0))),
        *motion,
        *layers.look,
    ]
    bent_back = motion.bends & (frame == 1)
    rows = [part.reshape(len(motion.bends), -1) for part in (*parts, bent_back)]
    return np.concatenate(rows, axis=1, dtype=np.float32)


def _order(boxes: np.ndarray, size: Size, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Layers that reach each tile, [T, L] front to back, and how many, [T]; boxes: [L, 4]."""
    rows, columns = tiles_of(size)
    top = np.arange(rows)[:, None] * TILE.height
    left = np.arange(columns)[:, None] * TILE.width
    in_y = (boxes[:, 1] < top + TILE.height) & (boxes[:, 3] > top - 1)  # [rows, L]
    in_x = (boxes[:, 0] < left + TILE.width) & (boxes[:, 2] > left - 1)
    within = (in_y[:, None] & in_x[None]).reshape(rows * columns, -1)[:, ::-1]
    order = len(boxes) - 1 - np.argsort(~within, axis=1, kind="stable")
    return np.pad(order, [(0, 0), (0, most - len(boxes))]), within.sum(axis=1)


@functools.lru_cache(maxsize=16)
def make_renderer(
    size: Size, *, rounds: int, fog: bool
) -> Callable[[Drawing, tf.Tensor], Rendered]:
    """The compiled function (drawing, texels) -> rendered.

    rounds: that undo the waves of the layers. fog: whether any scene has it.
    """

    @tf.function(jit_compile=True, autograph=False)
    def render(drawing: Drawing, texels: tf.Tensor) -> Rendered:
        view = _draw_frames(drawing, texels, size, rounds=rounds, fog=fog)
        flow, top = view.motion[0], view.top[0]
        hidden = _find_hidden(drawing, flow, top, size, rounds=rounds)
        return Rendered(
            frames=[_joined(part, size) for part in tf.unstack(view.colours)],
            motions=[_joined(part, size) for part in tf.unstack(view.motion)],
            hidden=_joined(hidden[:, None], size)[0],
            layers=[_joined(part[:, None], size)[0] for part in tf.unstack(view.top)],
        )

    return render


class _View(NamedTuple):
    """What tiles show: [2, T, ...] of both frames, or of one tile."""

    colours: tf.Tensor  # [3, h, w]
    motion: tf.Tensor  # [2, h, w] from frame 1 to frame 2, pixels
    top: tf.Tensor  # [h, w] int32, the nearest layer that covers more than half of a pixel


def _draw_frames(
    drawing: Drawing, texels: tf.Tensor, size: Size, *, rounds: int, fog: bool
) -> _View:
    count = math.prod(tiles_of(size))
    most = drawing.tables.shape[0]
    counts, order = tf.reshape(drawing.counts, [-1]), tf.reshape(drawing.order, [-1])

    def draw(job: tf.Tensor) -> _View:
        frame, tile = job // count, job % count
        x, y = _coordinates(tile, size)
        listed = tf.gather(counts, job)

        def goes_on(number: tf.Tensor, through: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            return (number < listed) & (tf.reduce_max(through) > _UNSEEN)

        def lay(number, through, colours, motion, top):  # type: ignore[no-untyped-def]
            layer = tf.gather(order, job * most + number)
            picked = _pick(drawing, frame, layer)
            points = trace(picked.backward, x, y, rounds=rounds)
            opacity = _opacity(picked.outline, drawing.tables, layer, points)
            weight = through * opacity

            def seen():  # type: ignore[no-untyped-def]
                moved = move(picked.motion, points.x, points.y)
                here = (opacity > 0.5) & (top == _BACKGROUND)
                way = tf.stack([moved.x - points.x, moved.y - points.y])
                painted = _paint(picked.look, points, texels, drawing.film if fog else None)
                return (
                    colours + weight * painted,
                    tf.where(here, way, motion),
                    tf.where(here, layer, top),
                )

            shown = tf.reduce_max(weight) > _UNSEEN
            drawn = tf.cond(shown, seen, lambda: (colours, motion, top))
            return (number + 1, through - weight, *drawn)

        ones = tf.ones(TILE)
        start = (0, ones, tf.zeros([3, *TILE]), tf.zeros([2, *TILE]), tf.fill(TILE, _BACKGROUND))
        _, _, *drawn = tf.while_loop(goes_on, lay, start)
        return _View(*drawn)

    kinds = _View(
        tf.TensorSpec([3, *TILE], tf.float32),
        tf.TensorSpec([2, *TILE], tf.float32),
        tf.TensorSpec(TILE, tf.int32),
    )
    tiles = tf.map_fn(draw, tf.range(2 * count), fn_output_signature=kinds)
    return _View(*(tf.reshape(part, [2, count, *part.shape[1:]]) for part in tiles))


def _find_hidden(
    drawing: Drawing, flow: tf.Tensor, top: tf.Tensor, size: Size, *, rounds: int
) -> tf.Tensor:
    """Whether a nearer layer covers what frame 1 shows, or it is outside, [T, h, w] bool.

    flow: [T, 2, h, w]. top: [T, h, w].
    """
    count = math.prod(tiles_of(size))

    def look(tile: tf.Tensor) -> tf.Tensor:
        x, y = _coordinates(tile, size)
        way, own = tf.gather(flow, tile), tf.gather(top, tile)
        x, y = x + way[0], y + way[1]
        farthest = tf.reduce_min(own)
        low = tf.reduce_min(x), tf.reduce_min(y)
        high = tf.reduce_max(x), tf.reduce_max(y)
        outside = (x < 0) | (y < 0) | (x > size.width - 1) | (y > size.height - 1)

        def cover(layer: tf.Tensor, hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            box = tf.gather(drawing.boxes, layer)
            reaches = (
                (box[0] < high[0]) & (box[2] > low[0]) & (box[1] < high[1]) & (box[3] > low[1])
            )

            def covered() -> tf.Tensor:
                picked = _pick(drawing, 1, layer)
                points = trace(picked.backward, x, y, rounds=rounds)
                opacity = _opacity(picked.outline, drawing.tables, layer, points)
                return hidden | ((opacity > 0.5) & (layer > own))

            return layer - 1, tf.cond(reaches, covered, lambda: hidden)

        start = (drawing.layers - 1, outside)
        return tf.while_loop(lambda layer, _: layer > farthest, cover, start)[1]

    spec = tf.TensorSpec(TILE, tf.bool)
    return tf.map_fn(look, tf.range(count), fn_output_signature=spec)


def _opacity(outline: Outlines, tables: tf.Tensor, layer: tf.Tensor, points: Points) -> tf.Tensor:
    """How opaque one layer is at points of frame 1."""
    distance = edge_distance(outline, tables, layer, points.x, points.y)
    distance = tf.cond(
        outline.holes[1] > 0,
        lambda: tf.maximum(distance, hole_distance(outline, points.x, points.y)),
        lambda: distance,
    )
    opacity = tf.clip_by_value(0.5 - distance / outline.edge, 0.0, 1.0)
    return tf.where(points.seen, opacity, 0.0)


def _paint(look: Look, points: Points, texels: tf.Tensor, film: Film | None) -> tf.Tensor:
    """Colours of one layer at points of frame 1, as seen through the fog, [3, h, w]."""
    x, y, window = points.x, points.y, look.window
    rows = [window[n, 0] * x + window[n, 1] * y + window[n, 2] for n in range(3)]
    scale = 1 / tf.maximum(rows[2], 1e-3)
    u, v = rows[0] * scale, rows[1] * scale
    texel = textures.sample(texels, look.texture, u, v)
    # Texels that are smaller than pixels would alias: there the texture fades to its mean.
    parts = [window[n, m] - place * window[2, m] for n, place in ((0, u), (1, v)) for m in (0, 1)]
    density = scale * tf.sqrt(0.5 * tf.add_n([part * part for part in parts]))
    fade = 1 / tf.maximum(density, 1.0)
    shade = tf.clip_by_value(look.slope[0] * x + look.slope[1] * y + look.slope[2], 0.3, 1.7)
    planes = []
    for channel in range(3):
        row = look.colour[channel]
        difference = row[0] * texel[0] + row[1] * texel[1] + row[2] * texel[2]
        difference -= look.mean[0, channel]
        plane = (look.mean[1, channel] + fade * difference) * shade
        planes.append(tf.clip_by_value(plane, 0.0, 1.0))
    colours = tf.stack(planes)
    if film is None:
        return colours
    nearness = look.nearness[0] * x + look.nearness[1] * y + look.nearness[2]
    clear = tf.exp(-film.fog / tf.maximum(nearness, 1 / _DEEPEST))
    light = tf.reshape(film.fog_light, [3, 1, 1])
    return light + clear * (colours - light)


class _Picked(NamedTuple):
    """One layer, as one frame shows it."""

    outline: Outlines
    motion: Motion
    look: Look
    backward: Motion  # from that frame


def _pick(drawing: Drawing, frame: tf.Tensor | int, layer: tf.Tensor) -> _Picked:
    """Undoes `_packed`. A slice in place of tf.gather would have XLA compile for each layer."""
    rows = tf.reshape(drawing.numbers, [-1, drawing.numbers.shape[-1]])
    row = tf.gather(rows, frame * drawing.tables.shape[0] + layer)
    start = 0

    def take(*shape: int) -> tf.Tensor:
        nonlocal start
        start += math.prod(shape)
        return tf.reshape(row[start - math.prod(shape) : start], shape)

    outline = Outlines(
        centre=take(2),
        table=take(0),
        form=tf.cast(take(), tf.int32),
        strand=take(7),
        holes=take(2),
        cuts=take(CUTS, 3),
        edge=take(),
    )
    motion = Motion(
        to_frame2=take(3, 3), from_frame2=take(3, 3), waves=take(WAVES, 5), bends=take() > 0
    )
    look = Look(
        texture=tf.cast(take(), tf.int32),
        window=take(3, 3),
        colour=take(3, 3),
        mean=take(2, 3),
        slope=take(3),
        nearness=take(3),
    )
    return _Picked(outline, motion, look, motion._replace(bends=take() > 0))


def _coordinates(tile: tf.Tensor, size: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """x and y of the pixels of a tile, [h, w] each."""
    _, columns = tiles_of(size)
    y, x = tf.meshgrid(tf.range(TILE.height), tf.range(TILE.width), indexing="ij")
    x, y = x + tile % columns * TILE.width, y + tile // columns * TILE.height
    return tf.cast(x, tf.float32), tf.cast(y, tf.float32)


def _joined(tiles: tf.Tensor, size: Size) -> tf.Tensor:
    """[T, C, h, w] -> [C, H, W]."""
    rows, columns = tiles_of(size)
    channels = tiles.shape[1]
    tiles = tf.reshape(tiles, [rows, columns, channels, *TILE])
    whole = tf.transpose(tiles, [2, 0, 3, 1, 4])
    whole = tf.reshape(whole, [channels, rows * TILE.height, columns * TILE.width])
    return whole[:, : size.height, : size.width]
