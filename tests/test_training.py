"""A run: what it leaves behind, that it can be repeated, and what ends it."""

import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from small_runs import SMALLEST, points
from small_sets import write_chairs, write_things_halfres

from pwc_exp import checkpoints
from pwc_exp.config.schema import BEST_KEY, CONFIG_FILE, load
from pwc_exp.config.training import TrainConfig
from pwc_exp.data.sample import Batch
from pwc_exp.errors import DataError, OutputError
from pwc_exp.evaluation.evaluator import evaluate
from pwc_exp.flow.metrics import COUNT, SUMS, mean_of_sums
from pwc_exp.tracking import journal
from pwc_exp.training.health import Guard
from pwc_exp.training.loop import train
from pwc_exp.training.validation import Errors

Train = Callable[..., Path]


@pytest.fixture
def run(configure: Callable[..., Any], tmp_path: Path) -> Train:
    """(*overrides) -> the folder of a run that has ended."""
    numbers = itertools.count()

    def started(*overrides: str) -> Path:
        folder = tmp_path / f"train/{next(numbers)}"
        outputs = f"outputs={tmp_path}"
        generated = not any(override.startswith("data=") for override in overrides)
        scenes = ("data.val_size=2",) if generated else ()
        train(configure("train", *SMALLEST, *scenes, "tracking=off", outputs, *overrides), folder)
        return folder

    return started


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def saved(folder: Path) -> list[int]:
    return [
        checkpoints.load(path).step for path in checkpoints.list_checkpoints(folder / "checkpoints")
    ]


