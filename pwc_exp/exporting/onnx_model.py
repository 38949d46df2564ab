"""The network as an ONNX file, for frames of any size; run by ONNX Runtime and by OpenVINO."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pwc_exp import storage
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.exporting.graph import INPUTS
from pwc_exp.machine import needed
from pwc_exp.models.pwcnet import PWCNet

FILE = "flow.onnx"
EXTRA = "export"


def write(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes the file; for any size."""
    needed("onnx", EXTRA)
    from pwc_exp.exporting.onnx_graph import build_graph

    storage.write_file(folder / FILE, build_graph(model).SerializeToString())


def engines(folder: Path) -> dict[str, Runner]:
    """What runs it, in float32."""
    return {"ONNX Runtime": onnx_runtime(folder / FILE), "OpenVINO": openvino(folder / FILE)}


def onnx_runtime(path: Path) -> Runner:
    """The file in ONNX Runtime, on the processor."""
    runtime = needed("onnxruntime", EXTRA)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return session.run(None, dict(zip(INPUTS, (frame1, frame2), strict=True)))[0]

    return run


def openvino(path: Path) -> Runner:
    """The file in OpenVINO, on the processor.

    Where the processor has bfloat16, OpenVINO uses it unless told otherwise: that is twice as fast,
    and pixels away from the network.
    """
    runtime = needed("openvino", EXTRA)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = runtime.Core().compile_model(str(path), "CPU", settings)

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        return compiled(dict(zip(INPUTS, (frame1, frame2), strict=True)))[0]

    return run
