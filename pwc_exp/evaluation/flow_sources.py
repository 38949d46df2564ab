"""Frames -> flow, from anything that has flow: a network, an exported one, files, a baseline.

`FlowSource` is the one interface; `evaluate` and `submit` take any of them.
Letters: B batch, H height, W width.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from pwc_exp import pretrained
from pwc_exp.config.commands import Baseline, EvaluateConfig
from pwc_exp.config.schema import CONFIG_FILE, load
from pwc_exp.config.training import InferencePrecision, ModelConfig
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Source
from pwc_exp.data.source import distinct
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.flow.colour import to_bytes
from pwc_exp.inference import Estimator, make_levels
from pwc_exp.machine import needed
from pwc_exp.weights import Network, WeightsInfo, load_network

# All formats that `predict` writes and `read_flow` reads; the first that is there is taken. PNG is
# last: it rounds to 1/64 px, and a PNG of that name may be a picture.
SUFFIXES = (".flo", ".flo5", ".npy", ".pfm", ".png")
# Parameters of Farneback's method: scale and levels of the pyramid, window, iterations, and the
# neighbourhood of the polynomial with its standard deviation: OpenCV's manual pairs 7 with 1.5.
_FARNEBACK = (0.5, 3, 15, 3, 7, 1.5, 0)
# Weights of red, green and blue, in 1 / 32768, by which OpenCV reads a colour PNG as grey.
_GREY = (9797, 19234, 3737)


class Pairs(NamedTuple):
    """Pairs of frames of one size whose flow is wanted. Arrays or tensors."""

    ids: Sequence[str]  # [B] sample ids: files are named after them
    frame1: Any  # [B, H, W, 3] float32 RGB in [0, 1]
    frame2: Any  # [B, H, W, 3]; a source that does not compute sees the size of both only
    needed: Any = None  # [B, H, W], 0 where the flow may be unknown; None: needed everywhere


class FlowSource(Protocol):
    """Something that has a flow for every pair."""

    label: str  # short: for rows of tables and names of folders
    title: str  # for the titles of pages
    about: dict[str, str]  # what it is and where it comes from
    origin: WeightsInfo | None = None  # of the weights, where they are known
    computes: bool = True  # False: it reads files, so that its time means nothing

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """The flow [B, H, W, 2] float32, in pixels, from `frame1` to `frame2`.

        Raises:
            DataError: it has no flow for a pair: OpenCV refuses the frames; a file holds no flow,
                has another size, or has gaps where flow is needed.
        """
        ...


class NetworkFlow(FlowSource):
    """The estimates of a network that holds weights."""

    def __init__(
        self,
        network: Network,
        *,
        label: str,
        xla: bool,
        batch_size: int = 1,
        run: str | None = None,
    ) -> None:
        model = network.model
        self.label = label
        self.title = str(network.source)
        self.origin = network.info
        self.about = {
            "weights": str(network.source),
            "weights_sha256": network.info.sha256,
            "weights_of": f"{network.info.project}, {network.info.licence}",
            "parameters": f"{model.count_params():,}",
            "precision": model.dtype_policy.name,
            **({"run": run} if run else {}),
        }
        self.levels = make_levels(model)
        self._estimator = Estimator(model, batch_size=batch_size, xla=xla)

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """Runs the network.

        Raises:
            DeviceMemoryError: the frames do not fit in the memory.
        """
        frames = (list(np.asarray(each)) for each in (pairs.frame1, pairs.frame2))
        return np.stack(self._estimator(*frames))


class ExportedFlow(FlowSource):
    """The estimates of an exported network, in the runtime that runs it.

    Args:
        run: two frames, uint8 [B, H, W, 3] RGB -> the flow, float32 [B, H, W, 2], in pixels.
        runtime: what it is run by.
        folder: of the export.
    """

    def __init__(
        self, run: Callable[[np.ndarray, np.ndarray], np.ndarray], *, runtime: str, folder: Path
    ) -> None:
        self.label = folder.name
        self.title = f"{folder} ({runtime})"
        self.about = {"exported": str(folder), "runtime": runtime}
        self._run = run

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """Runs the exported network."""
        return self._run(*_bytes(pairs))


class FlowFiles(FlowSource):
    """Flow in files that are named after the samples, in any format that `predict` writes.

    Args:
        folder: that holds them.
        names: of the samples, by id: further names, relative to `folder`, that are tried first.
    """

    computes = False

    def __init__(self, folder: Path, names: Mapping[str, str | None]) -> None:
        self.label = folder.name
        self.title = str(folder)
        self.about = {"predictions": str(folder)}
        self._paths = {one: _find_file(folder, one, name) for one, name in names.items()}

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """Reads the files."""
        size = tuple(pairs.frame1.shape[1:3])
        flows = []
        for place, one in enumerate(pairs.ids):
            path = self._paths[one]
            flow, known = read_flow(path)
            if flow.shape[:2] != size:
                raise DataError(
                    f"{path} must have the size of the frames, {size[0]} x {size[1]} (height x "
                    f"width). Received: {flow.shape[0]} x {flow.shape[1]}"
                )
            counts = True if pairs.needed is None else np.asarray(pairs.needed[place]) > 0
            if missing := int(((known == 0) & counts).sum()):
                raise DataError(
                    f"{path} must hold a flow at every pixel that counts. Received: {missing} gaps"
                )
            flows.append(flow)
        return np.stack(flows)


class ZeroFlow(FlowSource):
    """No motion anywhere: the baseline that every method has to beat."""

    label, title = "zero", "zero-flow baseline"

    def __init__(self) -> None:
        self.about = {"baseline": "zero flow everywhere"}

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """Zeros."""
        return np.zeros((*pairs.frame1.shape[:3], 2), np.float32)


class OpenCVFlow(FlowSource):
    """A method of OpenCV on grey frames of 8 bits."""

    def __init__(self, baseline: Baseline) -> None:
        cv2 = self._cv2 = needed("cv2", "opencv")
        if baseline is Baseline.dis:
            method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            self.title, described = "DIS (OpenCV)", "DISOpticalFlow, preset medium, on grey frames"
            self._method = lambda *frames: method.calc(*frames, None)
        else:
            self.title = "Farneback (OpenCV)"
            described = f"calcOpticalFlowFarneback{_FARNEBACK}, grey frames"
            self._method = lambda *frames: cv2.calcOpticalFlowFarneback(*frames, None, *_FARNEBACK)
        self.label = str(baseline)
        self.about = {"baseline": f"OpenCV {cv2.__version__}, {described}"}

    def estimate(self, pairs: Pairs) -> np.ndarray:
        """Runs the method on each pair."""
        frames = zip(*map(_grey, _bytes(pairs)), strict=True)
        try:
            return np.stack([self._method(*pair) for pair in frames])
        except self._cv2.error as error:
            height, width = pairs.frame1.shape[1:3]
            raise DataError(
                f"OpenCV must accept frames of {height} x {width} (height x width). "
                f"Received: {error}"
            ) from error


def build_flow_sources(
    config: EvaluateConfig, source: Source, indices: Sequence[int]
) -> list[FlowSource]:
    """All that the configuration names; `indices` are the examples that files must be there for."""
    found: list[FlowSource] = [
        ZeroFlow() if baseline is Baseline.zero else OpenCVFlow(baseline)
        for baseline in config.estimate
    ]
    ids = {source.ids[index]: None for index in indices} if config.predictions else {}
    found += [FlowFiles(Path(folder), ids) for folder in config.predictions]
    for folder in map(Path, config.exported):
        from pwc_exp.export.formats import engines_of  # imports every format

        runtime, run = next(iter(engines_of(folder).items()))
        found.append(ExportedFlow(run, runtime=runtime, folder=folder))
    found += [
        load_network_flow(
            run=network.run,
            weights=network.weights,
            model=config.model,
            precision=config.precision.policy,
            xla=config.xla,
            batch_size=config.batch_size,
        )
        for network in config.networks
    ]
    # A label names a folder as well, whatever a run or a file is called.
    labels = distinct([re.sub(r"[^\w.-]+", "-", one.label).strip(".-") for one in found])
    for one, label in zip(found, labels, strict=True):
        one.label = label
    return found


def load_network_flow(
    *,
    run: str | None,
    weights: str | None,
    model: ModelConfig | None,
    precision: InferencePrecision | None,
    xla: bool,
    batch_size: int = 1,
) -> NetworkFlow:
    """The network of a run or of weights; the first arguments are those of `load_network`."""
    network = load_network(run=run, weights=weights, model=model, precision=precision)
    label = Path(weights or network.source).name.removesuffix(".safetensors")
    if run:
        label = load(Path(run) / CONFIG_FILE).name
    flow = NetworkFlow(network, label=label, xla=xla, batch_size=batch_size, run=run)
    if weights in pretrained.names():
        flow.title = f"{weights} (shipped)"
    return flow


def _bytes(pairs: Pairs) -> list[np.ndarray]:
    """The frames of both times, uint8 [B, H, W, 3]."""
    return [to_bytes(np.asarray(frames)) for frames in (pairs.frame1, pairs.frame2)]


def _grey(frames: np.ndarray) -> np.ndarray:
    """Grey frames [B, H, W] uint8 of frames [B, H, W, 3] uint8 RGB.

    Grey pixels stay as they are; others are rounded down, as `cv2.imread(…, IMREAD_GRAYSCALE)` does
    for PNG files.
    """
    return (frames.astype(np.int32) @ np.array(_GREY, np.int32) >> 15).astype(np.uint8)


def _find_file(folder: Path, sample_id: str, name: str | None) -> Path:
    """The file `name`, or that of the sample's id, perhaps prefixed (LKflow_000045_10)."""
    within = folder / sample_id
    named = [folder / name] if name else []
    for path in (*named, *(within.with_name(within.name + suffix) for suffix in SUFFIXES)):
        if path.is_file():
            return path
    found = [
        path
        for path in sorted(within.parent.glob("*"))
        if path.suffix in SUFFIXES and path.stem.endswith(f"_{within.name}")
    ]
    if len(found) == 1:
        return found[0]
    wanted = f"{name}, or " if name else ""
    received = f"several ({', '.join(path.name for path in found)})" if found else "none"
    raise MissingInputError(
        f"predictions: {folder} must hold {wanted}{sample_id}{', '.join(SUFFIXES[:-1])} or "
        f"{SUFFIXES[-1]}. Received: {received}"
    )
