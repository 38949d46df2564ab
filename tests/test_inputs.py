"""Runs by `latest` and by folder; words of other frameworks; packages that are missing."""

import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pwc_exp import cli, machine
from pwc_exp.cli import check_places, newest_run
from pwc_exp.config.schema import CONFIG_FILE
from pwc_exp.errors import ConfigError, MissingExtraError, MissingInputError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two runs of different names, oldest first, below outputs/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    found = []
    for age, name in ((100, "b/2026-01-01_00-00-00"), (50, "a/2026-01-02_00-00-00/0_seed=1")):
        file = Path("outputs", name, CONFIG_FILE)
        file.parent.mkdir(parents=True)
        file.write_text("")
        os.utime(file, (file.stat().st_mtime - age,) * 2)
        found.append(file.parent)
    return found


def test_latest_is_the_newest_run_of_all(runs: list[Path]) -> None:
    assert newest_run("latest") == runs[1]
    assert cli._spelt_out("run=latest") == f"run='{runs[1]}'"


def test_a_folder_of_runs_means_its_newest_run_and_a_run_itself(runs: list[Path]) -> None:
    assert newest_run("outputs/b") == runs[0]
    assert newest_run(str(runs[0])) is None
    assert newest_run("nowhere") is None


def test_latest_without_any_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match="latest: there is no run in outputs/"):
        newest_run("latest")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr: unknown key; the learning rate is schedule.peak"),
        ("lr=1", "the learning rate is schedule.peak"),
        ("epochs=3", "there are no epochs"),
        ("trainer.max_epochs=1", "trainer: unknown key; steps"),
        ("batch=3", "batch_size"),
        ("gpus=2", r"devices\.gpus=\[0,1\]"),
        ("precision=16", "precision: unknown choice '16', not one of bf16, fp16, fp32"),
        ("devices=gpu", "devices: has settings of its own"),
    ],
)
def test_words_of_other_frameworks_get_the_right_hint(
    configure: Callable[..., Any], override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configure("train", override)


@pytest.mark.parametrize(
    "flags", [["--config-name=evaluate"], ["-cn", "evaluate"], ["-m", "--cfg", "job"]]
)
def test_flags_that_would_change_the_command_are_refused(flags: list[str]) -> None:
    with pytest.raises(ConfigError, match="refused|shows one job"):
        cli._check_arguments("train", flags)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("cv2", ["evaluate", "estimate=[dis]", "data=synthetic"]),
        ("onnx", ["export", "out=o", "weights=w", "model=tiny", "formats=[onnx]"]),
    ],
)
def test_a_missing_package_is_named_before_work_starts(
    package: str,
    arguments: list[str],
    configure: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w").touch()
    config = configure(*arguments)
    monkeypatch.setitem(sys.modules, package, None)
    distribution = {"cv2": "opencv-python-headless"}.get(package, package)
    line = f"{package} is not installed: pip install '?{distribution}"
    with pytest.raises(MissingExtraError, match=line):
        check_places(config, Path())


def test_export_without_formats_needs_no_package(
    configure: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w").touch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    check_places(configure("export", "out=o", "weights=w", "model=tiny"), Path())


def test_a_checkout_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert machine.install_command("opencv") == "pip install -e '.[opencv]'"
