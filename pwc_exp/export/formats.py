"""A network in the formats of other programs: how each is written, what runs it, how exact it is.

Every format takes frame1, frame2: uint8 [B, H, W, 3], RGB, and returns the flow: float32
[B, H, W, 2], in pixels. `export` writes every requested format, each compared with the network on
moving photographs; or nothing at all.

<out>/<format>/...          the files of a format
<out>/<format>/card.json    units, order, sizes, weights, versions, differences
<out>/parity.json           the differences of all formats from the network

Letters: B batch, H height, W width.
"""

import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save
from skimage import data as photographs
from tqdm import tqdm

import pwc_exp
from pwc_exp import checkpoints, machine, storage
from pwc_exp.config.commands import DEFAULT_FORMATS, ExportConfig, Format
from pwc_exp.config.training import InferencePrecision
from pwc_exp.errors import DataError, ParityError
from pwc_exp.flow.convolution import portable_only
from pwc_exp.machine import needed
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.tracking import registry
from pwc_exp.tracking.record import library_versions
from pwc_exp.weights import Network, load_network

# Two frames, uint8 [B, H, W, 3], RGB -> the flow, float32 [B, H, W, 2], in pixels.
Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]
STEP = (3, 5)  # pixels, down and right, from one frame to the next


class Shape(NamedTuple):
    """Of a batch of pairs."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.height} x {self.width}"


class Bound(NamedTuple):
    """The pixel error that a format may have."""

    mean: float
    largest: float


class Difference(NamedTuple):
    """The pixel error on a batch."""

    engine: str
    shape: Shape
    mean: float
    largest: float


class Case(NamedTuple):
    """A batch, and the flow of the network."""

    frame1: np.ndarray  # uint8 [B, H, W, 3]
    frame2: np.ndarray
    flow: np.ndarray  # float32 [B, H, W, 2], pixels


def make_case(network: Runner, shape: Shape) -> Case:
    """Frames of a shape, and their flow by the network itself."""
    pair = frames(shape)
    return Case(*pair, network(*pair))


def frames(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Two consecutive frames, uint8 [B, H, W, 3] each: a photograph that moves.

    The pairs of a batch differ, so that a format that mixes them is detected.
    """
    pictures = [photographs.astronaut(), photographs.coffee(), photographs.chelsea()]
    pairs = []
    for number in range(shape.batch):
        picture = pictures[number % len(pictures)]
        down, right = STEP if number % 2 == 0 else STEP[::-1]
        bottom, end = shape.height + down, shape.width + right
        missing = [max(0, bottom - picture.shape[0]), max(0, end - picture.shape[1]), 0]
        whole = np.pad(picture, [(0, count) for count in missing], mode="symmetric")
        pairs.append([whole[down:bottom, right:end], whole[: shape.height, : shape.width]])
    frame1, frame2 = (np.stack(frames) for frames in zip(*pairs, strict=True))
    return frame1, frame2


def check(
    name: str, engines: Mapping[str, Runner], cases: Sequence[Case], bound: Bound
) -> list[Difference]:
    """Compares the flow of each engine with that of the network.

    Raises:
        ParityError: it is further away than `bound`, not finite, of another shape, or fails; or
            the network's flow is so even that an output without any motion would pass as well.
    """
    found = []
    for case in cases:
        shape = Shape(*case.flow.shape[:3])
        even = np.abs(case.flow - case.flow.mean(axis=(0, 1, 2))).mean()
        if not even > bound.mean:
            raise ParityError(
                f"{name}: the network's flow must vary by more than {bound.mean} px for a "
                f"comparison to mean anything. Received: {even:.2g} px at {shape}"
            )
        for engine, run in engines.items():
            where = f"{name} in {engine} at {shape}"
            mean, largest = _distance(where, run, case)
            if not (mean <= bound.mean and largest <= bound.largest):
                raise ParityError(
                    f"{where}: must be within {bound.mean} px of the network in the mean and "
                    f"{bound.largest} px at most. Received: {mean:.2g} px and {largest:.2g} px"
                )
            found.append(Difference(engine, shape, mean, largest))
    return found


