"""A window of the training size, seen through an affine map, with exact flow and an honest mask.

Points are (x, y) in pixels. Letters: H height, W width of the frames; h, w of the window; N = h w,
its pixels row by row. Leading dimensions of maps, here '...', hold many maps at once.

With A the map from the window to frame 1 and M the motion that is added, point x of the window is
at A x in frame 1, and what is seen there is at M A⁻¹ (A x + flow(A x)) in the window of frame 2.

One rule per pixel serves dense, sparse and mixed ground truth; p = A x is what the pixel shows.

1. All neighbours of p that have weight are valid and their flows agree within 1 pixel: bilinear.
2. All are valid, but a motion boundary runs between them: the nearest one's flow, at p.
3. Some are not valid: the nearest pixel q counts, if it is valid and if of all pixels of the window
   x is the one nearest to A⁻¹ q; flow is that of the point q itself. So a lone measurement is never
   blended with others, and is used at one pixel at most, within half a pixel of its place.
4. Else, and where p is outside of frame 1, the pixel is not valid.

Beyond their edges frames are black, as padding is in evaluation; mirrored or repeated content would
offer matches that do not exist. A pixel whose target is there, or outside of the window, keeps
its flow, as pixels that leave the frame do in data sets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.sample import Example

_AGREEMENT = 1.0  # px, per component; neighbours that differ more belong to different objects
_ROUNDING = 1e-3  # px, that a point may be outside of the frame
_NEIGHBOURS = ((0, 0), (1, 0), (0, 1), (1, 1))  # steps right and down
_PADDED = 64  # frames of a size not known beforehand are padded to multiples of it


class Affine(NamedTuple):
    """Maps point x to linear x + offset."""

    linear: tf.Tensor  # [..., 2, 2]
    offset: tf.Tensor  # [..., 2]


class View(NamedTuple):
    """How a window sees a pair of frames."""

    frame1_from_window: Affine
    added_motion: Affine  # of the window's points, on top of the motion that the pair has


class _Points(NamedTuple):
    """N points."""

    x: tf.Tensor  # [N]
    y: tf.Tensor  # [N]


class _Neighbours(NamedTuple):
    """What the four pixels around N points make, [N] each."""

    blend: tf.Tensor  # bilinear
    nearest: tf.Tensor  # of the nearest
    spread: tf.Tensor  # between highest and lowest


def transform(affine: Affine, points: tf.Tensor) -> tf.Tensor:
    """Maps points, columns [2, N], by each map, to [..., 2, N]."""
    return affine.linear @ points + affine.offset[..., None]


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies `inner`, then `outer`."""
    offset = tf.linalg.matvec(outer.linear, inner.offset) + outer.offset
    return Affine(outer.linear @ inner.linear, offset)


def inverse(affine: Affine) -> Affine:
    """The map that undoes `affine`; exact for mirrorings and for shifts by whole pixels."""
    (a, b), (c, d) = (tf.unstack(row, axis=-1) for row in tf.unstack(affine.linear, axis=-2))
    determinant = (a * d - b * c)[..., None, None]
    linear = tf.stack([tf.stack([d, -b], -1), tf.stack([-c, a], -1)], -2) / determinant
    return Affine(linear, -tf.linalg.matvec(linear, affine.offset))


def about(centre: tf.Tensor, linear: tf.Tensor) -> Affine:
    """The map with this linear part, [..., 2, 2], that leaves `centre`, [2], where it is."""
    return Affine(linear, centre - tf.linalg.matvec(linear, centre))


def rotation(angle: tf.Tensor) -> tf.Tensor:
    """Matrices, [..., 2, 2], of angles in radians; with y down, a positive one turns clockwise."""
    cos, sin = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cos, -sin], -1), tf.stack([sin, cos], -1)], -2)


def resample(example: Example, crop: Sequence[int], view: View) -> Example:
    """Shows `example` in a window of `crop` (height, width)."""
    size = tf.shape(example.valid)
    if not example.valid.shape.is_fully_defined():
        example = _padded(example, -size % _PADDED)
    frame1, frame2, flow_x, flow_y, valid = _resample(example, size, tuple(crop), view)
    # Not in `_resample`: XLA writes interleaved planes several times slower than it computes them.
    return Example(frame1, frame2, tf.stack([flow_x, flow_y], axis=-1), valid)


def _padded(example: Example, free: tf.Tensor) -> Example:
    """Adds free = (rows, columns): each size of frames that is left is compiled, once."""
    paddings = [[0, free[0]], [0, free[1]], [0, 0]]
    padded = [tf.pad(part, paddings[: part.shape.rank]) for part in example]
    return Example(*padded)


@tf.function(jit_compile=True, autograph=False)
def _resample(
    example: Example, size: tf.Tensor, crop: tuple[int, int], view: View
) -> tuple[tf.Tensor, ...]:
    """Both frames, [h, w, 3]; both components of the flow and valid, [h, w].

    size: [2] int32 (height, width) of the frames, without what was padded to them.
    """
    pixels = _pixels(crop)
    height, width = tf.unstack(tf.cast(size, tf.float32))
    last = _Points(width - 1, height - 1)
    frame1_from_window = view.frame1_from_window
    frame2_from_window = compose(frame1_from_window, inverse(view.added_motion))
    frames = [
        tf.reshape(_read_frame(frame, _map(affine, pixels), last), [*crop, 3])
        for frame, affine in (
            (example.frame1, frame1_from_window),
            (example.frame2, frame2_from_window),
        )
    ]
    planes = _resample_flow(example, pixels, last, view)
    return (*frames, *(tf.reshape(plane, crop) for plane in planes))


