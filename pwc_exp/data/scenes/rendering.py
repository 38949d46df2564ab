"""Draws a generated scene: which layer covers which pixel, its colour, and what hides it.

Work is done on fragments: a pixel and a layer whose box holds it. Layers are laid over each other
by their cover, and only fragments that are seen are looked up in a photograph.

Letters: L layers, H height, W width, N = H W pixels, F fragments.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.formats.image_headers import Size
from pwc_exp.data.scenes.layers import Layers, colours
from pwc_exp.data.scenes.motion import Points, from_frame2, to_frame2
from pwc_exp.data.scenes.outlines import Outlines, edge_distance
from pwc_exp.data.scenes.textures import Textures

_MARGIN = 8.0  # pixels by which a box is larger than the points of its outline
_UNSEEN = 1 / 4096  # weights below leave no trace in 8 bits


class Fragments(NamedTuple):
    """Pixels of a frame, each with a layer that may be seen there."""

    pixel: tf.Tensor  # [F] int32
    points: Points  # [F] object coordinates
    weight: tf.Tensor  # [F] share of the pixel's colour


class Boxes(NamedTuple):
    """Where each layer but the background lies in a frame."""

    low: tf.Tensor  # [L - 1, 2]
    high: tf.Tensor  # [L - 1, 2]


class View(NamedTuple):
    """What a frame shows."""

    fragments: Fragments
    layer: tf.Tensor  # [N] int32, the nearest layer that covers more than half of a pixel


def view_frame1(layers: Layers, size: Size, *, edge: float) -> View:
    """What frame 1 shows; edge: width in pixels over which an outline becomes opaque."""

    def to_object(points: Points) -> Points:
        centre_x, centre_y = _centre(layers, points)
        return Points(points.layer, points.x - centre_x, points.y - centre_y)

    outline = layers.edge_points + layers.centre[:, None]
    return _view(layers.outlines, _boxes(outline), to_object, size, edge)


def view_frame2(layers: Layers, size: Size, *, edge: float) -> View:
    """What frame 2 shows."""

    def to_object(points: Points) -> Points:
        return from_frame2(layers.motion, points)

    return _view(layers.outlines, _boxes(_moved_outline(layers)), to_object, size, edge)


def paint(layers: Layers, fragments: Fragments, textures: Textures, size: Size) -> tf.Tensor:
    """Colours of a frame, [H, W, 3]."""
    planes = colours(layers, fragments.points, textures)
    return _image([fragments.weight * plane for plane in planes], fragments, size)


def velocities(layers: Layers, fragments: Fragments, size: Size) -> tf.Tensor:
    """Motion from frame 1 to frame 2 of what is seen at each pixel of frame 2, [H, W, 2]."""
    points = fragments.points
    centre_x, centre_y = _centre(layers, points)
    column, row = fragments.pixel % size.width, fragments.pixel // size.width
    x, y = tf.cast(column, tf.float32), tf.cast(row, tf.float32)
    planes = [x - points.x - centre_x, y - points.y - centre_y]
    return _image([fragments.weight * plane for plane in planes], fragments, size)


def targets(layers: Layers, layer: tf.Tensor, size: Size) -> Points:
    """Where the points of each pixel of frame 1 lie in frame 2, [N]; layer: [N]."""
    points = Points(layer, *pixels(size))
    centre_x, centre_y = _centre(layers, points)
    return to_frame2(layers.motion, Points(layer, points.x - centre_x, points.y - centre_y))


def hidden(layers: Layers, target: Points) -> tf.Tensor:
    """Whether a nearer layer covers each of N points of frame 2, [N] bool."""
    count, total = layers.centre.shape[0], target.layer.shape[0]
    boxes = _boxes(_moved_outline(layers))
    low, high = boxes.low[:, :, None], boxes.high[:, :, None]
    within = (target.x > low[:, 0]) & (target.x < high[:, 0])
    within &= (target.y > low[:, 1]) & (target.y < high[:, 1])
    within &= tf.range(1, count)[:, None] > target.layer
    layer, point = tf.unstack(tf.cast(tf.where(within), tf.int32), axis=1)
    points = Points(layer + 1, tf.gather(target.x, point), tf.gather(target.y, point))
    covers = edge_distance(layers.outlines, from_frame2(layers.motion, points)) < 0
    return tf.math.unsorted_segment_sum(tf.cast(covers, tf.float32), point, total) > 0


def outside(target: Points, size: Size) -> tf.Tensor:
    """Whether points lie beyond the outermost pixels of their frame; [N] bool."""
    x, y = target.x, target.y
    return (x < 0) | (y < 0) | (x > size.width - 1) | (y > size.height - 1)


def pixels(size: Size) -> tuple[tf.Tensor, tf.Tensor]:
    """The pixels' own coordinates x and y, [N] each, row by row."""
    x, y = tf.meshgrid(tf.range(size.width), tf.range(size.height))
    return tf.cast(tf.reshape(x, [-1]), tf.float32), tf.cast(tf.reshape(y, [-1]), tf.float32)


