"""Weights from any place: shipped ones, runs, files, and checkpoints of other projects.

`load_network` builds a network with its weights; `load_weights` and `transfer_weights` assign
weights to a network that exists. `WeightsInfo` records what is known about them.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp import checkpoints, machine, pretrained, storage
from pwc_exp.build import build_model
from pwc_exp.config.data import DataConfig, Dataset, MixConfig
from pwc_exp.config.schema import BEST_KEY, CHECKPOINTS, CONFIG_FILE, load
from pwc_exp.config.training import InferencePrecision, ModelConfig, Precision, PrecisionConfig
from pwc_exp.data.datasets import CATALOGUE
from pwc_exp.errors import DataError, MissingInputError, UserError
from pwc_exp.models import tfoptflow, torch_weights
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.torch_weights import MMFLOW, NVLABS, PTLFLOW
from pwc_exp.models.transfer import Transfer, match_overlap
from pwc_exp.tracking.record import Record

STARTED_FROM = "init_from_origin"  # tag of a run: the record of the weights that it started from
OWN = "pwc_exp"
TFOPTFLOW = "philferriere/tfoptflow"
FORMATS = (
    "the name of shipped weights, a run, a checkpoint, a .safetensors file, a checkpoint of "
    "tfoptflow (its prefix), or a PyTorch file (.pth, .pt, .ckpt, .tar) of NVlabs/PWC-Net, "
    "ptlflow or mmflow"
)
BFLOAT16_BOUND = 0.05  # px: with a mean error of bfloat16 from here on, `auto` does not use it
_RESTRICTIONS = ("NC", "research only")  # in a licence that does not permit every use
_RESEARCH_DATA = tuple(f"{name} (for research only)" for name in ("FlyingChairs", "FlyingThings3D"))
# {project: (licence, training data)} of the weights that the project published, by the licence
# files of the repositories. A file does not name its author; its layout tells the project.
_TERMS: dict[str, tuple[str, tuple[str, ...]]] = {
    TFOPTFLOW: ("MIT", _RESEARCH_DATA),
    NVLABS: ("CC BY-NC-SA 4.0", _RESEARCH_DATA),
    PTLFLOW: ("CC BY-NC-SA 4.0", _RESEARCH_DATA),
    MMFLOW: ("Apache-2.0", ("FlyingChairs (for research only)",)),
}


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """Place, content, history and licence of weights, as far as these are known.

    path: the file, or the checkpoint of a run.
    sha256: of the file with the weights; of a TensorFlow checkpoint, of all its files in order.
    format: the kind of file.
    project: whose weights have this layout.
    licence: of that project's weights.
    data: what they were trained on, with licences.
    started_from: the record of the weights that their training started from.
    """

    path: Path
    sha256: str
    licence: str
    format: str = "safetensors"
    project: str = OWN
    data: tuple[str, ...] = ()
    started_from: dict[str, Any] | None = None

    @property
    def restricted(self) -> bool:
        """Whether some licence, of these weights or of earlier ones, does not permit every use."""
        before = self.started_from or {}
        licences = [self.licence, *self.data, before.get("licence", ""), *before.get("data", ())]
        found = any(mark in text for text in licences for mark in _RESTRICTIONS)
        return found or bool(before.get("restricted"))

    def record(self) -> dict[str, Any]:
        """As JSON, for the records of results."""
        more = {"path": str(self.path), "data": list(self.data), "restricted": self.restricted}
        return {**asdict(self), **more}

    def notice(self) -> str | None:
        """A line for the terminal if the use of these weights is restricted."""
        if not self.restricted:
            return None
        line = f"weights of {self.project}, {self.licence}"
        if self.data:
            line += f"; trained on {', '.join(self.data)}"
        if before := self.started_from:
            line += f"; started from those of {before.get('project')}, {before.get('licence')}"
        return line


class Network(NamedTuple):
    """A model with weights, and what is known about them."""

    model: PWCNet
    info: WeightsInfo

    @property
    def source(self) -> Path:
        """The file or checkpoint with the weights."""
        return self.info.path


class _Found(NamedTuple):
    """Weights by the names of their variables, and where they are from."""

    arrays: Mapping[str, np.ndarray]
    info: WeightsInfo
    fits: str = ""  # the model that they are for, where that is known

    @property
    def description(self) -> str:
        """What they are, for a message."""
        return f"{self.info.path}" + (f" (those of {self.fits})" if self.fits else "")


def load_network(
    *,
    run: str | None,
    weights: str | None,
    model: ModelConfig | None,
    precision: InferencePrecision | None,
    log: Callable[[str], None] = print,
) -> Network:
    """Builds a network and assigns its weights.

    If a licence restricts what the weights may be used for, a line on stderr says so.

    Args:
        run, weights, model: see `pretrained.select`.
        precision: None: that of the run, else float32.
        log: takes a line that names weights that ship with the package, and one that says what
            precision=auto decided.
    """
    selection = pretrained.select(run=run, weights=weights, model=model)
    reason = ""
    if precision is InferencePrecision.auto:
        policy, reason = choose_precision(selection.card)
    elif precision is None:
        policy = selection.precision.policy if selection.precision else Precision.fp32
    else:
        policy = Precision(precision)
    network = build_model(selection.model, PrecisionConfig(policy=policy))
    info = load_weights(network, selection.path)
    if selection.shipped is not None:
        millions = network.count_params() / 1e6
        log(f"weights: {selection.shipped} (shipped, {millions:.1f}M parameters)")
    if reason:
        log(f"precision: {network.compute_dtype} ({reason})")
    if notice := info.notice():
        print(notice, file=sys.stderr)
    return Network(network, info)


def choose_precision(card: pretrained.Card | None) -> tuple[Precision, str]:
    """bfloat16 where it is fast and, by the card of the weights, accurate; else float32.

    Returns:
        The precision and the reason.
    """
    device = "GPU" if tf.config.list_physical_devices("GPU") else "processor"
    if not has_bfloat16():
        return Precision.fp32, f"this {device} has no bfloat16 arithmetic"
    error = card.bfloat16_error if card is not None else None
    if error is None:
        return Precision.fp32, "no card says how far bfloat16 moves the flow"
    moved = f"bfloat16 moves the flow by {error:.3f} px"
    if error < BFLOAT16_BOUND:
        return Precision.bf16, moved
    return Precision.fp32, f"{moved}, {BFLOAT16_BOUND} px or more"


def has_bfloat16() -> bool:
    """Whether the devices that compute have bfloat16 arithmetic; NVIDIA's do from Ampere on."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return machine.has_bfloat16()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return all(each.get("compute_capability", (0, 0)) >= (8, 0) for each in details)


