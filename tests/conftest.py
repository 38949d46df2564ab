"""Fixtures: where the real data lie, if they are there; configurations; a database for MLflow."""

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp import cli
from pwc_exp.config import composition

cli.prepare_environment()  # tests run TensorFlow as the commands do

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real image pairs and the original's outputs; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of real data beside the checkout: {SHARED.name}/")
    return SHARED


@pytest.fixture(scope="session")
def configure() -> Callable[..., Any]:
    """(command, *overrides) -> the checked configuration."""
    composition.register()

    @functools.cache
    def composed(command: str, overrides: tuple[str, ...], folder: Path) -> Any:
        return composition.check(
            composition.compose_command(command, list(overrides)).values, command
        )

    def of(command: str, *overrides: str) -> Any:
        return copy.deepcopy(composed(command, overrides, Path.cwd()))

    return of


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: copying it is 100 times faster than making one."""
    from pwc_exp.tracking.mlflow_store import connect

    folder = tmp_path_factory.mktemp("mlflow")
    connect(f"sqlite:///{folder}/mlflow.db", "first", folder)
    return folder / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose outputs/ has that database."""
    (tmp_path / "outputs/mlflow").mkdir(parents=True)
    shutil.copy(database, tmp_path / "outputs/mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
