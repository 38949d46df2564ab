"""Pictures of one flow: its colours, arrows on the frame, and what it makes of the other frame.

Letters: H height, W width.
"""

from itertools import product

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pwc_exp.flow.colour import flow_to_colour, legend
from pwc_exp.flow.warp import backward_warp

ARROWS = 40  # along the longer side of a picture
HIDDEN = np.array([255, 0, 255])  # the colour that is mixed into what is hidden
_HIDDEN_SHARE = 0.5


def to_bytes(frame: np.ndarray) -> np.ndarray:
    """A frame, [H, W, 3] RGB in [0, 1], as uint8."""
    return (255 * frame.clip(0, 1)).round().astype(np.uint8)


def coloured(flow: np.ndarray, *, max_speed: float, wheel: bool) -> np.ndarray:
    """`flow`, [H, W, 2] in pixels, in Middlebury's colours: [H, W, 3] uint8.

    Args:
        max_speed: in pixels, that of full colour; what is faster is darker.
        wheel: draw the colour wheel into the lower right corner, with that speed at its rim.
    """
    picture = flow_to_colour(flow, max_speed=max_speed)
    side = min(picture.shape[:2]) // 4
    if not wheel or side < 24:  # it could not be read
        return picture
    canvas = PIL.Image.fromarray(picture)
    height, width = picture.shape[:2]
    text = max(10, side // 6)
    corner = (width - side - 4, height - side - text - 8)
    draw = PIL.ImageDraw.Draw(canvas)
    draw.rectangle((corner[0] - 4, corner[1] - 4, width, height), fill="white")
    canvas.paste(PIL.Image.fromarray(legend(side)), corner)
    place = (width - side // 2 - 4, height - 4)
    font = PIL.ImageFont.load_default(text)
    draw.text(place, f"{max_speed:.4g} px", fill="black", font=font, anchor="ms")
    return np.asarray(canvas)


def with_arrows(frame: np.ndarray, flow: np.ndarray, *, max_speed: float) -> np.ndarray:
    """Arrows on a darkened frame; each begins at the pixel whose motion it shows.

    Args:
        frame: [H, W, 3] RGB in [0, 1].
        flow: [H, W, 2] in pixels.
        max_speed: in pixels; if such an arrow would not reach the next one, all are made longer, by
            a whole factor.

    Returns:
        [H, W, 3] uint8.
    """
    height, width = flow.shape[:2]
    step = max(8, -(-max(height, width) // ARROWS))
    canvas = PIL.Image.fromarray(to_bytes(0.6 * frame))
    draw = PIL.ImageDraw.Draw(canvas)
    line = max(1, step // 10)
    factor = max(1, round(step / max_speed))
    for y, x in product(range(step // 2, height, step), range(step // 2, width, step)):
        start, motion = np.array([x, y]), factor * flow[y, x]
        length = float(np.hypot(*motion))
        if not np.isfinite(length) or length < 1:
            draw.point((x, y), fill="yellow")
            continue
        tip, along = start + motion, motion / length
        head = min(0.4 * length, step / 3)
        across = np.array([-along[1], along[0]])
        draw.line([*start, *tip], fill="yellow", width=line)
        for side in (-0.6, 0.6):
            draw.line([*tip, *(tip - head * (along + side * across))], fill="yellow", width=line)
    return np.asarray(canvas)


def warped(other: np.ndarray, flow: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The other frame sampled where the flow points: it looks as this frame does, if it is right.

    What is hidden in the other frame cannot come from there: without a mark, what hides it would
    be seen twice.

    Args:
        other: [H, W, 3] RGB in [0, 1], the frame that the flow leads to.
        flow: [H, W, 2] in pixels.
        hidden: [H, W], 1 where a pixel is hidden in the other frame; it is tinted.

    Returns:
        [H, W, 3] uint8.
    """
    sampled = to_bytes(np.asarray(backward_warp(other[None], flow[None], border="edge"))[0])
    tinted = (1 - _HIDDEN_SHARE) * sampled + _HIDDEN_SHARE * HIDDEN
    return np.where(hidden[..., None] > 0, tinted.round(), sampled).astype(np.uint8)


def side_by_side(frame: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A frame, [H, W, 3] RGB in [0, 1], and a picture of the same size on its right; uint8."""
    return np.concatenate([to_bytes(frame), picture], axis=1)
