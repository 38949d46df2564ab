"""Which formats a network is written in, what runs each, and how far from the network it may be."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pwc_exp.config.commands import Format
from pwc_exp.exporting import (
    card,
    keras_archive,
    mlflow_model,
    onnx_model,
    saved_model,
    tflite,
)
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.parity import Bound
from pwc_exp.models.pwcnet import PWCNet

ROUNDING = Bound(mean=1e-3, largest=0.1)  # float32, summed in another order
HALF = Bound(mean=0.05, largest=5.0)  # weights of 11 bits
Write = Callable[[PWCNet, Path, Sequence[Shape]], None]


class Kind(NamedTuple):
    """A format."""

    write: Write
    engines: Callable[[Path], dict[str, Runner]]
    any_size: bool  # else a file is for one shape
    bound: Bound


KINDS = {
    Format.keras: Kind(keras_archive.write, keras_archive.engines, True, ROUNDING),
    Format.savedmodel: Kind(saved_model.write, saved_model.engines, True, ROUNDING),
    Format.onnx: Kind(onnx_model.write, onnx_model.engines, True, ROUNDING),
    Format.tflite: Kind(tflite.write, tflite.engines, False, ROUNDING),
    Format.tflite_fp16: Kind(tflite.write_fp16, tflite.engines, False, HALF),
    Format.mlflow: Kind(mlflow_model.write, mlflow_model.engines, True, ROUNDING),
}


def engines_of(folder: Path) -> dict[str, Runner]:
    """What runs the exported network in `folder`.

    Raises:
        DataError: none is there.
    """
    return KINDS[Format(card.read(folder)["format"])].engines(folder)