def _centre(layers: Layers, points: Points) -> list[tf.Tensor]:
    """x and y of the centre of each point's layer, [N] each."""
    return tf.unstack(tf.gather(layers.centre, points.layer), axis=1)


def _moved_outline(layers: Layers) -> tf.Tensor:
    """Points of the outlines in frame 2, [L, M, 2]."""
    count, number = layers.edge_points.shape[:2]
    x, y = tf.unstack(tf.reshape(layers.edge_points, [-1, 2]), axis=1)
    layer = tf.repeat(tf.range(count), number)
    moved = to_frame2(layers.motion, Points(layer, x, y))
    return tf.reshape(tf.stack([moved.x, moved.y], -1), [count, number, 2])


def _boxes(outline: tf.Tensor) -> Boxes:
    """Boxes around outlines, [L, M, 2], without the background: that has no end."""
    low, high = tf.reduce_min(outline, axis=1), tf.reduce_max(outline, axis=1)
    return Boxes(low[1:] - _MARGIN, high[1:] + _MARGIN)


def _fragments(boxes: Boxes, size: Size) -> tuple[tf.Tensor, Points]:
    """Pixels, [F] int32, in the boxes of layers, and the same as points, back to front."""
    x = tf.range(size.width, dtype=tf.float32)
    y = tf.range(size.height, dtype=tf.float32)
    in_x = (x > boxes.low[:, :1]) & (x < boxes.high[:, :1])  # [L - 1, W]
    in_y = (y > boxes.low[:, 1:]) & (y < boxes.high[:, 1:])  # [L - 1, H]
    where = tf.where(in_y[:, :, None] & in_x[:, None, :])
    layer, row, column = tf.unstack(tf.cast(where, tf.int32), axis=1)
    points = Points(layer + 1, tf.cast(column, tf.float32), tf.cast(row, tf.float32))
    return row * size.width + column, points


def _view(
    outlines: Outlines,
    boxes: Boxes,
    to_object: Callable[[Points], Points],
    size: Size,
    edge: float,
) -> View:
    """Lays fragments over each other and keeps those that are seen, the background's last."""
    fronts, total = boxes.low.shape[0], size.height * size.width
    pixel, points = _fragments(boxes, size)
    points = to_object(points)
    cover = tf.clip_by_value(0.5 - edge_distance(outlines, points) / edge, 0.0, 1.0)
    place = (points.layer - 1) * total + pixel
    dense = tf.math.unsorted_segment_sum(cover, place, fronts * total)  # each place occurs once
    covers = tf.unstack(tf.reshape(dense, [fronts, total]))
    through = tf.ones([total])
    weights = []
    layer = tf.zeros([total], tf.int32)
    for number in reversed(range(fronts)):
        weights.append(covers[number] * through)
        through -= weights[-1]
        layer = tf.maximum(layer, tf.where(covers[number] > 0.5, number + 1, 0))
    weight = tf.gather(tf.concat(weights[::-1], axis=0), place)
    seen = tf.where(weight > _UNSEEN)[:, 0]
    behind = tf.where(through > _UNSEEN)[:, 0]
    x, y = (tf.gather(part, behind) for part in pixels(size))
    background = to_object(Points(tf.zeros_like(behind, tf.int32), x, y))
    parts = [(tf.gather(part, seen), back) for part, back in zip(points, background, strict=True)]
    fragments = Fragments(
        pixel=tf.concat([tf.gather(pixel, seen), tf.cast(behind, tf.int32)], axis=0),
        points=Points(*(tf.concat(pair, axis=0) for pair in parts)),
        weight=tf.concat([tf.gather(weight, seen), tf.gather(through, behind)], axis=0),
    )
    return View(fragments, layer)


def _image(planes: list[tf.Tensor], fragments: Fragments, size: Size) -> tf.Tensor:
    """Adds up fragments, planes of [F], to [H, W, C]."""
    total = size.height * size.width
    sums = [tf.math.unsorted_segment_sum(plane, fragments.pixel, total) for plane in planes]
    return tf.reshape(tf.transpose(tf.stack(sums)), [*size, len(planes)])