def _distance(where: str, run: Runner, case: Case) -> tuple[float, float]:
    """Mean and largest difference of the flows, in pixels."""
    try:
        flow = run(case.frame1, case.frame2)
    except Exception as error:  # whatever a runtime raises for a graph that it cannot run
        raise ParityError(f"{where}: fails; {error}") from error
    if flow.shape != case.flow.shape or flow.dtype != np.float32:
        raise ParityError(
            f"{where}: must return float32 {case.flow.shape}. Received: {flow.dtype} {flow.shape}"
        )
    difference = np.abs(flow - case.flow)
    return float(difference.mean()), float(difference.max())


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
        registry.save_model(Path(temporary) / "savedmodel", folder)


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
        write_mlflow, lambda folder: {"MLflow": registry.load_model(folder)}, True, ROUNDING
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


PARITY_FILE = "parity.json"
COPIES = 3  # of the weights, that a format takes at most
CONVENTIONS = {
    "input": "frame1, frame2: uint8 [batch, height, width, 3], RGB, consecutive frames",
    "output": "flow: float32 [batch, height, width, 2]",
    "units": "pixels of the frames",
    "order": "x (right), y (down)",
    "direction": "from frame1 to frame2",
    "preprocessing": "inside: values to 0 .. 1, padding to what the network divides, and back",
}


def export(config: ExportConfig) -> None:
    """Writes the network in each format, compares their flows, and prints the differences.

    Raises:
        OutputError: `out` exists or cannot be written.
        ParityError: a format differs from the network; then `out` is not created.
    """
    out = Path(config.out)
    formats = list(dict.fromkeys(config.formats or installed_formats()))
    network = load_network(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=InferencePrecision.fp32,
    )
    tf.get_logger().setLevel(logging.ERROR)  # it warns that each size is traced anew
    shapes = {
        name: [
            Shape(*each) for each in (config.compared if KINDS[name].any_size else config.shapes)
        ]
        for name in formats
    }
    runner = network_runner(network.model)
    every = dict.fromkeys(shape for of_format in shapes.values() for shape in of_format)
    cases = {shape: make_case(runner, shape) for shape in every}
    found: dict[Format, list[Difference]] = {}
    needed = COPIES * len(formats) * 4 * network.model.count_params()
    with storage.folder(out, needed=needed) as folder:
        for name in tqdm(formats, desc="export", leave=False, disable=None):
            kind, place = KINDS[name], folder / name
            place.mkdir()
            kind.write(network.model, place, shapes[name])
            chosen = [cases[shape] for shape in shapes[name]]
            found[name] = check(name, kind.engines(place), chosen, kind.bound)
            card = {
                "format": name,
                **CONVENTIONS,
                "shapes": "any" if kind.any_size else shapes[name],
                **describe_network(network),
                "versions": _versions(),
                "bound_px": kind.bound._asdict(),
                "differences_px": [each._asdict() for each in found[name]],
            }
            storage.write_file(place / CARD_FILE, json.dumps(card, indent=2).encode())
        rows = [{"format": name, **each._asdict()} for name in found for each in found[name]]
        storage.write_file(folder / PARITY_FILE, json.dumps(rows, indent=2).encode())
    print(_table(out, found))
    print(f"{out}: {', '.join(found)}")


def installed_formats() -> list[Format]:
    """The default formats, without those whose packages are missing; a line names each of these."""
    formats = []
    for name in DEFAULT_FORMATS:
        missing = [package for package in name.packages if find_spec(package) is None]
        if not missing:
            formats.append(name)
            continue
        command = machine.install_command(EXTRA)
        print(f"{name}: left out; {', '.join(missing)} not installed: {command}")
    return formats


def describe_network(network: Network) -> dict[str, Any]:
    """Which network, with which weights."""
    return {"model": network.model.get_config(), "weights": network.info.record()}


def _versions() -> dict[str, str]:
    extra = [package for package in Format.onnx.packages if find_spec(package)]
    versions = {package: version(package) for package in extra}
    return {"pwc_exp": pwc_exp.__version__, **library_versions(), **versions}


def _table(out: Path, found: Mapping[Format, Sequence[Difference]]) -> str:
    """The differences, a line for each batch."""
    lines = [
        "difference from the network, in pixels",
        f"{'format':<12}{'MB':>8}  {'in':<14}{'batch x height x width':<24}"
        f"{'mean':>10}{'largest':>10}",
    ]
    for name, differences in found.items():
        files = [path for path in (out / name).rglob("*") if path.is_file()]
        size = f"{sum(path.stat().st_size for path in files) / 1e6:.2f}"
        for engine, shape, mean, largest in differences:
            row = f"{name:<12}{size:>8}  {engine:<14}{shape!s:<24}{mean:>10.1e}{largest:>10.1e}"
            lines.append(row)
    return "\n".join(lines)
