"""Errors of files and of weights: known numbers, and what is written of them."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_sets import write_chairs, write_sintel

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.data.formats.io import read_flow, write_flo
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.evaluation.evaluator import evaluate

SCENES = ("data=synthetic", "data.crop=[32,48]", "data.val_size=4", "xla=false", "pictures=0")


@pytest.fixture
def kitti(shared: Path) -> list[str]:
    """Overrides that choose the one real pair of KITTI."""
    return ["data=kitti", f"data.root={shared}/data/kitti2012", "data.truth=noc"]


@pytest.fixture(scope="module")
def run(configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with one checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    small = ("model.estimator_channels=[8,8]", "data.crop=[32,48]")  # unlike any choice in conf/
    config = configure("train", "model=tiny", *small)
    keras.utils.set_random_seed(4)
    state = checkpoints.named_state(build_model(config.model, config.precision))
    checkpoints.save(folder / "checkpoints", step=3, state=state, metrics={}, fingerprint={})
    (folder / CONFIG_FILE).write_text(to_yaml(config))
    return folder


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lucas_kanade_has_its_known_errors(
    kitti: list[str],
    shared: Path,
    configure: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictions = f"predictions={shared}/data/kitti2012/results"
    aepe = evaluate(configure("evaluate", *kitti, predictions, f"out={tmp_path}"))
    assert aepe == pytest.approx(10.6271, abs=5e-5)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["aepe"] == metrics["aepe_per_image"] == aepe
    assert metrics["outlier_3px"] == pytest.approx(78.560, abs=5e-4)
    assert 0 < metrics["fl_all"] <= metrics["outlier_3px"]
    assert (metrics["valid_pixels"], metrics["samples"]) == (104_330, 1)
    assert (metrics["estimate"], metrics["data"]) == (predictions.partition("=")[2], "kitti")
    assert metrics["digest"]
    assert metrics["fl_fg"] is None  # KITTI 2012 tells no objects
    (row,) = rows_of(tmp_path)
    assert list(row)[:5] == ["id", "dataset", "scene", "aepe", "aepe_per_image"]
    assert (row["id"], row["dataset"], row["valid_pixels"]) == ("000045_10", "kitti", "104330")
    assert (row["fl_fg"], row["pixels_fg"]) == ("", "0")
    assert float(row["aepe"]) == aepe
    printed = capsys.readouterr().out
    for text in ("10.6271 px", " %", "104,330 in 1 samples", "samples.csv", "report.html"):
        assert text in printed


def test_a_sample_that_cannot_be_read_is_left_out_of_the_means_if_it_may_be(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    root = write_chairs(tmp_path / "chairs", 4)
    (tmp_path / "guess").mkdir()
    for number in range(1, 5):
        flow = read_flow(root / f"data/{number:05d}_flow.flo")[0]
        write_flo(tmp_path / f"guess/{number:05d}.flo", flow + np.array([3, 4], np.float32))
    (root / "data/00002_img1.ppm").write_bytes(b"P6")
    (tmp_path / "guess/00002.flo").unlink()
    guess = (f"predictions={tmp_path}/guess", "pictures=0")
    chairs = ("data=flyingchairs", f"data.root={root}", *guess)
    out = tmp_path / "out"
    with pytest.raises(MissingInputError, match="00002.flo"):
        evaluate(configure("evaluate", *chairs, f"out={out}"))
    shutil.copy(tmp_path / "guess/00001.flo", tmp_path / "guess/00002.flo")
    with pytest.raises(DataError, match="00002_img1.ppm"):
        evaluate(configure("evaluate", *chairs, f"out={out}"))
    found = evaluate(configure("evaluate", *chairs, f"out={out}", "data.on_bad=skip"))
    assert found == pytest.approx(5)
    assert (out / "quarantine.txt").read_text().startswith("00002\t")
    (tmp_path / "guess/00002.flo").unlink()
    listed = f"data.quarantine={out}/quarantine.txt"
    assert evaluate(configure("evaluate", *chairs, f"out={out}", listed)) == pytest.approx(5)


def test_a_run_has_the_errors_of_its_weights_in_its_model(
    run: Path, configure: Callable[..., Any], tmp_path: Path
) -> None:
    model = ("model=tiny", "model.estimator_channels=[8,8]")
    weights = run / "checkpoints/step-00000003" / checkpoints.STATE_FILE
    by_run = evaluate(configure("evaluate", *SCENES, f"run={run}", f"out={tmp_path}/run"))
    by_weights = evaluate(
        configure("evaluate", *model, *SCENES, f"weights={weights}", f"out={tmp_path}/weights")
    )
    assert by_run == by_weights > 0
    about = json.loads((tmp_path / "run/metrics.json").read_text())
    assert about["estimate"] == str(weights.parent)


def test_the_size_of_batches_does_not_change_the_errors(
    run: Path, configure: Callable[..., Any], tmp_path: Path
) -> None:
    for batch_size in (1, 3):  # 3 + 1 samples
        choices = (f"run={run}", f"batch_size={batch_size}", f"out={tmp_path}/{batch_size}")
        evaluate(configure("evaluate", *SCENES, *choices))
    alone, together = (rows_of(tmp_path / name) for name in "13")
    assert [row["id"] for row in alone] == [f"{number:06d}" for number in range(4)]
    assert alone[0]["aepe"] != alone[1]["aepe"]
    texts = ("id", "dataset", "scene")
    for one, other in zip(alone, together, strict=True):
        assert [one.pop(name) for name in texts] == [other.pop(name) for name in texts]
        expected = {name: float(value or "nan") for name, value in one.items()}
        received = {name: float(value or "nan") for name, value in other.items()}
        assert received == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_zero_flow_is_off_by_the_true_motion(
    configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_chairs(tmp_path / "chairs", 2)
    speeds = [
        np.linalg.norm(read_flow(root / f"data/{number:05d}_flow.flo")[0], axis=-1)
        for number in (1, 2)
    ]
    zero = ("estimate=zero", f"out={tmp_path}/out", "pictures=1")
    chairs = ("data=flyingchairs", f"data.root={root}", *zero)
    assert evaluate(configure("evaluate", *chairs)) == pytest.approx(np.mean(speeds))
    assert "zero-flow baseline on flyingchairs" in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"metrics.json", "samples.csv", "report.html"}  # nothing goes to MLflow


def test_one_command_evaluates_several_data_sets_with_a_row_for_each_and_for_its_sequences(
    configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_chairs(tmp_path / "chairs", 2)
    write_sintel(tmp_path / "film", 2)
    parts = "[{name:flyingchairs,root:chairs},{name:sintel,root:film,render_pass:both}]"
    mix = ("data=mix", f"data.root={tmp_path}", f"data.parts={parts}", "estimate=zero")
    evaluate(configure("evaluate", *mix, f"out={tmp_path}/out", "dialect=raft"))
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(found["datasets"]) == ["flyingchairs", "sintel"]
    rows = rows_of(tmp_path / "out")
    pixels = sum(int(row["valid_pixels"]) for row in rows)
    pooled = sum(float(row["aepe"]) * int(row["valid_pixels"]) for row in rows) / pixels
    assert found["aepe"] == pytest.approx(pooled)
    for name in ("flyingchairs", "sintel"):
        own = [float(row["aepe"]) for row in rows if row["dataset"] == name]
        assert found["datasets"][name]["aepe_per_image"] == pytest.approx(np.mean(own))
    assert list(found["sequences"]) == ["sintel"]  # a pair of FlyingChairs is its own scene
    assert set(found["sequences"]["sintel"]) == {row["scene"] for row in rows[2:]}
    assert set(found["dialects"]["sintel"]["raft"]) == {"EPE", "1px", "3px", "5px"}
    printed = capsys.readouterr().out
    assert "zero-flow baseline on 2 data sets" in printed
    for name in ("flyingchairs", "sintel", *found["sequences"]["sintel"]):
        assert f"  {name} " in printed


def test_several_estimates_make_one_table_and_a_folder_each(
    run: Path, configure: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("a", 2), ("b", 3)):
        write_chairs(tmp_path / name, count)
    write_sintel(tmp_path / "film", 2)
    parts = "{name:flyingchairs,root:a,label:chairs},{name:flyingchairs,root:b,label:chairs}"
    data = (
        "data=mix",
        f"data.root={tmp_path}",
        f"data.parts=[{parts},{{name:sintel,root:film,label:film}}]",
    )
    rows = (f"run=[{run},{run}]", f"out={tmp_path}/out", "pictures=0", "xla=false")
    returned = evaluate(configure("evaluate", *data, *rows, "estimate=[zero]"))
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert table[0] == ["", "chairs", "film", "s per pair"]
    assert [row[0] for row in table[2:]] == ["pairs", "zero", "train-1", "train-2"]
    assert table[2][1:] == ["5", "2", ""]
    for row in table[3:]:
        metrics = json.loads((tmp_path / f"out/{row[0]}/metrics.json").read_text())
        means = [metrics["datasets"][name]["aepe_per_image"] for name in ("chairs", "film")]
        assert [float(cell) for cell in row[1:3]] == pytest.approx(means, abs=5e-4)
        assert float(row[-1]) >= 0  # seconds
    assert len({row["id"] for row in rows_of(tmp_path / "out/zero")}) == 7
    assert returned == json.loads((tmp_path / "out/zero/metrics.json").read_text())["aepe"]
    assert printed.startswith((tmp_path / "out/table.md").read_text())


def test_the_report_is_one_file_that_needs_no_other(
    run: Path, configure: Callable[..., Any], tmp_path: Path
) -> None:
    chairs = ("data=flyingchairs", f"data.root={write_chairs(tmp_path / 'chairs', 3)}")
    choices = (f"run={run}", f"out={tmp_path}", "pictures=1", "xla=false")
    evaluate(configure("evaluate", *chairs, *choices))
    page = (tmp_path / "report.html").read_text()
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]{0,30})""", page)
    assert links and all(link.startswith(("data:image/", "#")) for link in links)
    assert "<script" not in page
    for text in ("Pyramid of one sample", "Worst samples", "Best samples", str(run), "sha256"):
        assert text in page
    assert page.count('class="sample"') == 2
    assert not re.search(r">\s*nan", page, re.IGNORECASE)


def test_an_evaluation_that_is_followed_is_a_run_of_its_own(
    configure: Callable[..., Any], root: Path
) -> None:
    chairs = ("data=flyingchairs", f"data.root={write_chairs(root / 'chairs', 2)}")
    follow = ("tracking=local", "tracking.tensorboard=false", "pictures=1")
    evaluate(configure("evaluate", *chairs, "estimate=zero", "out=followed", *follow))
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/outputs/mlflow/mlflow.db")
    ledger = json.loads((root / "followed/mlflow.json").read_text())
    metrics = json.loads((root / "followed/metrics.json").read_text())
    found = client.get_run(ledger["run_id"])
    assert found.info.status == "FINISHED"
    assert found.data.metrics["eval/aepe"] == metrics["aepe"]
    names = {item.path for item in client.list_artifacts(ledger["run_id"])}
    assert {"report.html", "samples.csv", "metrics.json", "images"} <= names
