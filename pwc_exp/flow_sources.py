"""Frames -> flow, to be evaluated: a network, flow files, or a baseline without training.

Letters: B batch, H height, W width.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from keras import ops

from pwc_exp.config.commands import Baseline, EvaluateConfig
from pwc_exp.config.schema import CONFIG_FILE, load
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Batch, Source
from pwc_exp.data.source import distinct
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.flow.resize import pad, unpad
from pwc_exp.inference import Levels, make_estimate, make_levels
from pwc_exp.machine import needed
from pwc_exp.weights import Network, WeightsInfo, load_network

_SUFFIXES = (".flo", ".png", ".pfm", ".flo5", ".npy")
# Farneback's parameters: scale and levels of the pyramid, window, iterations, and the neighbourhood
# of the polynomial with its standard deviation: 7 and 1.5 belong together in OpenCV's manual.
_FARNEBACK = (0.5, 3, 15, 3, 7, 1.5, 0)
# Weights of red, green and blue, in 1 / 32768: those with which OpenCV reads a colour PNG as grey.
_GREY = (9797, 19234, 3737)


class FlowSource(NamedTuple):
    """Something that has a flow for every sample."""

    label: str  # short: for rows of tables and names of folders
    name: str  # for titles
    about: dict[str, str]  # what it is and where it comes from
    estimate: Callable[[Batch], np.ndarray]  # whole frames of one size -> [B, H, W, 2] px
    levels: Callable[[Batch], Levels] | None = None  # the pyramid, of a network
    origin: WeightsInfo | None = None  # of a network's weights
    computes: bool = True  # False: it reads files, so its time says nothing


def build_flow_sources(
    config: EvaluateConfig, source: Source, indices: Sequence[int]
) -> list[FlowSource]:
    """All that the configuration names; `indices` are the examples that they must know.

    Raises:
        UserError: weights that cannot be read, files or packages that are not there.
    """

    def network(label: str, *, run: str | None = None, weights: str | None = None) -> FlowSource:
        loaded = load_network(
            run=run, weights=weights, model=config.model, precision=config.precision
        )
        found = of_network(loaded, label=label, xla=config.xla)
        return found._replace(about=found.about | {"run": run}) if run else found

    found = [_of_baseline(baseline) for baseline in config.estimate]
    found += [of_files(Path(folder), source, indices) for folder in config.predictions]
    found += [network(load(Path(run) / CONFIG_FILE).name, run=run) for run in config.run]
    found += [
        network(Path(path).name.removesuffix(".safetensors"), weights=path)
        for path in config.weights
    ]
    # A label names a folder as well, whatever a run or a file is called.
    labels = distinct([re.sub(r"[^\w.-]+", "-", one.label).strip(".-") for one in found])
    return [one._replace(label=label) for one, label in zip(found, labels, strict=True)]


def of_network(network: Network, *, label: str, xla: bool) -> FlowSource:
    """The estimates of a network that holds weights."""
    model = network.model
    multiple = 2**model.levels
    compiled = make_estimate(model, xla=xla)

    def estimate(batch: Batch) -> np.ndarray:
        # Padded here, so that frames of about one size share a compiled function.
        height, width = batch.frame1.shape[1:3]
        flow = compiled(pad(batch.frame1, multiple), pad(batch.frame2, multiple))
        return ops.convert_to_numpy(unpad(flow, height, width))

    about = {
        "weights": str(network.source),
        "weights_sha256": network.info.sha256,
        "weights_of": f"{network.info.project}, {network.info.licence}",
        "parameters": f"{model.count_params():,}",
        "precision": model.dtype_policy.name,
    }
    return FlowSource(label, str(network.source), about, estimate, make_levels(model), network.info)


def of_files(folder: Path, source: Source, indices: Sequence[int]) -> FlowSource:
    """Flow files named after the samples; each of `indices` must be there, or it is refused here.

    Raises:
        MissingInputError: a file is missing.
        DataError: when it is asked for a file that is no flow, of another size, or unknown where
            the truth is known.
    """
    paths = {index: _prediction(folder, source.ids[index]) for index in indices}

    def estimate(batch: Batch) -> np.ndarray:
        flows = [
            _read(paths[int(index)], batch.valid[place].numpy())
            for place, index in enumerate(batch.index)
        ]
        return np.stack(flows)

    about = {"predictions": str(folder)}
    return FlowSource(folder.name, str(folder), about, estimate, computes=False)


def _of_baseline(baseline: Baseline) -> FlowSource:
    estimate: Callable[[Batch], np.ndarray]
    match baseline:
        case Baseline.zero:
            about = "a flow of zero everywhere"
            name, estimate = "zero-flow baseline", _zero
        case Baseline.dis:
            cv2 = needed("cv2", "opencv")
            about = f"OpenCV {cv2.__version__}, DISOpticalFlow, preset medium, on grey frames"
            method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            name = "DIS (OpenCV)"
            estimate = _with_opencv(lambda *frames: method.calc(*frames, None))
        case Baseline.farneback:
            cv2 = needed("cv2", "opencv")
            about = f"OpenCV {cv2.__version__}, calcOpticalFlowFarneback{_FARNEBACK}, grey frames"
            name = "Farneback (OpenCV)"
            estimate = _with_opencv(
                lambda *frames: cv2.calcOpticalFlowFarneback(*frames, None, *_FARNEBACK)
            )
    return FlowSource(str(baseline), name, {"baseline": about}, estimate)


def _zero(batch: Batch) -> np.ndarray:
    return np.zeros((*batch.valid.shape, 2), np.float32)


def _with_opencv(
    method: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Batch], np.ndarray]:
    """Batch -> flow, from a method on two grey frames [H, W] uint8.

    Raises:
        DataError: when it is asked for frames that the method refuses.
    """
    cv2 = needed("cv2", "opencv")

    def estimate(batch: Batch) -> np.ndarray:
        pairs = zip(_grey(batch.frame1.numpy()), _grey(batch.frame2.numpy()), strict=True)
        try:
            return np.stack([method(*pair) for pair in pairs])
        except cv2.error as error:
            height, width = batch.valid.shape[1:]
            raise DataError(
                f"OpenCV must find frames of {height} x {width} (height x width) large enough. "
                f"Received: {error}"
            ) from error

    return estimate


def _grey(frames: np.ndarray) -> np.ndarray:
    """Grey frames [B, H, W] uint8 of frames [B, H, W, 3] RGB in [0, 1].

    Grey pixels stay as they are; others are rounded down, as `cv2.imread(…, IMREAD_GRAYSCALE)` does
    for PNG files.
    """
    pixels = np.rint(frames * 255).astype(np.int32)
    weighted = [weight * pixels[..., place] for place, weight in enumerate(_GREY)]
    return (sum(weighted) >> 15).astype(np.uint8)


def _prediction(folder: Path, sample_id: str) -> Path:
    """The file for a sample: its id, perhaps after a prefix (LKflow_000045_10), with a suffix."""
    within = folder / sample_id
    for suffix in _SUFFIXES:
        path = within.with_name(within.name + suffix)
        if path.is_file():
            return path
    prefixed = [
        path for path in _flow_files(within.parent) if path.stem.endswith(f"_{within.name}")
    ]
    if len(prefixed) == 1:
        return prefixed[0]
    found = f"several ({', '.join(path.name for path in prefixed)})" if prefixed else "none"
    raise MissingInputError(
        f"predictions: {folder} must hold {sample_id}.flo, .png or .pfm. Received: {found}"
    )


def _flow_files(folder: Path) -> Iterator[Path]:
    files: Sequence[Path] = sorted(folder.iterdir()) if folder.is_dir() else []
    return (path for path in files if path.suffix in _SUFFIXES)


def _read(path: Path, valid: np.ndarray) -> np.ndarray:
    """The estimate [H, W, 2] in a file."""
    flow, known = read_flow(path)
    if flow.shape[:2] != valid.shape:
        expected, received = valid.shape, flow.shape[:2]
        raise DataError(
            f"{path} must be of the frames' size, {expected[0]} x {expected[1]} (height x width). "
            f"Received: {received[0]} x {received[1]}"
        )
    missing = int(((known == 0) & (valid > 0)).sum())
    if missing:
        raise DataError(
            f"{path} must give a flow wherever the truth is known. Received: {missing} gaps"
        )
    return flow
