"""Fixtures of every test: where the real data and the original's outputs lie, if they are there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pwc_exp import cli, composition

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

    def composed(command: str, *overrides: str) -> Any:
        return composition.check(
            composition.compose_command(command, list(overrides)).values, command
        )

    return composed
