"""Fixtures of the tests of tracking."""

import shutil
import sys
import types
from pathlib import Path

import pytest

from pwc_exp.tracking.connection import connect

# Lets TensorBoard read event files without TensorFlow, whose import takes seconds.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: copying it is 100 times faster than making one."""
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
