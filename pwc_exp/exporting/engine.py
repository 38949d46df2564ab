"""What runs an exported network.

Letters: B batch, H height, W width.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from pwc_exp.errors import MissingInputError

# Two frames, uint8 [B, H, W, 3], RGB -> the flow, float32 [B, H, W, 2], in pixels.
Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Shape(NamedTuple):
    """Of a batch of pairs."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.height} x {self.width}"


def needed(package: str, extra: str) -> ModuleType:
    """Imports a package that only some commands need.

    Raises:
        MissingInputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingInputError(
            f"{package} is not installed: pip install 'pwc_exp[{extra}]' ({error})"
        ) from error
