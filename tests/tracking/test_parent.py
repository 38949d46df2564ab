"""Children of a sweep: known by the folder above, shown below the sweep's run in MLflow."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tracked import RUN, make_sweep, make_tracker, open_store

from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.tracking import record
from pwc_exp.tracking.record import UID, Record, sweep_of
from pwc_exp.training.run_dir import open_tracker

NAME = "model=tiny seed=2"
OFF = "tracking.tensorboard=false"  # which takes seconds


def open_child(
    root: Path, configure: Callable[..., Any], *overrides: str, resumed: bool = False
) -> None:
    """Trains the run of `RUN` for no steps, as `pwc_exp.train` would."""
    config = configure("train", "model=tiny", "loss.level_weights=[1,1,1]", *overrides)
    state: Any = SimpleNamespace(config=config, run_dir=root / RUN, origin=None, step=3)
    with open_tracker(state, {}, resumed=resumed):
        (root / RUN / CONFIG_FILE).write_text(to_yaml(config))


def runs(root: Path) -> dict[str, Any]:
    """All runs in MLflow by their names."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/outputs/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("pwc_exp")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    return {run.info.run_name: run for run in found}


def open_sweep(root: Path) -> None:
    open_store(root, RUN.parent)


def test_a_child_has_the_name_and_the_tags_of_its_place_in_the_sweep(
    root: Path, configure: Callable[..., Any]
) -> None:
    make_sweep((root / RUN).parent, {"other": "seed=1", RUN.name: NAME})
    open_sweep(root)
    open_child(root, configure, "name=quick", OFF)
    found = runs(root)
    assert found.keys() == {"outputs/test", NAME}
    tags = found[NAME].data.tags
    wanted = {"kind": "run", "dataset": "synthetic", "recipe": "quick", "parent": "outputs/test"}
    assert {key: tags.get(key) for key in wanted} == wanted
    assert tags["mlflow.parentRunId"] == found["outputs/test"].info.run_id
    assert found["outputs/test"].data.tags["kind"] == "sweep"
    assert Record.load(root / RUN).name == NAME


def test_a_run_alone_is_nobodys_child_and_a_mix_is_named_by_its_data_sets(
    root: Path, configure: Callable[..., Any]
) -> None:
    parts = "[{name: sintel, root: a}, {name: kitti, root: b}, {name: sintel, root: c}]"
    open_child(root, configure, "data=mix", f"data.parts={parts}", "data.root=/x", OFF)
    ((name, run),) = runs(root).items()
    assert name == "test/run"
    assert (run.data.tags["kind"], run.data.tags["dataset"]) == ("run", "sintel+kitti")
    assert not {"parent", "mlflow.parentRunId"} & run.data.tags.keys()


def test_a_child_is_put_below_its_sweep_as_soon_as_that_is_there(
    root: Path, configure: Callable[..., Any]
) -> None:
    make_sweep((root / RUN).parent, {RUN.name: NAME})
    open_child(root, configure, OFF)
    assert "mlflow.parentRunId" not in runs(root)[NAME].data.tags
    open_sweep(root)
    open_store(root)  # as a resumed run, and `pwc_exp.sync`, open it
    found = runs(root)
    assert found[NAME].data.tags["mlflow.parentRunId"] == found["outputs/test"].info.run_id
    assert open_store(root).sent["tags"] == 0


def test_a_child_that_goes_on_is_the_same_child(root: Path, configure: Callable[..., Any]) -> None:
    make_sweep((root / RUN).parent, {RUN.name: NAME})
    open_sweep(root)
    open_child(root, configure, OFF)
    before = runs(root)[NAME]
    open_child(root, configure, OFF, resumed=True)
    after = runs(root)
    assert len(after) == 2
    assert after[NAME].data.tags == {**before.data.tags, "resumed_at": "3"}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (record.SWEEP_FILE, "{"),
        (record.SWEEP_FILE, "[]"),
        (record.SWEEP_FILE, '{"children": [{"folder": "another"}]}'),
        (record.SWEEP_FILE, '{"children": [7]}'),
        (record.FILE, "{}"),
        (record.FILE, None),
    ],
)
def test_files_that_name_no_sweep_stop_no_run(root: Path, file: str, content: str | None) -> None:
    folder = (root / RUN).parent
    made = make_sweep(folder, {RUN.name: NAME})
    sweep = sweep_of(root / RUN)
    assert sweep is not None
    assert (sweep.uid, sweep.child) == (made.tags[UID], NAME)
    assert sweep.values == {"model": "tiny", "seed": "2"}
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    assert sweep_of(root / RUN) is None
    with make_tracker(root, mlflow=True) as tracker:
        tracker.scalars(0, {"train/loss": 1.0})
    assert runs(root).keys() == {"test"}
