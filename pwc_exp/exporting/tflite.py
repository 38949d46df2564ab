"""The network as LiteRT (TensorFlow Lite) files, one for each size."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pwc_exp import storage
from pwc_exp.errors import DataError
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.graph import INPUTS, OUTPUT, owner, trace
from pwc_exp.models.pwcnet import PWCNet

NAME = re.compile(r"flow_(\d+)x(\d+)x(\d+)\.tflite")  # batch, height, width


def write(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes a file for each of `shapes`, with weights in float32."""
    for shape in shapes:
        _write(folder, shape, _converter(model, shape))


def write_fp16(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes a file for each of `shapes`, with weights in float16: half as large."""
    for shape in shapes:
        converter = _converter(model, shape)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
        _write(folder, shape, converter)


def engines(folder: Path) -> dict[str, Runner]:
    """What runs the files: a batch goes to the one that is made for its size."""
    interpreters: dict[Shape, Any] = {}
    for path in folder.iterdir():
        if match := NAME.fullmatch(path.name):
            interpreters[Shape(*map(int, match.groups()))] = _interpreter(path)

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        shape = Shape(*frame1.shape[:3])
        if shape not in interpreters:
            made = ", ".join(map(str, sorted(interpreters)))
            raise DataError(
                f"{folder} is for frames (batch x height x width) of {made}. Received: {shape}"
            )
        call = interpreters[shape].get_signature_runner()
        return call(**dict(zip(INPUTS, (frame1, frame2), strict=True)))[OUTPUT]

    return {"LiteRT": run}


def _converter(model: PWCNet, shape: Shape) -> Any:
    return tf.lite.TFLiteConverter.from_concrete_functions([trace(model, shape)], owner(model))


def _write(folder: Path, shape: Shape, converter: Any) -> None:
    name = f"flow_{shape.batch}x{shape.height}x{shape.width}.tflite"
    storage.write_file(folder / name, converter.convert())


def _interpreter(path: Path) -> Any:
    with warnings.catch_warnings():
        # It is to leave TensorFlow for a package of its own, which reads the same files.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        return tf.lite.Interpreter(model_path=str(path), num_threads=2)
