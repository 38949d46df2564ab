"""The formats of a network: how each is written, what runs it, and how exact it must be.

Every format takes frame1, frame2: uint8 [B, H, W, 3], RGB, and returns the flow: float32
[B, H, W, 2], in pixels.

Letters: B batch, H height, W width.
"""

import json
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save

from pwc_exp import checkpoints, storage
from pwc_exp.config.commands import Format
from pwc_exp.errors import DataError
from pwc_exp.export.parity import Bound, Runner, Shape
from pwc_exp.flow.convolution import portable_only
from pwc_exp.machine import needed
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.tracking import model as mlflow_model

OUTPUT = "flow"
CARD_FILE = "card.json"
EXTRA = "export"
ONNX = "flow.onnx"
SIGNATURE = "serving_default"
ROUNDING = Bound(mean=1e-3, largest=0.1)  # float32, summed in another order
HALF = Bound(mean=0.05, largest=5.0)  # weights of 11 bits


def network_runner(model: PWCNet) -> Runner:
    """The network itself, with the operations that it is trained with; not compiled."""
    return lambda *pair: model.estimate(*(tf.constant(f, tf.float32) / 255.0 for f in pair)).numpy()


def trace(model: PWCNet, shape: Sequence[int | None] = (None, None, None)) -> Any:
    """The network as a graph: uint8 [B, H, W, 3] twice -> {"flow": [B, H, W, 2], pixels}.

    Of plain operations only: programs that read the graph need neither this package nor XLA.

    Args:
        model: it stays the owner of the weights.
        shape: B, H and W; None for any.
    """
    frame = tf.TensorSpec([*shape, 3], tf.uint8)

    @tf.function(autograph=False)
    def estimate(frame1: tf.Tensor, frame2: tf.Tensor) -> dict[str, tf.Tensor]:
        frames = (tf.cast(frame, tf.float32) / 255.0 for frame in (frame1, frame2))
        return {OUTPUT: model.estimate(*frames)}

    with portable_only():
        return estimate.get_concrete_function(frame, frame)


def graph_runner(model: PWCNet) -> Runner:
    """The traced network, for frames of any size, in this process."""
    function = trace(model)
    return lambda frame1, frame2: function(tf.constant(frame1), tf.constant(frame2))[OUTPUT].numpy()


def _owner(model: PWCNet) -> tf.Module:
    """The owner of the weights for TensorFlow, which keys of dictionaries confuse otherwise."""
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    return module


def write_keras(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Keras's own archive, which names classes of this package, and the weights as tensors.

    `weights=` of every command reads the tensors too.
    """
    model.save(folder / "flow.keras")
    state = checkpoints.named_state(model)
    tensors = {name: keras.ops.convert_to_numpy(variable) for name, variable in state.items()}
    storage.write_file(folder / "weights.safetensors", save(tensors))


def run_keras(folder: Path) -> dict[str, Runner]:
    """The archive; in safe mode, the default, no code in it is run."""
    return {"Keras": network_runner(keras.saving.load_model(folder / "flow.keras"))}


def write_savedmodel(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """`saved_model.pb` and the weights; one signature for any size, which TensorFlow loads."""
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    signatures = {SIGNATURE: trace(model)}
    tf.saved_model.save(_owner(model), str(folder), signatures=signatures, options=options)


def run_savedmodel(folder: Path) -> dict[str, Runner]:
    """The SavedModel.

    Raises:
        DataError: there is none, or it has another signature.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
        loaded.signatures[SIGNATURE]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise DataError(f"{folder}: not a SavedModel of a network; {error}") from error

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        signature = loaded.signatures[SIGNATURE]  # which does not keep its owner alive
        return signature(frame1=tf.constant(frame1), frame2=tf.constant(frame2))[OUTPUT].numpy()

    return {"TensorFlow": run}


def write_onnx(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """An ONNX file for any size."""
    needed("onnx", EXTRA)
    from pwc_exp.export.onnx_graph import build_graph

    storage.write_file(folder / ONNX, build_graph(model).SerializeToString())


def run_onnx(folder: Path) -> dict[str, Runner]:
    """The ONNX file in ONNX Runtime and in OpenVINO, on the processor, in float32."""
    runtime, openvino = needed("onnxruntime", EXTRA), needed("openvino", EXTRA)
    session = runtime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    # Without the hint, OpenVINO computes in bfloat16 where the processor has it: twice as fast,
    # and pixels away from the network.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(folder / ONNX), "CPU", settings)

    return {
        "ONNX Runtime": lambda frame1, frame2: session.run(
            None, {"frame1": frame1, "frame2": frame2}
        )[0],
        "OpenVINO": lambda frame1, frame2: compiled({"frame1": frame1, "frame2": frame2})[0],
    }


def write_tflite(model: PWCNet, folder: Path, shapes: Sequence[Shape], *, half: bool) -> None:
    """A LiteRT (TensorFlow Lite) file for each of `shapes`; half: weights in float16."""
    for shape in shapes:
        graph = trace(model, shape)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], _owner(model))
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        name = f"flow_{shape.batch}x{shape.height}x{shape.width}.tflite"
        storage.write_file(folder / name, converter.convert())


