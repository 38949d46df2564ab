"""What runs an exported network.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Two frames, uint8 [B, H, W, 3], RGB -> the flow, float32 [B, H, W, 2], in pixels.
Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Shape(NamedTuple):
    """Of a batch of pairs."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.height} x {self.width}"
