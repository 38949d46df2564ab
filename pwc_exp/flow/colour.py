"""Flow as a picture: the Middlebury colour code, hue for direction and saturation for speed.

Letters: H height, W width. The code is that of Baker et al., "A Database and Evaluation Methodology
for Optical Flow", IJCV 2011, so that pictures compare with those of papers.
"""

import numpy as np

# Steps from red to yellow, green, cyan, blue, magenta and back, as the eye tells them apart.
_HUE_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = np.array(
    [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float64
)
_UNKNOWN = 1e9  # px; Middlebury marks unknown flow with larger components
_TOO_FAST = 0.75  # darkens the hue where speed is above max_speed


def flow_to_colour(
    flow: np.ndarray, *, max_speed: float | None = None, valid: np.ndarray | None = None
) -> np.ndarray:
    """Colours `flow`, [H, W, 2] in pixels, as [H, W, 3] uint8 RGB.

    max_speed: speed of full saturation, in pixels; None takes the largest of this flow, and then
    two pictures do not compare. Unknown, non-finite and not `valid` ([H, W]) pixels are black.
    """
    known = (np.abs(flow) < _UNKNOWN).all(axis=-1)  # false for NaN too
    if valid is not None:
        known &= valid > 0
    x, y = np.moveaxis(np.where(known[..., None], flow, 0.0).astype(np.float64), -1, 0)
    speed = np.hypot(x, y)
    full = speed.max(initial=0.0) if max_speed is None else max_speed
    share = (speed / (full or 1.0))[..., None]
    hue = _hue(x, y)
    colour = np.where(share <= 1, 1 - share * (1 - hue), _TOO_FAST * hue)
    return (255 * colour * known[..., None]).astype(np.uint8)


def legend(size: int) -> np.ndarray:
    """The wheel itself, [size, size, 3] uint8: full speed at the rim, white outside of it."""
    steps = np.linspace(-1, 1, size)
    flow = np.stack(np.meshgrid(steps, steps), axis=-1)
    inside = np.hypot(flow[..., 0], flow[..., 1]) <= 1
    return flow_to_colour(np.where(inside[..., None], flow, 0.0), max_speed=1.0)


def _hue(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fully saturated colour of a direction, [H, W, 3] in [0, 1]."""
    wheel = _wheel()
    # A whole turn is one step short of the wheel, as in the reference.
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = place.astype(np.intp)
    rest = (place - first)[..., None]
    return (1 - rest) * wheel[first] + rest * wheel[(first + 1) % len(wheel)]


def _wheel() -> np.ndarray:
    """The hues in order, [55, 3]; whole numbers of 255, as in the reference."""
    parts = []
    for steps, start, end in zip(_HUE_STEPS, _CORNERS, _CORNERS[1:], strict=False):
        rest = np.arange(steps)[:, None] / steps
        parts.append(np.where(end > start, np.floor(255 * rest) / 255, start))
        parts[-1] = np.where(end < start, 1 - np.floor(255 * rest) / 255, parts[-1])
    return np.concatenate(parts)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1], such as a frame's, as uint8."""
    return (255 * values.clip(0, 1)).round().astype(np.uint8)
