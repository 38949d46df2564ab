"""The speed of full colour, one for all pairs, so that a colour is the same motion in all pictures.

Letters: H height, W width.
"""

import math
from collections.abc import Sequence

import numpy as np

from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.prediction.estimation import Estimator
from pwc_exp.prediction.sources import OF_ONE_PAIR, Source

PAIRS = 9  # of the first pass, spread over all
SIDE = 512  # px; larger frames are made smaller for it
FULL_COLOUR = 99  # percent of their pixels that are not faster than full colour


def first_pass(source: Source, model: PWCNet, flows: Sequence[np.ndarray]) -> float:
    """The speed of full colour for a few pairs of a source.

    Args:
        flows: those to take where there is no such pair, as of a stream.
    """
    found = []
    estimators: dict[float, Estimator] = {}
    for pair in source.sample(PAIRS):
        try:
            scale = min(1.0, SIDE / max(pair.size))
            estimate = estimators.setdefault(scale, Estimator(model, scale=scale))
            found += estimate([pair.frame1.pixels], [pair.frame2.pixels])
        except OF_ONE_PAIR:
            continue  # it is told when its turn comes
    return full_speed(found or flows)


def full_speed(flows: Sequence[np.ndarray]) -> float:
    """The speed, in px, that 99 % of the pixels of flows [H, W, 2] do not exceed; at least 1.

    It is rounded up to two digits, so that rounding in the network does not change the colours.
    """
    speeds = np.concatenate([np.hypot(flow[..., 0], flow[..., 1]).ravel() for flow in flows])
    finite = speeds[np.isfinite(speeds)]
    speed = max(1.0, float(np.percentile(finite, FULL_COLOUR))) if finite.size else 1.0
    digit = 10.0 ** (math.floor(math.log10(speed)) - 1)
    return round(math.ceil(speed / digit) * digit, 6)
