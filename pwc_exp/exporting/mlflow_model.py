"""The network as a model of MLflow, which `mlflow models serve` answers HTTP with."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pwc_exp.exporting import saved_model
from pwc_exp.exporting.engine import Runner, Shape
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.tracking import model


def write(network: PWCNet, folder: Path, shapes: Sequence[Shape]) -> None:
    """Writes MLflow's folder, with a SavedModel in it; for any size."""
    with TemporaryDirectory() as temporary:
        saved_model.write(network, Path(temporary) / "savedmodel", shapes)
        model.save(Path(temporary) / "savedmodel", folder)


def engines(folder: Path) -> dict[str, Runner]:
    """What runs it."""
    return {"MLflow": model.load(folder)}
