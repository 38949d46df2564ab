"""An installed package finds the same configurations as a checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pwc_exp.config import composition
from pwc_exp.config.composition import data_dir

ROOT = Path(__file__).parents[1]
INSTALLED = ("conf", "experiments")


def files(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
    assert found, f"no files in {folder}"
    return found


@pytest.mark.parametrize("name", INSTALLED)
def test_a_checkout_uses_its_own_files(name: str) -> None:
    assert data_dir(name) == ROOT / name
    assert files(data_dir(name))


@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_package_uses_the_files_inside_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "PACKAGE", tmp_path)
    (tmp_path / "_data" / name).mkdir(parents=True)
    assert data_dir(name) == tmp_path / "_data" / name


def test_the_wheel_holds_every_configuration_and_composes_them(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", tmp_path], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in INSTALLED:
        assert files(site / "pwc_exp" / "_data" / name) == files(ROOT / name)
    templates = {path.name for path in (site / "pwc_exp/report/templates").iterdir()}
    assert templates == {path.name for path in (ROOT / "pwc_exp/report/templates").iterdir()}
    weights = {path.name for path in (ROOT / "pwc_exp/pretrained").glob("*.[sy]*")}
    assert weights == {path.name for path in (site / "pwc_exp/pretrained").glob("*.[sy]*")} != set()
    program = (
        "from pwc_exp.config import composition as c; c.register();"
        "print(c.compose_command('train', ['experiment=quickstart']).values.name, c.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    composition_file = site / "pwc_exp" / "config" / "composition.py"
    assert done.stdout.split() == ["quickstart", str(composition_file)]