def load_weights(model: PWCNet, path: Path) -> WeightsInfo:
    """Assigns the weights at `path` to `model`, all or none, and returns what is known about them.

    Of a run that averages its weights, these are the averages.

    Args:
        model: its architecture and conventions must be those of the weights.
        path: name of shipped weights, folder of a run (its best checkpoint, or its last one if none
            has been evaluated), folder of a checkpoint, .safetensors file, prefix of a checkpoint
            of tfoptflow, or a file of PyTorch, which is read without PyTorch and without running
            anything in it.

    Raises:
        MissingInputError: nothing of the kind is there.
        DataError: damaged, not finite, or weights of another architecture.
        ResumeError: a checkpoint of another version of this package.
    """
    found = _read(model, path)
    checkpoints.assign_weights(
        checkpoints.named_state(model), found.arrays, source=found.description
    )
    return found.info


def transfer_weights(model: PWCNet, path: Path) -> tuple[WeightsInfo, Transfer]:
    """Assigns to `model` what it has in common with the network at `path`; see `match_overlap`.

    Args:
        model: with fresh weights; its conventions must be those of the weights at `path`.
        path: as in `load_weights`.

    Raises:
        MissingInputError, ResumeError: as `load_weights`.
        DataError: damaged, not finite, of other conventions, or nothing in common with `model`.
    """
    found = _read(model, path)
    prefix = f"{checkpoints.MODEL_PREFIX}{model.name}/"
    variables = checkpoints.named_state(model)
    source = checkpoints.weights_of(found.arrays)
    transfer = match_overlap(
        {name.removeprefix(prefix): np.asarray(value) for name, value in variables.items()},
        {name.removeprefix(prefix): value for name, value in source.items()},
        unit_ratio=model.unit_ratio,
    )
    if not transfer.values:
        raise DataError(
            f"{found.description} must have a variable in common with the model (name and shape). "
            f"Received: none of {len(variables)}"
        )
    fresh = {prefix + name: np.asarray(variables[prefix + name]) for name in transfer.fresh}
    taken = {prefix + name: value for name, value in transfer.values.items()}
    checkpoints.assign_weights(variables, fresh | taken, source=found.description)
    return found.info, transfer


def _read(model: PWCNet, path: Path) -> _Found:
    if prefix := _tensorflow_prefix(path):
        return _read_tfoptflow(model, prefix)
    if path.is_file() and torch_weights.is_torch_file(path):
        return _read_torch(model, path)
    return _read_own(model, _checkpoint(path))


def _checkpoint(path: Path) -> Path:
    path = pretrained.locate(path)
    folder = path / CHECKPOINTS
    if not folder.is_dir():
        return path
    own = path / CONFIG_FILE
    key = load(own).best_metric if own.is_file() else BEST_KEY
    found = checkpoints.best(folder, key=key) or checkpoints.latest(folder)
    if found is None:
        raise MissingInputError(f"{folder} must hold a checkpoint. Received: none")
    return found


