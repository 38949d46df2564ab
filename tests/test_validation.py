"""Validation on other data sets while training: what is asked for, measured, logged and kept."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from small_runs import SMALLEST, points
from small_sets import write_sintel

from pwc_exp import checkpoints
from pwc_exp.cli import check_places
from pwc_exp.config.composition import resume
from pwc_exp.config.data import KittiConfig, RenderPass, SintelConfig, Split
from pwc_exp.config.schema import BEST_KEY, CONFIG_FILE, load, to_yaml
from pwc_exp.config.training import TrainConfig
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.sample import Source
from pwc_exp.errors import ConfigError, MissingInputError
from pwc_exp.flow.metrics import COUNT, SUMS
from pwc_exp.tracking import journal
from pwc_exp.training import validation
from pwc_exp.training.devices import Replicas
from pwc_exp.training.loop import build_sources, train
from pwc_exp.training.state import RunState
from pwc_exp.training.validation import Errors, Validation, geometric_mean

Configure = Callable[..., Any]

SMALL = (*SMALLEST, "data.val_size=2", "picture_samples=1", "tracking.mlflow=false")
ROOT = "validation_root=/sets"
FINAL = "{name:sintel,render_pass:final,as:sintel_final}"


def configured(configure: Configure, *overrides: str) -> TrainConfig:
    config: TrainConfig = configure("train", *overrides)
    return config


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A folder with a small Sintel, and a Middlebury whose frames are of other sizes."""
    write_sintel(tmp_path / "sets/MPI-Sintel", 3)
    rng = np.random.default_rng(0)
    for name, (height, width) in {"Urban2": (40, 56), "Venus": (72, 100)}.items():
        frames = tmp_path / f"sets/Middlebury/other-data/{name}"
        truth = tmp_path / f"sets/Middlebury/other-gt-flow/{name}"
        for folder in (frames, truth):
            folder.mkdir(parents=True)
        for number in (10, 11):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            write_image(frames / f"frame{number}.png", pixels)
        write_flo(truth / "flow10.flo", rng.normal(size=(height, width, 2)).astype(np.float32))
    return tmp_path / "sets"


@pytest.fixture
def run(configure: Configure, tmp_path: Path, sets: Path) -> Callable[..., Path]:
    """(*overrides) -> the folder of a run that has ended."""
    numbers = itertools.count()

    def started(*overrides: str) -> Path:
        folder = tmp_path / f"train/{next(numbers)}"
        places = (f"validation_root={sets}", f"outputs={tmp_path}")
        train(configured(configure, *SMALL, *places, *overrides), folder)
        return folder

    return started


# What can be asked for.


def test_a_name_stands_for_the_usual_folder_of_the_data_set(configure: Configure) -> None:
    config = configured(configure, "validation=[sintel,kitti:kitti2012,synthetic]", ROOT)
    sintel, kitti, synthetic = config.validation_sets()
    assert (sintel.prefix, kitti.prefix) == ("val/sintel", "val/kitti")
    assert isinstance(sintel.data, SintelConfig) and isinstance(kitti.data, KittiConfig)
    assert (sintel.data.root, kitti.data.root) == ("/sets/MPI-Sintel", "/sets/kitti2012")
    assert {each.split for each in (sintel, kitti, synthetic)} == {Split.all}


def test_a_set_has_the_settings_of_its_data_set_and_a_name_in_metrics(
    configure: Configure,
) -> None:
    entries = f"validation=[sintel,{FINAL},{{name:kitti,root:/k,split:val,val_share:0.5,as:k}}]"
    clean, final, kitti = configured(configure, entries, ROOT).validation_sets()
    assert (clean.prefix, final.prefix, kitti.prefix) == ("val/sintel", "val/sintel_final", "val/k")
    assert isinstance(final.data, SintelConfig) and isinstance(kitti.data, KittiConfig)
    assert final.data.render_pass is RenderPass.final
    assert (kitti.data.root, kitti.data.val_share, kitti.split) == ("/k", 0.5, Split.val)


