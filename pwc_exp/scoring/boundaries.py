"""How far each pixel is from an edge: of the motion itself, or of what is occluded.

Letters: H height, W width.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

# Sundaram, Brox, Keutzer, "Dense Point Trajectories by GPU-accelerated Large Displacement Optical
# Flow", ECCV 2010: |∇u|² + |∇v|² > 0.01 |w|² + 0.002.
_RELATIVE, _ABSOLUTE = 0.01, 0.002
_DENSE = 0.5  # share of known pixels below which edges cannot be found


def motion_boundaries(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where the true motion changes abruptly, [H, W] bool.

    A pixel and its right or lower neighbour are an edge if |∇u|² + |∇v|² > 0.01 |w|² + 0.002, with
    differences to these neighbours for ∇. Pairs with an unknown pixel are none.

    Args:
        flow: [H, W, 2] in pixels.
        valid: [H, W], 1 where it is known.
    """
    known = np.asarray(valid) > 0
    flow = np.where(known[..., None], flow, 0.0)
    squares = np.zeros(known.shape)
    for axis in (0, 1):
        both = known & np.roll(known, -1, axis)
        change = (np.diff(flow, axis=axis, append=np.take(flow, [-1], axis)) ** 2).sum(axis=-1)
        last = [slice(None), slice(None)]
        last[axis] = slice(-1, None)
        both[tuple(last)] = False
        squares += np.where(both, change, 0.0)
    return squares > _RELATIVE * (flow**2).sum(axis=-1) + _ABSOLUTE


def occlusion_boundaries(occlusion: np.ndarray) -> np.ndarray:
    """The rim of what is occluded, [H, W] bool: hidden pixels with a visible 4-neighbour."""
    hidden = np.asarray(occlusion) > 0
    around = np.pad(hidden, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return hidden & ~inner


def distance_to(boundaries: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of `boundaries`, in pixels; infinite without any."""
    if not boundaries.any():
        return np.full(boundaries.shape, np.inf)
    distance: np.ndarray = distance_transform_edt(~boundaries)
    return distance


def dense_enough(valid: np.ndarray) -> bool:
    """Whether so much of the truth is known that its edges can be found."""
    return bool((np.asarray(valid) > 0).mean() >= _DENSE)
