"""Weights from wherever they lie: own runs and files, tfoptflow, and files of PyTorch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp import checkpoints, pretrained, storage
from pwc_exp.config.data import DataConfig, Dataset, MixConfig
from pwc_exp.config.schema import BEST_KEY, CHECKPOINTS, CONFIG_FILE, load
from pwc_exp.data.datasets.catalogue import CATALOGUE
from pwc_exp.errors import DataError, MissingInputError, UserError
from pwc_exp.models import tfoptflow, torch_layouts
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.torch_files import is_torch_file, read_state_dict
from pwc_exp.models.transfer import Transfer, match_overlap
from pwc_exp.origin import OWN, TERMS, TFOPTFLOW, Origin
from pwc_exp.tracking.record import Record

STARTED_FROM = "init_from_origin"  # tag of a run: the record of the weights that it started from
FORMATS = (
    "the name of shipped weights, a run, a checkpoint, a .safetensors file, a checkpoint of "
    "tfoptflow (its prefix), or a PyTorch file (.pth, .pt, .ckpt, .tar) of NVlabs/PWC-Net, "
    "ptlflow or mmflow"
)


class _Found(NamedTuple):
    """Weights by the names of their variables, and where they are from."""

    arrays: Mapping[str, np.ndarray]
    origin: Origin
    fits: str = ""  # the model that they are for, where that is known

    @property
    def description(self) -> str:
        """What they are, for a message."""
        return f"{self.origin.path}" + (f" (those of {self.fits})" if self.fits else "")


def load_weights(model: PWCNet, path: Path) -> Origin:
    """Assigns the weights at `path` to `model`, all or none, and tells where they are from.

    Of a run that averages its weights, these are the averages.

    Args:
        model: its architecture and conventions must be those of the weights.
        path: name of shipped weights, folder of a run (its best checkpoint, or its last one if none
            has been evaluated),
            folder of a checkpoint, .safetensors file, prefix of a checkpoint of tfoptflow, or a
            file of PyTorch, which is read without PyTorch and without running anything in it.

    Raises:
        MissingInputError: nothing of the kind is there.
        DataError: damaged, not finite, or weights of another architecture.
        ResumeError: a checkpoint of another version of this package.
    """
    found = _read(model, path)
    checkpoints.assign_weights(
        checkpoints.named_state(model), found.arrays, source=found.description
    )
    return found.origin


def transfer_weights(model: PWCNet, path: Path) -> tuple[Origin, Transfer]:
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
    return found.origin, transfer


def _read(model: PWCNet, path: Path) -> _Found:
    if prefix := _tensorflow_prefix(path):
        return _read_tfoptflow(model, prefix)
    if path.is_file() and is_torch_file(path):
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
        raise DataError(f"{path} is of no kind of weights that is known. Expected: {FORMATS}")
    if card := pretrained.card_of(path):
        return _read_with_card(model, path, card)
    checkpoint = checkpoints.load(path)
    run_dir = path.parent.parent
    if path.is_file() or not (run_dir / CONFIG_FILE).is_file():
        file = path if path.is_file() else path / checkpoints.STATE_FILE
        origin = Origin(
            path=path,
            sha256=storage.sha256_of(file),
            format="safetensors",
            project=OWN,
            licence="not stated",
        )
        return _Found(checkpoint.arrays, origin)
    config = load(run_dir / CONFIG_FILE)
    trained = {name: getattr(config.model, name) for name in model.conventions}
    _check_conventions(model, trained, f"{path}: its run has")
    origin = Origin(
        path=path,
        sha256=storage.sha256_of(path / checkpoints.STATE_FILE),
        format="checkpoint",
        project=OWN,
        licence="that of the data it was trained on",
        data=tuple(_data_licences(config.data)),
        started_from=_started_from(run_dir),
    )
    return _Found(checkpoint.arrays, origin, fits=f"model={config.model.name}")


def _read_with_card(model: PWCNet, path: Path, card: pretrained.Card) -> _Found:
    pretrained.verify(path, card)
    trained = {name: getattr(card.network, name) for name in model.conventions}
    _check_conventions(model, trained, f"{path}: its card has")
    origin = Origin(
        path=path,
        sha256=card.sha256,
        format="safetensors",
        project=OWN,
        licence=card.licence,
        data=tuple(f"{each.name} ({each.licence})" for each in card.data),
    )
    fits = f"model={card.network.name}"
    return _Found(checkpoints.load(path).arrays, origin, fits=fits)


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
    origin = _foreign(prefix, TFOPTFLOW, "TensorFlow checkpoint", storage.sha256_of(*files))
    return _Found(_named(model, tfoptflow.convert(tensors)), origin)


def _read_torch(model: PWCNet, path: Path) -> _Found:
    converted = torch_layouts.convert(read_state_dict(path), source=str(path))
    _check_conventions(
        model, torch_layouts.CONVENTIONS, f"{path}: weights of {converted.project} have"
    )
    origin = _foreign(path, converted.project, "PyTorch file", storage.sha256_of(path))
    return _Found(_named(model, converted.weights), origin, fits=f"model={converted.fits}")


def _foreign(path: Path, project: str, kind: str, sha256: str) -> Origin:
    terms = TERMS[project]
    return Origin(
        path=path,
        sha256=sha256,
        format=kind,
        project=project,
        licence=terms.licence,
        data=terms.data,
    )


def _named(model: PWCNet, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{checkpoints.MODEL_PREFIX}{model.name}/"
    return {f"{prefix}{name}": value for name, value in weights.items()}


def _check_conventions(model: PWCNet, trained: Mapping[str, Any], whose: str) -> None:
    """Refuses a model that would mean something else by the same weights."""
    unlike = [
        f"model.{name}={str(value).lower()}"
        for name, value in trained.items()
        if model.conventions[name] != value
    ]
    if unlike:
        raise DataError(f"{whose} {', '.join(unlike)}. Received: a model that has not")