def test_a_validation_that_was_saved_is_read_back(configure: Configure, tmp_path: Path) -> None:
    entries = f"validation=[sintel,{FINAL}]"
    config = configured(configure, entries, ROOT, "best_metric=val/mean/aepe", "val_split=false")
    (tmp_path / CONFIG_FILE).write_text(to_yaml(config))
    assert load(tmp_path / CONFIG_FILE) == config


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["validation=[sintl]", ROOT], r"validation\[0\].name .*\(did you mean 'sintel'\?\)"),
        (["validation=[mix]", ROOT], r"validation\[0\].name must be one of"),
        (["validation=[sintel]"], r"sintel needs its root.*sintel:<root>.*folder with MPI-Sintel"),
        (["validation=[csv]", ROOT], "csv needs its root"),
        (["validation=[{name:sintel,pass:final}]", ROOT], r"validation\[0\]: .*pass"),
        (["validation=[{name:sintel,split:test}]", ROOT], "split must be one of train, val, all"),
        (["validation=[{name:sintel,as:a/b}]", ROOT], "must be letters"),
        (["validation=[sintel,sintel]", ROOT], r"validation\[1\] needs a unique name"),
        (["validation=[{name:sintel,as:mean}]", ROOT], "needs a unique name"),
        (["validation=[{name:sintel,as:aepe}]", ROOT], "needs a unique name"),
        (
            [
                "validation=[sintel]",
                ROOT,
                "data=mix",
                "data.root=/a",
                "data.parts=[{name:sintel,root:b}]",
            ],
            "needs a unique name",
        ),
        (["val_split=false"], "val_split must be true without validation sets"),
        (["validation=[sintel]", ROOT, "val_split=false"], "best_metric must be one of val/sintel"),
        (["best_metric=val/sintel/aepe"], "best_metric must be one of val/aepe"),
        (
            ["validation=[sintel]", ROOT, "best_metric=val/sintl/aepe"],
            "did you mean 'val/sintel/aepe'",
        ),
        (["validation=[sintel]", ROOT, "best_metric=val/mean/aepe"], "best_metric must be one of"),
    ],
)
def test_what_cannot_be_validated_on_is_refused(
    overrides: list[str], line: str, configure: Configure
) -> None:
    with pytest.raises(ConfigError, match=line):
        configured(configure, *overrides)


def test_a_root_that_is_not_there_is_refused_by_name(configure: Configure, tmp_path: Path) -> None:
    config = configured(configure, "validation=[sintel]", f"validation_root={tmp_path}")
    with pytest.raises(MissingInputError, match=f"root of val/sintel: {tmp_path}/MPI-Sintel"):
        check_places(config, tmp_path / "run")


def test_a_run_that_goes_on_keeps_its_sets_and_may_add_one(
    configure: Configure, tmp_path: Path
) -> None:
    folder = tmp_path / "train/first"
    folder.mkdir(parents=True)
    config = configured(configure, "validation=[sintel,middlebury]", ROOT, f"outputs={tmp_path}")
    (folder / CONFIG_FILE).write_text(to_yaml(config))
    chosen = resume([f"resume={folder}", "best_metric=val/middlebury/aepe"])
    assert chosen is not None
    assert chosen.config.validation == ["sintel", "middlebury"]
    assert chosen.config.best_metric == "val/middlebury/aepe"
    more = resume([f"resume={folder}", "validation=[sintel,middlebury,kitti]"])
    assert more is not None
    assert [each.prefix for each in more.config.validation_sets()][2] == "val/kitti"


# What is measured.


def test_each_size_of_frames_is_traced_once_in_any_number_of_evaluations(
    configure: Configure, sets: Path
) -> None:
    chosen = ("validation=[sintel,middlebury]", f"validation_root={sets}", "eval_samples=2")
    config = configured(configure, *SMALL, *chosen)
    sources = build_sources(config)
    state = RunState(config, sources.train, sets, Replicas(tf.distribute.get_strategy()))
    made = Validation(state, sources, None)
    first = made.run(0)
    assert made._eval_step.experimental_get_tracing_count() == 4  # type: ignore[attr-defined]
    assert made.run(1) == first
    assert made._eval_step.experimental_get_tracing_count() == 4  # type: ignore[attr-defined]


