"""What a run does when it is stopped, diverges, is full of holes, or does not start to learn."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import SMALLEST, points

from pwc_exp import checkpoints
from pwc_exp.config import composition
from pwc_exp.config.schema import BEST_KEY
from pwc_exp.config.training import TrainConfig
from pwc_exp.data.sample import Batch
from pwc_exp.errors import (
    BusyError,
    DeviceMemoryError,
    DiskFullError,
    NonFiniteError,
    ResumeError,
)
from pwc_exp.training import state
from pwc_exp.training.health import FailedStartDetector
from pwc_exp.training.loop import train
from pwc_exp.training.replay import replay
from pwc_exp.training.state import RunState

Configure = Callable[..., Any]
EVERY = ("log_every=1", "eval_every=4", "save_every=2", "schedule=constant")


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def small(configure: Configure, tmp_path: Path) -> Callable[..., TrainConfig]:
    """(*overrides) -> the configuration of a small run."""

    def configured(*overrides: str) -> TrainConfig:
        outputs = f"outputs={tmp_path}"
        config: TrainConfig = configure(
            "train",
            *SMALLEST,
            "data.val_size=2",
            "augment=none",
            *EVERY,
            "tracking=off",
            outputs,
            *overrides,
        )
        return config

    return configured


def resumed(config: TrainConfig, folder: Path, **changes: Any) -> TrainConfig:
    return dataclasses.replace(config, resume=str(folder), **changes)


def last_arrays(folder: Path) -> dict[str, np.ndarray]:
    newest = checkpoints.newest_intact(folder / "checkpoints")
    assert newest is not None
    return dict(newest.arrays)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the process receive SIGTERM within that step, once."""
    advance = RunState.advance

    def advancing(state: RunState, batch: Batch) -> int:
        made = advance(state, batch)
        if made == step:
            monkeypatch.setattr(RunState, "advance", advance)
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr(RunState, "advance", advancing)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_as_if_it_had_not(
    small: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small("steps=6", "ema_decay=0.9")
    whole, broken = tmp_path / "train/whole", tmp_path / "train/broken"
    end = train(config, whole)
    stop_at(3, monkeypatch)  # which would be neither saved nor evaluated
    with pytest.raises(SystemExit) as stopped:
        train(config, broken)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert f"python -m pwc_exp.train resume={broken}" in capsys.readouterr().out
    newest = checkpoints.latest(broken / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000003"

    assert train(resumed(config, broken), broken) == end
    first, second = last_arrays(whole), last_arrays(broken)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(name.startswith("ema/") for name in first)
    for key in ("train/loss", "train/aepe", BEST_KEY):
        assert points(whole, key) == points(broken, key)


def test_a_finished_run_has_nothing_left_to_do_and_can_be_prolonged(
    small: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small("steps=4")
    folder = tmp_path / "train/first"
    end = train(config, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train(resumed(config, folder), folder) == end
    assert "nothing to do" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert all(before[path] == after[path] for path in before if path.name != ".lock")
    with pytest.raises(ResumeError, match="steps must be at least 4"):
        train(resumed(config, folder, steps=2), folder)
    train(resumed(config, folder, steps=5), folder)
    assert list(points(folder, "train/loss")) == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_run_of_other_samples_is_not_gone_on_with(
    small: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from small_sets import write_chairs

    write_chairs(tmp_path / "one", 4)
    write_chairs(tmp_path / "other", 5)
    data = ("data=flyingchairs", "data.crop=[32,48]", f"data.root={tmp_path}/one")
    arguments = [item for item in (*SMALLEST, *EVERY) if item != "data.crop=[32,48]"]

    values = composition.compose_command(
        "train", [*arguments, *data, "tracking=off", "steps=2", f"outputs={tmp_path}"]
    ).values
    config: Any = composition.check(values, "train")
    folder = tmp_path / "train/first"
    train(config, folder)
    elsewhere = dataclasses.replace(config.data, root=str(tmp_path / "other"))
    with pytest.raises(ResumeError, match=r"data\.root must hold the samples"):
        train(resumed(config, folder, steps=4, data=elsewhere), folder)


@pytest.mark.parametrize("share", [pytest.param(0.3, marks=pytest.mark.slow), 1.0])
def test_flow_that_is_not_a_number_is_unknown_and_training_goes_on(
    share: float,
    configure: Configure,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from small_sets import write_chairs

    for path in write_chairs(tmp_path / "chairs", 3).glob("data/*.flo"):
        data = path.read_bytes()
        flow = np.frombuffer(data[12:], "<f4").copy()  # row after row
        flow[: round(share * len(flow))] = np.nan
        path.write_bytes(data[:12] + flow.tobytes())
    of_files = ("data=flyingchairs", f"data.root={tmp_path}/chairs", "data.crop=[64,96]")
    places = ("tracking=off", f"outputs={tmp_path}", "steps=3", "optimizer.l2=0")
    config = configure("train", *SMALLEST, *EVERY, *of_files, *places)
    folder = tmp_path / "train/first"
    train(config, folder)
    losses = points(folder, "train/loss")
    assert points(folder, "train/valid")[1] == pytest.approx(1 - share, abs=0.02)
    if share == 1:
        assert losses == {1: 0, 2: 0, 3: 0}
        assert capsys.readouterr().out.count("no pixel of the batch is valid") == 1
        manifest = checkpoints.load(checkpoints.latest(folder / "checkpoints") or folder).manifest
        assert manifest.progress["guard/unknown"] == 3
    else:
        assert all(0 < loss < 1e6 for loss in losses.values())


def test_memory_of_a_device_that_runs_out_is_one_line(
    small: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(state: RunState, batch: Batch) -> int:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor of shape")

    monkeypatch.setattr(RunState, "advance", failing)
    with pytest.raises(DeviceMemoryError, match=r"batch_size=2, data.crop=\[32, 48\]"):
        train(small("steps=2"), tmp_path / "train/first")


def test_one_process_at_a_time_trains_a_run(
    small: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    from pwc_exp import storage

    config = small("steps=2")
    folder = tmp_path / "train/first"
    train(config, folder)
    with storage.lock(folder / ".lock"), pytest.raises(BusyError, match=str(os.getpid())):
        train(resumed(config, folder, steps=4), folder)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_diverging_update_leaves_a_black_box_that_repeats_it(
    precision: str,
    small: Callable[..., TrainConfig],
    configure: Configure,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rates = ("schedule=multisteps", "schedule.boundaries=[2]", "schedule.values=[1e-4,1e20]")
    limit = ("nonfinite_limit=1", f"precision={precision}")
    config = small("steps=20", "eval_every=20", *rates, *limit)
    folder = tmp_path / "train/first"
    with pytest.raises(NonFiniteError, match="To repeat it: python -m pwc_exp.replay") as ended:
        train(config, folder)
    (box,) = (folder / "blackbox").iterdir()
    assert str(box) in str(ended.value)
    newest = last_arrays(folder)
    assert all(np.isfinite(a).all() for n, a in newest.items() if n.startswith("model/"))
    capsys.readouterr()
    assert replay(configure("replay", f"box={box}"))
    output = capsys.readouterr().out
    assert "identical" in output
    assert "batch: 2 examples" in output
    assert "level 2:" in output


def test_an_update_that_is_not_finite_can_be_skipped(
    small: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = RunState.advance

    def spoiling(state: RunState, batch: Batch) -> int:
        spoilt = batch._replace(frame1=batch.frame1 * np.nan) if state.step == 1 else batch
        return advance(state, spoilt)

    monkeypatch.setattr(RunState, "advance", spoiling)
    folder = tmp_path / "train/first"
    train(small("steps=4", "on_nonfinite=skip"), folder)
    assert points(folder, "train/skipped") == {1: 0, 2: 1, 3: 1, 4: 1}
    assert [path.name for path in (folder / "blackbox").iterdir()] == ["step-00000002"]


@pytest.mark.slow
def test_a_start_that_leads_nowhere_is_told_and_if_wished_made_again_with_other_weights(
    small: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector = partial(FailedStartDetector, after=3, window=1, min_drop=0.99)
    monkeypatch.setattr(state, "FailedStartDetector", detector)
    shown = ("picture_samples=2", "log_every=1", "eval_every=4", "schedule.rate=1e-12")
    train(small("steps=5", *shown), tmp_path / "train/warned")
    assert "failed start? the loss has not fallen" in capsys.readouterr().out
    train(small("steps=5", *shown, "on_stuck=reseed"), tmp_path / "train/reseeded")
    assert "restarted with new weights" in capsys.readouterr().out
    first, second = (points(tmp_path / f"train/{n}", BEST_KEY) for n in ("warned", "reseeded"))
    assert first[4] == second[4]
    assert first[5] != second[5]
    newest = checkpoints.newest_intact(tmp_path / "train/reseeded/checkpoints")
    assert newest is not None
    assert newest.manifest.progress["reseeds"] == 1


@pytest.mark.slow
def test_a_full_disk_costs_a_checkpoint_and_only_the_third_time_the_run(
    small: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save = checkpoints.save
    full: list[int] = []

    def saving(folder: Path, *, step: int, **rest: Any) -> Path:
        if step > 2:
            full.append(step)
            raise DiskFullError(f"{folder} cannot be written: no space left on device")
        return save(folder, step=step, **rest)

    monkeypatch.setattr(checkpoints, "save", saving)
    folder = tmp_path / "train/first"
    with pytest.raises(DiskFullError):
        train(small("steps=20", "eval_every=20"), folder)
    assert full == [4, 6, 8]
    assert capsys.readouterr().out.count("no checkpoint:") == 2
    newest = checkpoints.latest(folder / "checkpoints")
    assert newest is not None
    assert checkpoints.load(newest).step == 2


def test_a_disk_without_room_for_the_checkpoints_is_refused_before_the_first_step(
    small: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match="needs"):
        train(small("steps=2"), tmp_path / "train/first")
