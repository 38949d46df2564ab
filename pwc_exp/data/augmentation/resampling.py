"""A window of the training size, seen through an affine map, with exact flow and an honest mask.

Letters: H height, W width of the frames; h, w of the window; N = h w, its pixels row by row.

With A the map from the window to frame 1 and M the motion that is added, point x of the window lies
at A x in frame 1, and what is seen there lies at M A⁻¹ (A x + flow(A x)) in the window of frame 2.

One rule per pixel serves dense, sparse and mixed truth. p = A x is the point that the pixel shows.

1. All neighbours of p that have weight are valid and their flows agree within 1 pixel: bilinear.
2. All are valid, but a motion boundary runs between them: the nearest one's flow, at p.
3. Some are not valid: the nearest pixel q counts, if it is valid and if of all pixels of the window
   x is the one nearest to A⁻¹ q; flow is that of the point q itself. So a lone measurement is never
   blended with others, and stands at one pixel at most, within half a pixel of its place.
4. Else, and where p lies outside of frame 1, the pixel is not valid.

Beyond their edges frames are black, as padding is in evaluation; mirrored or repeated content would
offer matches that do not exist. A pixel whose target lies there, or outside of the window, keeps
its flow, as pixels that leave the frame do in data sets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.data.augmentation.affine import Affine, compose, inverse
from pwc_exp.data.sample import Example

_AGREEMENT = 1.0  # px, per component; neighbours that differ more belong to different objects
_ROUNDING = 1e-3  # px, that a point may lie outside of the frame


class View(NamedTuple):
    """How a window sees a pair of frames."""

    frame1_from_window: Affine
    added_motion: Affine  # of the window's points, on top of the motion that the pair has


class _Points(NamedTuple):
    """N points."""

    x: tf.Tensor  # [N]
    y: tf.Tensor  # [N]


def resample(example: Example, crop: Sequence[int], view: View) -> Example:
    """Shows `example` in a window of `crop` (height, width)."""
    frame2_from_window = compose(view.frame1_from_window, inverse(view.added_motion))
    flow, valid = _resample_flow(example, crop, view)
    return Example(
        _resample_frame(example.frame1, crop, view.frame1_from_window),
        _resample_frame(example.frame2, crop, frame2_from_window),
        flow,
        valid,
    )


def _resample_frame(frame: tf.Tensor, crop: Sequence[int], frame_from_window: Affine) -> tf.Tensor:
    """Reads a frame bilinearly, black outside of it: [h, w, 3]."""
    rows = tf.concat([frame_from_window.linear, frame_from_window.offset[:, None]], axis=-1)
    window = tf.raw_ops.ImageProjectiveTransformV3(
        images=frame[None],
        transforms=tf.pad(tf.reshape(rows, [1, 6]), [[0, 0], [0, 2]]),
        output_shape=tf.constant(crop),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.clip_by_value(tf.ensure_shape(window[0], [*crop, 3]), 0.0, 1.0)


def _resample_flow(
    example: Example, crop: Sequence[int], view: View
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flow, [h, w, 2], and valid, [h, w], by the rule above."""
    pixels = _pixels(crop)
    source = _map(view.frame1_from_window, pixels)
    height, width = tf.unstack(tf.cast(tf.shape(example.valid), tf.float32))
    last = _Points(width - 1, height - 1)
    inside = _is_inside(source, last)
    source = _Points(*(tf.clip_by_value(p, 0.0, end) for p, end in zip(source, last, strict=True)))
    nearest = _Points(*(tf.floor(p + 0.5) for p in source))
    window_from_frame1 = inverse(view.frame1_from_window)
    landing = _map(window_from_frame1, nearest)
    # Halves go down here, up above: half a pixel there and back ends where it began.
    lands = _are_equal(_Points(*(tf.math.ceil(p - 0.5) for p in landing)), pixels)

    # Unknown is 1 where the flow is not valid: weighted by 0 it stays exactly 0.
    table = tf.concat([example.flow, 1.0 - example.valid[..., None]], axis=-1)
    stride = tf.shape(table)[1]
    table = tf.reshape(table, [-1, 3])
    blend, agree = _interpolate(table, stride, source, last)
    lone = tf.unstack(tf.gather(table, _index(nearest, stride)), axis=-1)

    dense = blend[2] == 0
    smooth = dense & agree
    flow = _Points(*(tf.where(smooth, blend[axis], lone[axis]) for axis in (0, 1)))
    place = _Points(*(tf.where(dense, *pair) for pair in zip(pixels, landing, strict=True)))
    flow = _moved(view.added_motion, window_from_frame1, place, flow)
    known = inside & (dense | ((lone[2] == 0) & lands))
    flow = tf.stack([tf.where(known, part, 0.0) for part in flow], axis=-1)
    return tf.reshape(flow, [*crop, 2]), tf.reshape(tf.cast(known, tf.float32), crop)


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


def _are_equal(ones: _Points, others: _Points) -> tf.Tensor:
    return (ones.x == others.x) & (ones.y == others.y)


def _index(points: _Points, stride: tf.Tensor) -> tf.Tensor:
    """Position of whole-numbered points in a frame row by row, [N] int32."""
    return tf.cast(points.y, tf.int32) * stride + tf.cast(points.x, tf.int32)


def _interpolate(
    table: tf.Tensor, stride: tf.Tensor, points: _Points, last: _Points
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Reads table, [H W, 3], bilinearly: three times [N]; and whether the neighbours' flows agree.

    points lie inside of the frame. Weights of 0 and 1 give the pixel's own numbers, bit for bit.
    """
    corner = _Points(*(tf.minimum(tf.floor(p), e - 1) for p, e in zip(points, last, strict=True)))
    right, low = points.x - corner.x, points.y - corner.y
    shares = [(1 - right) * (1 - low), right * (1 - low), (1 - right) * low, right * low]
    index = _index(corner, stride)
    rows = [tf.gather(table, index + step) for step in (0, 1, stride, stride + 1)]
    highest = tf.maximum(tf.maximum(rows[0], rows[1]), tf.maximum(rows[2], rows[3]))
    lowest = tf.minimum(tf.minimum(rows[0], rows[1]), tf.minimum(rows[2], rows[3]))
    spread = tf.unstack(highest - lowest, axis=-1)
    columns = zip(*(tf.unstack(row, axis=-1) for row in rows), strict=True)
    blend = [tf.add_n([s * c for s, c in zip(shares, column, strict=True)]) for column in columns]
    return blend, tf.maximum(spread[0], spread[1]) <= _AGREEMENT


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