def test_the_mean_counts_ratios() -> None:
    assert geometric_mean([1.0, 100.0]) == pytest.approx(10.0)
    assert geometric_mean([0.0, 3.0]) == 0.0
    assert math.isnan(geometric_mean([1.0, math.nan]))


def test_a_run_logs_every_set_in_one_line_of_its_journal(
    run: Callable[..., Path], sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(f"validation=[sintel,{FINAL},middlebury]", "steps=2", "eval_every=1")
    lines = [p for p in journal.read(folder / "metrics.jsonl") if BEST_KEY in p.values]
    names = ("sintel", "sintel_final", "middlebury")
    assert [line.step for line in lines] == [0, 1, 2]
    for line in lines:
        errors = [line.values[f"val/{name}/aepe"] for name in names]
        assert line.values["val/mean/aepe"] == pytest.approx(geometric_mean(errors))
        for name in names:
            metrics = ("aepe_per_image", "fl_all", "outlier_3px", "aepe_lower", "aepe_upper")
            assert all(math.isfinite(line.values[f"val/{name}/{metric}"]) for metric in metrics)
        # Both passes hold the same frames.
        assert line.values["val/sintel/aepe"] == line.values["val/sintel_final/aepe"]
        assert line.values["val/sintel/aepe"] != line.values[BEST_KEY]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    shown = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    pictured = ("val/sintel/scene_0/frame_0001", "val/middlebury/Urban2", "val/000000")
    for tag in (*pictured, *(f"val/{name}/aepe" for name in names)):
        assert shown[tag] == [0, 1, 2], tag

    output = capsys.readouterr().out
    assert f"val/sintel: 3 samples of sintel in {sets}/MPI-Sintel" in output
    value = lines[-1].values["val/middlebury/aepe"]
    assert f"val/middlebury/aepe {value:.3f} px" in output
    assert "synthetic          sintel    sintel_final      middlebury" in output


def chosen_errors(monkeypatch: pytest.MonkeyPatch, **values: list[float]) -> None:
    """Has the evaluations of a source, by its name, find these AEPE one after the other."""
    left = {name: iter([0.0, *found]) for name, found in values.items()}  # first, zero flow

    def found(*given: Any, **_: Any) -> Errors:
        source: Source = given[2]
        aepe = next(left[source.name])
        row = {**dict.fromkeys(SUMS, aepe), COUNT: 1.0}
        return Errors(
            dict.fromkeys(("aepe", "aepe_per_image", "fl_all", "outlier_3px"), aepe), [row], ["a"]
        )

    monkeypatch.setattr(validation, "errors_of", found)


@pytest.mark.parametrize(
    ("metric", "best"),
    [("val/aepe", 3), ("val/sintel/aepe", 1), ("val/mean/aepe", 2)],
)
def test_the_checkpoint_that_is_kept_is_the_best_of_the_chosen_metric(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, metric: str, best: int
) -> None:
    chosen_errors(
        monkeypatch,
        synthetic=[9, 9, 9, 1, 9, 9],
        sintel=[9, 1, 2, 9, 9, 9],
        middlebury=[9, 9, 1, 9, 9, 9],
    )
    steps = ("steps=5", "eval_every=1", "keep_best=1", "picture_samples=0")
    folder = run("validation=[sintel,middlebury]", f"best_metric={metric}", *steps)
    kept = [checkpoints.load(p).step for p in checkpoints.list_checkpoints(folder / "checkpoints")]
    assert kept == [best, 4, 5]


def test_held_out_samples_can_be_left_out(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("val_split=false", "best_metric=val/sintel/aepe", "picture_samples=0")
    folder = run("validation=[sintel]", *chosen, "steps=1")
    assert list(points(folder, "val/sintel/aepe")) == [0, 1]
    assert not points(folder, BEST_KEY)
    assert not points(folder, "val/mean/aepe")
    assert "best checkpoint by val/sintel/aepe" in capsys.readouterr().out
