"""The notebooks run from top to bottom, in their order, and are stored with what they show."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_they_are_stored_with_the_results_of_one_run() -> None:
    assert len(NOTEBOOKS) == 4
    pictures = 0
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), path
        outputs = [output for cell in code for output in cell.outputs]
        assert all(output.output_type != "error" for output in outputs), path
        pictures += sum("image/png" in output.get("data", {}) for output in outputs)
        assert path.stat().st_size < 1_000_000, path
    assert pictures >= 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where they run: what one writes, the next one reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPS", "4")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, folder: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    book = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")