def _read_own(model: PWCNet, path: Path) -> _Found:
    if not path.exists():
        raise MissingInputError(f"{path}: no such weights. Expected: {FORMATS}")
    if path.is_file() and path.suffix != ".safetensors":
        raise DataError(f"{path} is not a known kind of weights. Expected: {FORMATS}")
    if card := pretrained.card_of(path):
        pretrained.verify(path, card)
        _check_conventions(model, asdict(card.network), f"{path}: its card has")
        data = tuple(f"{each.name} ({each.licence})" for each in card.data)
        info = WeightsInfo(path=path, sha256=card.sha256, licence=card.licence, data=data)
        return _Found(checkpoints.load(path).arrays, info, fits=f"model={card.network.name}")
    arrays = checkpoints.load(path).arrays
    sha256 = storage.sha256_of(path if path.is_file() else path / checkpoints.STATE_FILE)
    run_dir = path.parent.parent
    if path.is_file() or not (run_dir / CONFIG_FILE).is_file():
        return _Found(arrays, WeightsInfo(path=path, sha256=sha256, licence="not stated"))
    config = load(run_dir / CONFIG_FILE)
    _check_conventions(model, asdict(config.model), f"{path}: its run has")
    info = WeightsInfo(
        path=path,
        sha256=sha256,
        format="checkpoint",
        licence="that of the data it was trained on",
        data=tuple(_data_licences(config.data)),
        started_from=_started_from(run_dir),
    )
    return _Found(arrays, info, fits=f"model={config.model.name}")


def _data_licences(data: DataConfig) -> list[str]:
    """The data sets of a configuration, with their licences as far as these are known."""
    if isinstance(data, MixConfig):
        return [text for part in data.part_configs() for text in _data_licences(part)]
    if data.name in (Dataset.synthetic, Dataset.folder, Dataset.csv):
        return [str(data.name)]
    name = data.name.removesuffix("_halfres")
    known = next(entry for key, entry in CATALOGUE.items() if key.startswith(name))
    return [f"{data.name} ({known.licence})"]


def _started_from(run_dir: Path) -> dict[str, Any] | None:
    """What a run started from, and that from: further back only whether use is restricted."""
    try:
        before = json.loads(Record.load(run_dir).about.get(STARTED_FROM, "null"))
    except (UserError, ValueError):
        return None
    if not isinstance(before, dict):
        return None
    if isinstance(earlier := before.get("started_from"), dict):
        earlier["started_from"] = None
    return before


def _tensorflow_prefix(path: Path) -> Path | None:
    """The prefix of a TensorFlow checkpoint that the prefix itself or one of its files names."""
    if path.suffix in (".index", ".meta") or ".data-" in path.suffix:
        path = path.with_suffix("")
    return path if Path(f"{path}.index").is_file() else None


def _read_tfoptflow(model: PWCNet, prefix: Path) -> _Found:
    _check_conventions(model, tfoptflow.CONVENTIONS, f"{prefix}: weights of tfoptflow have")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if tfoptflow.weight_name(name)]
        tensors = {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DataError(f"{prefix} is not a readable TensorFlow checkpoint: {error}") from error
    if not tensors:
        raise DataError(f"{prefix} must hold variables under {tfoptflow.SCOPE}. Received: none")
    files = [Path(f"{prefix}.index"), *sorted(prefix.parent.glob(f"{prefix.name}.data-*"))]
    info = _foreign(prefix, TFOPTFLOW, "TensorFlow checkpoint", storage.sha256_of(*files))
    return _Found(_named(model, tfoptflow.convert(tensors)), info)


def _read_torch(model: PWCNet, path: Path) -> _Found:
    converted = torch_weights.convert(torch_weights.read_state_dict(path), source=str(path))
    _check_conventions(
        model, torch_weights.CONVENTIONS, f"{path}: weights of {converted.project} have"
    )
    info = _foreign(path, converted.project, "PyTorch file", storage.sha256_of(path))
    return _Found(_named(model, converted.weights), info, fits=f"model={converted.fits}")


def _foreign(path: Path, project: str, kind: str, sha256: str) -> WeightsInfo:
    licence, data = _TERMS[project]
    return WeightsInfo(
        path=path, sha256=sha256, format=kind, project=project, licence=licence, data=data
    )


def _named(model: PWCNet, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{checkpoints.MODEL_PREFIX}{model.name}/"
    return {f"{prefix}{name}": value for name, value in weights.items()}


def _check_conventions(model: PWCNet, trained: Mapping[str, Any], whose: str) -> None:
    """Refuses a model that would mean something else by the same weights."""
    unlike = [
        f"model.{name}={str(trained[name]).lower()}"
        for name, value in model.conventions.items()
        if trained[name] != value
    ]
    if unlike:
        raise DataError(f"{whose} {', '.join(unlike)}. Received: a model that has not")
