"""What an exported network says of itself, in a file beside it."""

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pwc_exp
from pwc_exp import storage
from pwc_exp.errors import DataError
from pwc_exp.exporting.parity import Bound, Difference
from pwc_exp.weights import Network

FILE = "card.json"
LIBRARIES = ("tensorflow", "keras", "numpy", "onnx", "onnxruntime", "openvino", "mlflow")
CONVENTIONS = {
    "input": "frame1, frame2: uint8 [batch, height, width, 3], RGB, consecutive frames",
    "output": "flow: float32 [batch, height, width, 2]",
    "units": "pixels of the frames",
    "order": "x (right), y (down)",
    "direction": "from frame1 to frame2",
    "preprocessing": "inside: values to 0 .. 1, padding to what the network divides, and back",
}


def make(
    network: Network,
    name: str,
    *,
    shapes: str | list[list[int]],
    bound: Bound,
    differences: Sequence[Difference],
) -> dict[str, Any]:
    """Describes a format of `network`.

    Args:
        network: what was exported.
        name: of the format.
        shapes: "any", or each [batch, height, width] that there is a file for.
        bound, differences: see `pwc_exp.exporting.parity`.
    """
    return {
        "format": name,
        **CONVENTIONS,
        "shapes": shapes,
        **origin(network),
        "versions": {"pwc_exp": pwc_exp.__version__, **_versions()},
        "bound_px": bound._asdict(),
        "differences_px": [
            {**difference._asdict(), "shape": list(difference.shape)} for difference in differences
        ],
    }


def origin(network: Network) -> dict[str, Any]:
    """Which network, with which weights."""
    return {
        "model": network.model.get_config(),
        "weights": network.info.record(),
    }


def write(folder: Path, card: dict[str, Any]) -> None:
    """Writes the card of the files in `folder`."""
    storage.write_file(folder / FILE, json.dumps(card, indent=2).encode())


def read(folder: Path) -> dict[str, Any]:
    """Reads the card of the files in `folder`.

    Raises:
        DataError: there is none.
    """
    path = folder / FILE
    try:
        card = json.loads(path.read_bytes())
        card["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} must be the folder of one format of an export, with {FILE}; {error}"
        ) from error
    return card


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
