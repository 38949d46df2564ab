"""Comparisons of evaluations and runs: what differs, on the samples that both have."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp import cli
from pwc_exp.config.commands import BootstrapConfig
from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.errors import ConfigError, DataError, MissingInputError
from pwc_exp.evaluation import GroundTruth, means, score
from pwc_exp.evaluation.compare import compare
from pwc_exp.evaluation.protocols import GroundTruthKind
from pwc_exp.evaluation.records import (
    METRICS_FILE,
    SAMPLES_FILE,
    SampleScore,
    Summary,
    as_csv,
    as_json,
    read,
    summarize,
)
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Point


def summary(errors: dict[str, float]) -> Summary:
    """Of frames of 2 x 3 pixels, by id, off by so much; the part of an id before / is its scene."""
    truth = np.zeros((2, 3, 2))
    truth[:, 1:, 0] = 12
    rows = [
        SampleScore(
            number,
            name,
            "sintel",
            name.partition("/")[0],
            score(truth + error * np.array([0, 1]), GroundTruth(truth, np.ones((2, 3)))),
        )
        for number, (name, error) in enumerate(errors.items())
    ]
    return summarize(
        rows,
        kinds={"sintel": GroundTruthKind(sparse=False)},
        protocols=[],
        bootstrap=BootstrapConfig(draws=50),
    )


def write_evaluation(folder: Path, errors: dict[str, float], **about: str) -> str:
    folder.mkdir()
    found = summary(errors)
    (folder / METRICS_FILE).write_text(as_json(found, about, {}))
    (folder / SAMPLES_FILE).write_text(as_csv(found.rows))
    return str(folder)


def write_run(configure: Callable[..., Any], folder: Path, name: str, aepe: float) -> str:
    folder.mkdir()
    config = configure("train", "model=tiny", "data.crop=[32,48]", f"name={name}")
    (folder / CONFIG_FILE).write_text(to_yaml(config))
    for step in (100, 200):
        errors = {"val/aepe": aepe / step, "val/sintel/aepe": 2 * aepe / step}
        values = {**errors, "train/loss": 1 / step}
        journal.append(folder / journal.FILE, Point(step, 0, values))
    return str(folder)


def run(configure: Callable[..., Any], out: Path, *folders: str) -> str:
    compare(configure("compare", f"runs=[{','.join(folders)}]", f"out={out}"))
    return out.read_text()


def test_what_is_written_of_an_evaluation_is_read_back_as_its_sums(tmp_path: Path) -> None:
    errors = {"a/1": 1.25, "a/2": 4.0, "b/1": 0.0}
    folder = write_evaluation(tmp_path / "one", errors, estimate="mine")
    found = read(Path(folder))
    assert list(found.rows) == list(errors)
    assert found.settings["evaluation.estimate"] == "mine"
    rows = [row.sums for row in found.rows.values()]
    assert means(rows) == pytest.approx(summary(errors).whole.means, nan_ok=True)


def test_differences_are_of_the_samples_that_both_have(
    configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_evaluation(
        tmp_path / "one", {"a/1": 4, "b/1": 6, "c/1": 9}, estimate="x", data="sintel"
    )
    two = write_evaluation(tmp_path / "two", {"b/1": 3, "a/1": 2}, estimate="y", data="sintel")
    page = run(configure, tmp_path / "compare.html", one, two)
    printed = capsys.readouterr().out
    assert "two minus one, 2 samples: better in 2, worse in 0" in printed
    values = re.search(r"aepe +(\S+) +(\S+) +(\S+)", printed)
    assert values is not None and values.groups() == ("5.0000", "2.5000", "-2.5000")
    assert re.search(r"evaluation.estimate +\[1\] x +\[2\] y", printed)
    assert "evaluation.data" not in printed  # it is the same
    assert re.search(r"sintel/b +\[1\] 6.0000 +\[2\] 3.0000", printed)
    assert "1 of one" in page


def test_the_page_needs_no_other_file_and_shows_all_runs(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    folders = [
        write_evaluation(tmp_path / name, {"a/1": error, "b/1": error + 1}, estimate=f"<{name}>")
        for name, error in (("one", 4.0), ("two", 2.0), ("three", 5.0))
    ]
    page = run(configure, tmp_path / "compare.html", *folders)
    assert not re.findall(r"""(?:src|href)\s*=\s*"(?!#)|url\((?!#)|<script|https?:""", page)
    for text in ("one", "two", "three", "Holm", "Error against motion", "&lt;two&gt;"):
        assert text in page
    assert "<two>" not in page


def test_training_runs_differ_by_their_settings_and_curves(
    configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        write_run(configure, tmp_path / name, name, aepe)
        for name, aepe in (("slow", 800.0), ("fast", 400.0))
    ]
    page = run(configure, tmp_path / "compare.html", *runs)
    printed = capsys.readouterr().out
    assert re.search(r"name +\[1\] slow +\[2\] fast", printed)
    assert "model.levels" not in printed
    assert re.search(r"last val/aepe +\[1\] 4 +\[2\] 2\n", printed)
    assert "fewer than two evaluations" in printed
    assert re.search(r"last val/sintel/aepe +\[1\] 8 +\[2\] 4\n", printed)
    assert page.count("<svg") == 3 and page.count('aria-label="val/aepe"') == 1


def test_an_evaluation_has_the_settings_and_curves_of_its_run(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    of_run = write_run(configure, tmp_path / "run", "mine", 5.0)
    found = read(Path(write_evaluation(tmp_path / "one", {"a/1": 4}, run=of_run)))
    assert found.settings["name"] == "mine"
    assert found.curves["val/aepe"] == [(100, 0.05), (200, 0.025)]


def test_what_cannot_be_compared_is_refused_in_one_line(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    one = write_evaluation(tmp_path / "one", {"a/1": 4})
    other = write_evaluation(tmp_path / "other", {"z/1": 4})
    with pytest.raises(DataError, match="one, other have no sample in common"):
        run(configure, tmp_path / "page.html", one, other)
    with pytest.raises(MissingInputError, match="must be a training run .* or an evaluation"):
        run(configure, tmp_path / "page.html", one, str(tmp_path))
    with pytest.raises(ConfigError, match="runs must name at least two folders"):
        run(configure, tmp_path / "page.html", one)
    (tmp_path / "other" / SAMPLES_FILE).write_text("id,aepe\na/1,4\n")
    with pytest.raises(DataError, match="samples.csv:2: not a sample"):
        run(configure, tmp_path / "page.html", one, other)
    (tmp_path / "other" / METRICS_FILE).write_text("{")
    with pytest.raises(DataError, match="metrics.json: not the metrics"):
        run(configure, tmp_path / "page.html", one, other)
    assert not (tmp_path / "page.html").exists()


def test_paths_without_a_key_are_the_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "a b", "out=x.html", "--help", "c"])
    cli.name_paths("runs")
    assert sys.argv == ["compare", "runs=['a b','c']", "out=x.html", "--help"]


def test_it_needs_no_tensorflow(tmp_path: Path) -> None:
    folders = [write_evaluation(tmp_path / name, {"a/1": 4, "b/1": 3}) for name in ("one", "two")]
    code = (
        "import sys; from pwc_exp.compare import main; main();"
        "assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", code, *folders, f"out={tmp_path}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "one" / METRICS_FILE).read_text())["samples"] == 2