def run_tflite(folder: Path) -> dict[str, Runner]:
    """The LiteRT files: a batch goes to the file of its size."""
    interpreters: dict[Shape, Any] = {}
    with warnings.catch_warnings():
        # It is to leave TensorFlow for a package of its own, which reads the same files.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        for path in folder.iterdir():
            if match := re.fullmatch(r"flow_(\d+)x(\d+)x(\d+)\.tflite", path.name):
                shape = Shape(*map(int, match.groups()))
                interpreters[shape] = tf.lite.Interpreter(model_path=str(path), num_threads=2)

    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        shape = Shape(*frame1.shape[:3])
        if shape not in interpreters:
            made = ", ".join(map(str, sorted(interpreters)))
            raise DataError(
                f"{folder} is for frames (batch x height x width) of {made}. Received: {shape}"
            )
        return interpreters[shape].get_signature_runner()(frame1=frame1, frame2=frame2)[OUTPUT]

    return {"LiteRT": run}


def write_mlflow(model: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """A model of MLflow around a SavedModel, which `mlflow models serve` serves."""
    with TemporaryDirectory() as temporary:
        write_savedmodel(model, Path(temporary) / "savedmodel", shapes)
        mlflow_model.save(Path(temporary) / "savedmodel", folder)


class Kind(NamedTuple):
    """A format."""

    write: Callable[[PWCNet, Path, Sequence[Shape]], None]  # into a folder
    engines: Callable[[Path], dict[str, Runner]]  # what runs the files in a folder, by name
    any_size: bool  # else a file is for one shape
    bound: Bound


KINDS = {
    Format.keras: Kind(write_keras, run_keras, True, ROUNDING),
    Format.savedmodel: Kind(write_savedmodel, run_savedmodel, True, ROUNDING),
    Format.onnx: Kind(write_onnx, run_onnx, True, ROUNDING),
    Format.tflite: Kind(partial(write_tflite, half=False), run_tflite, False, ROUNDING),
    Format.tflite_fp16: Kind(partial(write_tflite, half=True), run_tflite, False, HALF),
    Format.mlflow: Kind(
        write_mlflow, lambda folder: {"MLflow": mlflow_model.load(folder)}, True, ROUNDING
    ),
}


def read_card(folder: Path) -> dict[str, Any]:
    """Reads the description of the files in `folder`; refuses a folder that has none."""
    try:
        card = json.loads((folder / CARD_FILE).read_bytes())
        card["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} must be the folder of one format of an export, with {CARD_FILE}; {error}"
        ) from error
    return card


def engines_of(folder: Path) -> dict[str, Runner]:
    """What runs the exported network in `folder`, by name; refuses a folder that has none."""
    return KINDS[Format(read_card(folder)["format"])].engines(folder)
