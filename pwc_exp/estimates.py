"""Where the flow that is evaluated comes from: a network, files, or nowhere.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from keras import ops

from pwc_exp.commands.evaluation import Baseline, EvaluateConfig
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.flow.resize import pad, unpad
from pwc_exp.networks import Network, load_network
from pwc_exp.origin import Origin
from pwc_exp.steps import Levels, make_estimate, make_levels

_SUFFIXES = (".flo", ".png", ".pfm")


class Estimator(NamedTuple):
    """Something that has a flow for every sample."""

    name: str  # for tables and pages
    about: dict[str, str]  # what it is and where it comes from
    estimate: Callable[[Batch], np.ndarray]  # whole frames of one size -> [B, H, W, 2] px
    levels: Callable[[Batch], Levels] | None = None  # the pyramid, of a network
    origin: Origin | None = None  # of a network's weights


def build_estimator(config: EvaluateConfig, source: Source, indices: Sequence[int]) -> Estimator:
    """What the configuration names; `indices` are the examples that it must know.

    Raises:
        UserError: weights that cannot be read, or files that are not there.
    """
    if config.predictions is not None:
        return of_files(Path(config.predictions), source, indices)
    if config.estimate is not None:
        return _of_baseline(config.estimate)
    network = load_network(
        run=config.run, weights=config.weights, model=config.model, precision=config.precision
    )
    return of_network(network, xla=config.xla)


def of_network(network: Network, *, xla: bool) -> Estimator:
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
        "weights_sha256": network.origin.sha256,
        "weights_of": f"{network.origin.project}, {network.origin.licence}",
        "parameters": f"{model.count_params():,}",
        "precision": model.dtype_policy.name,
    }
    return Estimator(str(network.source), about, estimate, make_levels(model), network.origin)


def of_files(folder: Path, source: Source, indices: Sequence[int]) -> Estimator:
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

    return Estimator(str(folder), {"predictions": str(folder)}, estimate)


def _of_baseline(baseline: Baseline) -> Estimator:
    match baseline:
        case Baseline.zero:
            return Estimator(
                "zero flow",
                {"baseline": "a flow of zero everywhere"},
                lambda batch: np.zeros((*batch.valid.shape, 2), np.float32),
            )


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
