"""PWC-Net optical flow: train, evaluate, predict, driven by Hydra; and a small Python API.

    network = pwc_exp.load("fast")
    flow = network(frame1, frame2)  # NumPy [H, W, 2], in pixels

See docs/api.md.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwc_exp.api import FlowNetwork, flow_to_image, load, read_flow, warp, write_flow

__version__ = "0.1.0"
__all__ = ["FlowNetwork", "flow_to_image", "load", "read_flow", "warp", "write_flow"]


def __getattr__(name: str) -> object:
    """Imports the Python API, and TensorFlow with it, when one of its names is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    cli = importlib.import_module("pwc_exp.cli")
    return getattr(cli.import_quietly("pwc_exp.api"), name)
