"""Fixtures of every test: where the real data and the original's outputs lie, if they are there."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real image pairs and the original's outputs; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of real data beside the checkout: {SHARED.name}/")
    return SHARED
