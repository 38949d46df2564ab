"""Checks of the files, folders and extras that a configuration names, without TensorFlow."""

import glob
import os
from pathlib import Path

from pwc_exp import machine, pretrained
from pwc_exp.config.commands import (
    STANDARD_INPUT,
    BenchmarkConfig,
    DataFetchConfig,
    EvaluateConfig,
    ExportConfig,
)
from pwc_exp.config.composition import read_model
from pwc_exp.config.model import NetworkConfig
from pwc_exp.config.schema import CONFIG_FILE, Config, flatten
from pwc_exp.config.training import TrainConfig, roots_of
from pwc_exp.errors import MissingInputError, OutputError

INPUTS = (
    *("data.root", "data.quarantine", "data.textures", "root"),
    *("init_from", "run", "box", "weights", "predictions", "frames", "check", "runs", "exported"),
)
NAMED = ("init_from", "weights")  # of these, the inputs that may name shipped weights


def check_places(checked: Config, run_dir: Path) -> None:
    """Refuses inputs, models, packages that are not there, and an impossible run folder."""
    values = flatten(checked)
    for key in INPUTS:
        if key == "data.root" and isinstance(checked, DataFetchConfig):
            continue  # it is made
        value = values.get(key) or []
        for path in value if isinstance(value, list) else [value]:
            check_input(key, path)
    _check_names(checked)
    _check_packages(checked)
    if isinstance(checked, ExportConfig) and Path(checked.out).exists():
        raise OutputError(f"out: {checked.out} exists; choose another folder")
    if isinstance(checked, TrainConfig):
        _check_roots(checked)
        _prepare_outputs(run_dir.parent)


def check_input(key: str, path: str) -> None:
    """Refuses a path, the value of `key`, at which there is nothing."""
    if not _is_there(key, path):
        raise MissingInputError(f"{key}: no such file or folder: {path}{_shipped(key)}")


def _check_names(checked: Config) -> None:
    """Refuses models that are not there or do not fit."""
    if isinstance(checked, NetworkConfig):
        for run, weights in checked.networks:
            pretrained.select(run=run, weights=weights, model=checked.model)
    if isinstance(checked, BenchmarkConfig):
        for name in checked.models:
            read_model(name)


def _check_packages(checked: Config) -> None:
    """Refuses what needs an optional package that is not installed."""
    match checked:
        case EvaluateConfig() if any(baseline.needs_opencv for baseline in checked.estimate):
            machine.require("cv2", "opencv")
        case ExportConfig():
            for package in [each for name in checked.formats or [] for each in name.packages]:
                machine.require(package, "export")


def _check_roots(config: TrainConfig) -> None:
    for prefix, root in roots_of(config.validation_sets()).items():
        if not root.is_dir():
            raise MissingInputError(f"validation: no such folder, the root of {prefix}: {root}")


def _is_there(key: str, path: str) -> bool:
    if key == "frames" and (path == STANDARD_INPUT or glob.glob(path)):
        return True
    if key in NAMED and path in pretrained.names():
        return True
    # The weights of a TensorFlow checkpoint are named by what its files' names begin with.
    return Path(path).exists() or Path(f"{path}.index").exists()


def _shipped(key: str) -> str:
    """What `key` may be beside a path, for a message."""
    if key not in NAMED:
        return ""
    return f". Shipped weights: {', '.join(pretrained.names()) or 'none'}; or give a path"


def _prepare_outputs(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"outputs: cannot make the folder {folder}; {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"outputs: cannot write in the folder {folder}")


def newest_run(text: str) -> Path | None:
    """The newest run, if `text` is `latest` (in outputs/) or a folder of runs; else None.

    Raises:
        MissingInputError: `latest`, and there is no run.
    """
    folder = Path(text.strip("'\""))
    if text == "latest":
        outputs = Path("outputs")  # runs, and children of sweeps
        found = [*outputs.glob(f"*/*/{CONFIG_FILE}"), *outputs.glob(f"*/*/*/{CONFIG_FILE}")]
        if not found:
            raise MissingInputError("latest: there is no run in outputs/")
    elif (folder / CONFIG_FILE).is_file():
        return None
    else:
        found = list(folder.glob(f"*/{CONFIG_FILE}"))
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None