def _read_frame(frame: tf.Tensor, points: _Points, last: _Points) -> tf.Tensor:
    """Reads a frame bilinearly, black outside of it: [N, 3]."""
    corner = _Points(*(tf.floor(p) for p in points))
    table, stride = tf.reshape(frame, [-1, 3]), tf.shape(frame)[1]
    parts = []
    for right, down in _NEIGHBOURS:
        x, y = corner.x + right, corner.y + down
        share = (1 - tf.abs(points.x - x)) * (1 - tf.abs(points.y - y))
        inside = (tf.minimum(x, y) >= 0) & (x <= last.x) & (y <= last.y)
        place = _Points(tf.clip_by_value(x, 0.0, last.x), tf.clip_by_value(y, 0.0, last.y))
        colour = tf.gather(table, _index(place, stride))
        parts.append(tf.where(inside, share, 0.0)[:, None] * colour)
    return tf.clip_by_value(tf.add_n(parts), 0.0, 1.0)


def _resample_flow(
    example: Example, pixels: _Points, last: _Points, view: View
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Both components of the flow, and valid, [N] each, by the rule above."""
    source = _map(view.frame1_from_window, pixels)
    inside = _is_inside(source, last)
    source = _Points(*(tf.clip_by_value(p, 0.0, end) for p, end in zip(source, last, strict=True)))
    corner = _Points(*(tf.minimum(tf.floor(p), e - 1) for p, e in zip(source, last, strict=True)))
    right, down = source.x - corner.x, source.y - corner.y
    nearest = _Points(*(tf.floor(p + 0.5) for p in source))
    window_from_frame1 = inverse(view.frame1_from_window)
    landing = _map(window_from_frame1, nearest)
    # Halves go down here, up above: half a pixel there and back ends where it began.
    landed = _Points(*(tf.math.ceil(p - 0.5) for p in landing))
    lands = (landed.x == pixels.x) & (landed.y == pixels.y)

    stride = tf.shape(example.valid)[1]
    index = _index(corner, stride)
    is_right, is_down = nearest.x > corner.x, nearest.y > corner.y

    def read(plane: tf.Tensor) -> _Neighbours:
        flat = tf.reshape(plane, [-1])
        four = [tf.gather(flat, index + (x + y * stride)) for x, y in _NEIGHBOURS]
        # Weights of 0 and 1 give the pixel's own numbers, bit for bit.
        top = (1 - right) * (1 - down) * four[0] + right * (1 - down) * four[1]
        blend = top + ((1 - right) * down * four[2] + right * down * four[3])
        lone = tf.where(
            is_down, tf.where(is_right, four[3], four[2]), tf.where(is_right, four[1], four[0])
        )
        highest = tf.maximum(tf.maximum(four[0], four[1]), tf.maximum(four[2], four[3]))
        lowest = tf.minimum(tf.minimum(four[0], four[1]), tf.minimum(four[2], four[3]))
        return _Neighbours(blend, lone, highest - lowest)

    flows = [read(example.flow[..., axis]) for axis in (0, 1)]
    unknown = read(1.0 - example.valid)  # weighted by 0 it stays exactly 0
    dense = unknown.blend == 0
    smooth = dense & (tf.maximum(flows[0].spread, flows[1].spread) <= _AGREEMENT)
    flow = _Points(*(tf.where(smooth, part.blend, part.nearest) for part in flows))
    place = _Points(*(tf.where(dense, *pair) for pair in zip(pixels, landing, strict=True)))
    flow = _moved(view.added_motion, window_from_frame1, place, flow)
    known = inside & (dense | ((unknown.nearest == 0) & lands))
    x, y = (tf.where(known, part, 0.0) for part in flow)
    return x, y, tf.cast(known, tf.float32)


def _pixels(crop: Sequence[int]) -> _Points:
    y, x = tf.meshgrid(*(tf.range(side, dtype=tf.float32) for side in crop), indexing="ij")
    return _Points(tf.reshape(x, [-1]), tf.reshape(y, [-1]))


def _map(affine: Affine, points: _Points) -> _Points:
    linear, offset = affine
    return _Points(
        *(linear[i, 0] * points.x + (linear[i, 1] * points.y + offset[i]) for i in (0, 1))
    )


def _is_inside(points: _Points, last: _Points) -> tf.Tensor:
    x, y = points
    low = tf.minimum(x, y) >= -_ROUNDING
    return low & (x <= last.x + _ROUNDING) & (y <= last.y + _ROUNDING)


def _index(points: _Points, stride: tf.Tensor) -> tf.Tensor:
    """Position of whole-numbered points in a frame row by row, [N] int32."""
    return tf.cast(points.y, tf.int32) * stride + tf.cast(points.x, tf.int32)


def _moved(
    added_motion: Affine, window_from_frame1: Affine, place: _Points, flow: _Points
) -> _Points:
    """Flow in the window, of points of the window at `place` whose flow in the frames is `flow`.

    M A⁻¹ (A x + flow) - x = (M A⁻¹) flow + (M x - x): so nothing is rounded where nothing changes.
    """
    linear = added_motion.linear @ window_from_frame1.linear
    turned = _map(Affine(linear, tf.zeros([2])), flow)
    shift = _map(Affine(added_motion.linear - tf.eye(2), added_motion.offset), place)
    return _Points(turned.x + shift.x, turned.y + shift.y)
