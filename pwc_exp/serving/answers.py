"""From a flow to the body of an answer.

Letters: H height, W width.
"""

import json
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.io import FLO_MAGIC
from pwc_exp.flow.colour import flow_to_colour

DECIMALS = 4  # of a pixel, in JSON


class Answer(NamedTuple):
    """A body, and what it is."""

    content_type: str
    body: bytes


def as_flo(flow: np.ndarray) -> Answer:
    """Middlebury's .flo of `flow` [H, W, 2]."""
    height, width, _ = flow.shape
    head = FLO_MAGIC + struct.pack("<ii", width, height)
    return Answer("application/octet-stream", head + flow.astype("<f4").tobytes())


def as_png(flow: np.ndarray) -> Answer:
    """The picture of `flow` [H, W, 2] in the usual colours."""
    return Answer("image/png", tf.io.encode_png(flow_to_colour(flow)).numpy())


def as_json(flow: np.ndarray) -> Answer:
    """`flow` [H, W, 2] as nested lists, with its unit."""
    height, width, _ = flow.shape
    values = np.round(flow.astype(np.float64), DECIMALS).tolist()
    content = {"height": height, "width": width, "units": "pixels", "order": "x, y", "flow": values}
    return as_text(content)


def as_text(content: object) -> Answer:
    """Anything as JSON."""
    return Answer("application/json", json.dumps(content).encode() + b"\n")


ANSWERS: dict[str, Callable[[np.ndarray], Answer]] = {
    "flo": as_flo,
    "png": as_png,
    "json": as_json,
}