def pictures(folder: Path) -> set[tuple[str, int]]:
    """(name, step) of the pictures in the event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if "/0" in tag]
    return {(tag, event.step) for tag in tags for event in events.Tensors(tag)}


def test_a_run_leaves_its_configuration_curves_checkpoints_and_pictures(
    configure: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "train/first"
    steps = ("steps=5", "log_every=2", "eval_every=2", "save_every=3", "keep_best=1")
    shown = ("picture_samples=1", "eval_samples=2", f"outputs={tmp_path}")
    config: TrainConfig = configure("train", *SMALLEST, "data.val_size=2", *steps, *shown)
    end = train(config, folder)

    assert load(folder / CONFIG_FILE) == config
    losses, errors = points(folder, "train/loss"), points(folder, BEST_KEY)
    assert (list(losses), list(errors)) == ([2, 4, 5], [0, 2, 4, 5])
    assert errors[5] == end
    assert all(map(math.isfinite, [*losses.values(), *errors.values()]))
    assert set(journal.read(folder / "metrics.jsonl")[1].values) == {
        "train/loss",
        "train/flow_loss",
        "train/aepe",
        "train/valid",
        "train/skipped",
        "train/grad_norm",
        "train/lr",
        "time/steps_per_second",
        "time/samples_per_second",
        "time/data_wait",
    }
    best = min((2, 4, 5), key=lambda step: errors[step])
    assert saved(folder) == sorted({best, 4, 5})  # the newest two
    manifest = checkpoints.load(folder / "checkpoints/step-00000005").manifest
    assert manifest.metrics[BEST_KEY] == end
    assert manifest.fingerprint
    assert pictures(folder) == {("val/000000", step) for step in (0, 2, 4, 5)}

    place = json.loads((folder / "mlflow.json").read_text())
    assert place["uri"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    client = mlflow.MlflowClient(place["uri"])
    tracked = client.get_run(place["run_id"])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["model.search_range"] == "1"
    assert tracked.data.params["data.crop"] == "[32, 48]"
    history = client.get_metric_history(place["run_id"], BEST_KEY)
    assert {metric.step: metric.value for metric in history} == errors
    assert tracked.inputs is not None
    assert {used.dataset.name for used in tracked.inputs.dataset_inputs} == {"synthetic"}
    listed = client.list_artifacts(place["run_id"])
    assert {CONFIG_FILE, "checkpoints", "images"} <= {item.path for item in listed}
    kept = client.download_artifacts(place["run_id"], "checkpoints", str(tmp_path))
    assert list(Path(kept).rglob(checkpoints.STATE_FILE))

    output = capsys.readouterr().out
    assert "2 to validate; crop 32 x 48" in output
    for text in (
        "zero-flow baseline",
        "at the start",
        "now, step 5",
        f"{end:.3f} px",
        "best",
        f"python -m pwc_exp.ui outputs={tmp_path}",
    ):
        assert text in output

    # What training noted of its best weights is what evaluating them gives.
    data = ("data=synthetic", "data.crop=[32,48]", "data.val_size=2", "xla=false")
    found = evaluate(configure("evaluate", f"run={folder}", *data, f"out={tmp_path}/errors"))
    assert found == pytest.approx(errors[best], rel=1e-5)


def test_the_interval_of_an_evaluation_is_that_of_the_command(
    configure: Callable[..., Any], run: Train, tmp_path: Path
) -> None:
    folder = run("data.val_size=5", "steps=1", "log_every=1")
    data = ("data=synthetic", "data.crop=[32,48]", "data.val_size=5", "split=val", "xla=false")
    evaluate(configure("evaluate", f"run={folder}", *data, f"out={tmp_path}/errors"))
    interval = json.loads((tmp_path / "errors/metrics.json").read_text())["intervals"]["aepe"]
    noted = [points(folder, f"{BEST_KEY}_{end}")[1] for end in ("lower", "upper")]
    assert noted == pytest.approx(interval, rel=1e-5)
    assert noted[0] < points(folder, BEST_KEY)[1] < noted[1]


def test_one_sample_has_an_error_but_no_interval(run: Train) -> None:
    folder = run("eval_samples=1", "steps=1", "log_every=1")
    assert points(folder, BEST_KEY).keys() == {0, 1}
    assert not points(folder, f"{BEST_KEY}_lower")
    assert not points(folder, f"{BEST_KEY}_upper")


def test_an_error_that_is_not_finite_has_no_interval() -> None:
    rows = [{**dict.fromkeys(SUMS, error), COUNT: 1.0} for error in (2.0, 2.0, math.inf)]
    assert Errors(mean_of_sums(rows), rows, ["a", "b", "c"]).interval() == {}
    finite = Errors(mean_of_sums(rows[:2]), rows[:2], ["a", "b"])
    assert finite.interval() == {"lower": 2.0, "upper": 2.0}


def test_a_seed_says_all_about_a_run(run: Train) -> None:
    steps = ("steps=3", "log_every=1", "augment=basic")
    first, again, other = (run(*steps, f"seed={seed}") for seed in (1, 1, 2))
    assert points(first, "train/loss") == points(again, "train/loss")
    assert points(first, BEST_KEY) == points(again, BEST_KEY)
    assert points(other, BEST_KEY)[0] != points(first, BEST_KEY)[0]  # of fresh weights
    for step, loss in points(first, "train/loss").items():
        assert points(other, "train/loss")[step] != loss


def test_a_run_can_start_from_the_weights_of_another_at_step_0(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("steps=3", "log_every=1")
    monkeypatch.chdir(first.parent)  # the record holds from elsewhere too
    second = run("steps=1", "log_every=1", f"init_from={first.name}", "seed=5")
    end = points(first, BEST_KEY)[3]
    assert points(second, BEST_KEY)[0] == pytest.approx(min(points(first, BEST_KEY).values()))
    assert points(second, BEST_KEY)[0] <= end
    arrays = checkpoints.load(second / "checkpoints/step-00000001").arrays
    assert int(arrays["optimizer/adam/iteration"]) == 1  # a run of its own: nothing is continued
    about = json.loads((second / "run.json").read_text())
    assert about["init_from"].startswith(str(first / "checkpoints/step-"))
    origin = json.loads(about["init_from_origin"])
    assert origin["path"] == about["init_from"] and origin["data"] == ["synthetic"]


def test_weights_of_another_architecture_end_a_run_before_its_folder_is_made(
    run: Train, tmp_path: Path
) -> None:
    first = run("steps=1")
    with pytest.raises(DataError, match="another architecture"):
        run("steps=1", f"init_from={first}", "model.feature_channels=[4,8,16]")
    assert not (tmp_path / "train/1").exists()


def test_a_finer_level_is_added_to_a_trained_network(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = run("steps=2", "model.output_level=3")
    capsys.readouterr()
    fine = run("steps=1", f"init_from={coarse}", "init_match=overlap")
    taken = "context2 from context3, estimator2 from estimator3; fresh: "
    assert taken in capsys.readouterr().out
    assert "pyramid/conv1a/bias: from pyramid/conv1a/bias\n" in (fine / "init_from.txt").read_text()
    arrays = checkpoints.load(fine / "checkpoints/step-00000001").arrays
    assert int(arrays["optimizer/adam/iteration"]) == 1  # the optimizer starts afresh
    with pytest.raises(DataError, match="another architecture"):
        run("steps=1", f"init_from={coarse}")


@pytest.mark.slow
def test_a_gradient_clipped_to_next_to_nothing_moves_nothing(run: Train) -> None:
    chosen = ("steps=1", "optimizer=adamw", "optimizer.weight_decay=0", "schedule=constant")
    (free, still) = (run(*chosen, f"optimizer.clip_norm={norm}") for norm in ("null", "1e-12"))
    before, after = points(free, BEST_KEY).values()
    assert abs(after - before) > 1e-4
    before, after = points(still, BEST_KEY).values()
    assert after == pytest.approx(before, abs=1e-5)


def test_a_folder_belongs_to_one_run(run: Train, tmp_path: Path) -> None:
    folder = tmp_path / "train/0"
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text("of another")
    with pytest.raises(OutputError, match="must be a new folder"):
        run("steps=1")
    assert [path.name for path in folder.iterdir()] == [CONFIG_FILE]
    assert (folder / CONFIG_FILE).read_text() == "of another"


@pytest.mark.parametrize(
    ("dataset", "root"),
    [("kitti", "kitti2012"), ("sintel", "MPI-Sintel"), ("flyingchairs", "FlyingChairs_release")],
)
def test_it_trains_on_real_data(dataset: str, root: str, run: Train, shared: Path) -> None:
    place = (f"data={dataset}", f"data.root={shared}/data/{root}", "data.crop=[64,96]")
    folder = run(*place, "steps=2", "log_every=1", "eval_samples=1", "batch_size=1")
    losses = points(folder, "train/loss")
    assert list(losses) == [1, 2]
    assert all(0 < value < math.inf for value in losses.values())
    assert list(points(folder, BEST_KEY)) == [0, 2]
    assert math.isfinite(points(folder, BEST_KEY)[2])


@pytest.fixture
def chairs_and_things(tmp_path: Path) -> Path:
    """A folder with a small FlyingChairs and a small FlyingThings3DHalfRes."""
    write_chairs(tmp_path / "sets/FlyingChairs_release", 6)
    write_things_halfres(tmp_path / "sets/FlyingThings3D_HalfRes", 3)
    return tmp_path / "sets"


@pytest.mark.slow
def test_chairsthingsmix_trains_on_both_layouts_in_the_proportions_configured(
    run: Train, chairs_and_things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    check = Guard.check

    def noting(guard: Guard, results: Any, step: int, batch: Batch) -> dict[str, float]:
        drawn.extend(guard._source.ids[int(index)] for index in batch.index)
        return check(guard, results, step, batch)

    monkeypatch.setattr(Guard, "check", noting)
    mix = ("data=chairsthingsmix", f"data.root={chairs_and_things}", "data.crop=[32,48]")
    steps = ("steps=8", "batch_size=4", "eval_every=8", "augment=none")
    sets = ("flyingchairs", "flyingthings3d_halfres")
    weighted = (
        "{name:flyingchairs,root:FlyingChairs_release,weight:3},"
        "{name:flyingthings3d_halfres,root:FlyingThings3D_HalfRes,weight:1}"
    )

    folder = run(*mix, *steps)  # by size: 5 and 3 pairs train
    shares = Counter(name.partition("/")[0] for name in drawn)
    assert shares == {sets[0]: 20, sets[1]: 12}
    assert len(set(drawn)) == 8
    assert all(map(math.isfinite, points(folder, BEST_KEY).values()))

    drawn.clear()
    run(*mix, *steps, f"data.parts=[{weighted}]")
    shares = Counter(name.partition("/")[0] for name in drawn)
    assert shares == {sets[0]: 24, sets[1]: 8}


def broken_chairs(root: Path) -> tuple[str, ...]:
    """The arguments for a set of which one flow file is cut off."""
    write_chairs(root, 6)
    flow = root / "data/00003_flow.flo"
    flow.write_bytes(flow.read_bytes()[:-1])
    return ("data=flyingchairs", f"data.root={root}", "data.crop=[32,48]", "steps=4")


def test_a_broken_sample_ends_a_run_unless_it_is_to_be_skipped(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = broken_chairs(tmp_path / "chairs")
    with pytest.raises(DataError, match="00003_flow.flo"):
        run(*data)
    folder = run(*data, "data.on_bad=skip")
    listed = (folder / "quarantine.txt").read_text()
    assert listed.startswith("00003\t")
    assert len(listed.splitlines()) == 1
    assert capsys.readouterr().out.count("left out") == 1
    again = run(*data, f"data.quarantine={folder}/quarantine.txt")
    assert "without 1 and 0 quarantined samples" in capsys.readouterr().out
    assert not (again / "quarantine.txt").exists()
    assert points(again, "train/loss") == points(folder, "train/loss")
    (folder / "all.txt").write_text("".join(f"{n:05d}\tbad\n" for n in range(1, 7)))
    with pytest.raises(DataError, match="No sample of flyingchairs is left"):
        run(*data, f"data.quarantine={folder}/all.txt")


@pytest.mark.slow
def test_three_bad_files_of_a_thousand_are_left_out_each_told_once(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_chairs(tmp_path / "chairs", 10)
    for number in range(11, 1001):
        for part in ("img1.ppm", "img2.ppm", "flow.flo"):
            os.link(root / f"data/{number % 10 + 1:05d}_{part}", root / f"data/{number:05d}_{part}")
    (root / "FlyingChairs_train_val.txt").write_text("\n".join(["1"] * 990 + ["2"] * 10))
    bad = {"00077_flow.flo": b"PIEH", "00500_img1.ppm": b"P6\n64 48\n255\n", "00901_img2.ppm": b"x"}
    for name, content in bad.items():
        (root / "data" / name).unlink()
        (root / "data" / name).write_bytes(content)
    data = ("data=flyingchairs", f"data.root={root}", "data.crop=[32,48]", "batch_size=10")
    steps = ("steps=200", "eval_every=200", "save_every=200")  # every pair twice
    with pytest.raises(DataError, match="|".join(bad)):
        run(*data, *steps)
    folder = run(*data, *steps, "data.on_bad=skip")
    assert list(points(folder, BEST_KEY)) == [0, 200]
    listed = (folder / "quarantine.txt").read_text().splitlines()
    assert sorted(line.partition("\t")[0] for line in listed) == ["00077", "00500", "00901"]
    assert capsys.readouterr().out.count("left out") == 3


@pytest.mark.slow
def test_a_cache_changes_no_number_and_is_filled_once(run: Train, tmp_path: Path) -> None:
    root = write_chairs(tmp_path / "chairs", 6)
    data = ("data=flyingchairs", f"data.root={root}", "data.crop=[32,48]", "steps=3")
    losses = points(run(*data, "log_every=1"), "train/loss")
    cached = (*data, "log_every=1", f"data.cache={tmp_path}/cache")
    assert points(run(*cached), "train/loss") == losses
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.rec")}
    assert records
    assert points(run(*cached), "train/loss") == losses
    assert {path: path.stat().st_mtime_ns for path in records} == records


@pytest.mark.slow
def test_it_trains_in_half_precision(run: Train) -> None:
    folder = run("precision=fp16", "steps=2", "log_every=1")
    assert all(map(math.isfinite, points(folder, BEST_KEY).values()))
    last = checkpoints.latest(folder / "checkpoints")
    assert last is not None
    arrays = checkpoints.load(last).arrays
    assert {a.dtype for n, a in arrays.items() if n.startswith("model/")} == {np.dtype("float32")}
    assert any("loss_scale" in name for name in arrays)
