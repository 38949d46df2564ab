"""The best run of a sweep: its checkpoint is a version of a model, which MLflow gives back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from tracked import make_sweep

from pwc_exp import checkpoints
from pwc_exp.config.schema import CONFIG_FILE, to_yaml
from pwc_exp.errors import BusyError, MissingInputError
from pwc_exp.sweeps.runner import register_best
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.mlflow_store import STATE_FILE
from pwc_exp.tracking.record import SWEEP_FILE
from pwc_exp.tracking.registry import BEST_TAG

SWEEP = Path("outputs/quick/2026-11-26_21-00-00")
MODEL = "quick-2026-11-26_21-00-00"
CHILDREN = {"0_seed=1": "seed=1", "1_seed=2": "seed=2"}


@pytest.fixture
def sweep(root: Path, configure: Callable[..., Any]) -> Path:
    """The folder of a sweep of two children, of which MLflow has all."""
    make_sweep(root / SWEEP, CHILDREN)
    for number, (folder, name) in enumerate(CHILDREN.items()):
        train(root, root / SWEEP / folder, name, step=5 + number)
        config = configure("train", "experiment=quickstart")
        (root / SWEEP / folder / CONFIG_FILE).write_text(to_yaml(config))
    return root / SWEEP


def train(root: Path, run_dir: Path, name: str, *, step: int) -> None:
    run_dir.mkdir()
    checkpoint = checkpoints.save(
        run_dir / "checkpoints",
        step=step,
        state={"a": np.full(3, float(step))},
        metrics={"val/aepe": step / 10},
        fingerprint={},
    )
    with Tracker(
        run_dir,
        run_name=name,
        params={},
        tags={"parent": "quick/2026-11-26_21-00-00"},
        uri=None,
        experiment="pwc_exp",
        outputs=root / "outputs",
        mlflow=True,
        tensorboard=False,
    ) as tracker:
        tracker.artifact(checkpoint, "checkpoints/best")


def client(root: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{root}/outputs/mlflow/mlflow.db")


def marked(root: Path) -> list[str]:
    experiment = client(root).get_experiment_by_name("pwc_exp")
    runs = client(root).search_runs([experiment.experiment_id])
    return [run.info.run_name for run in runs if run.data.tags.get(BEST_TAG) == "true"]


def test_the_best_checkpoint_is_given_back_by_its_alias(
    root: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/outputs/mlflow/mlflow.db")
    registered = register_best(sweep / "0_seed=1", uri=None, outputs=root / "outputs")
    assert (registered.uri, registered.version) == (f"models:/{MODEL}@best", "1")
    folder = mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(root / "given"))
    given = checkpoints.load(Path(folder))
    assert (given.step, given.arrays["a"].tolist()) == (5, [5.0, 5.0, 5.0])
    version = client(root).get_model_version_by_alias(MODEL, "best")
    assert version.tags == {
        "val/aepe": "0.5",
        "step": "5",
        "run_dir": str(sweep / "0_seed=1"),
        "seed": "1",
    }
    assert version.description == "seed=1"


def test_a_checkpoint_registered_twice_is_one_version(root: Path, sweep: Path) -> None:
    for _ in range(2):
        register_best(sweep / "0_seed=1", uri=None, outputs=root / "outputs")
    assert len(client(root).search_model_versions(f"name = '{MODEL}'")) == 1


def test_the_alias_and_the_mark_move_to_another_run_and_back(root: Path, sweep: Path) -> None:
    for child, version in (("0_seed=1", "1"), ("1_seed=2", "2"), ("0_seed=1", "1")):
        register_best(sweep / child, uri=None, outputs=root / "outputs")
        assert client(root).get_model_version_by_alias(MODEL, "best").version == int(version)
        assert marked(root) == [CHILDREN[child]]


def test_the_best_run_of_another_sweep_stays_the_best_of_that(root: Path, sweep: Path) -> None:
    register_best(sweep / "0_seed=1", uri=None, outputs=root / "outputs")
    experiment = client(root).get_experiment_by_name("pwc_exp")
    other = client(root).create_run(experiment.experiment_id, run_name="other")
    for key, value in {"parent": "quick/another", BEST_TAG: "true"}.items():
        client(root).set_tag(other.info.run_id, key, value)
    register_best(sweep / "1_seed=2", uri=None, outputs=root / "outputs")
    assert sorted(marked(root)) == ["other", "seed=2"]


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (STATE_FILE, "pwc_exp.sync"),
        (f"../{SWEEP_FILE}", "must hold a sweep"),
        ("checkpoints", "evaluat"),
    ],
)
def test_what_is_missing_is_one_line(root: Path, sweep: Path, lost: str, reason: str) -> None:
    (sweep / "0_seed=1" / lost).rename(root / "lost")
    with pytest.raises(MissingInputError, match=reason):
        register_best(sweep / "0_seed=1", uri=None, outputs=root / "outputs")


def test_a_checkpoint_that_mlflow_lacks_is_told(root: Path, sweep: Path) -> None:
    for kept in (root / "outputs/mlflow/artifacts").glob("*/*/artifacts/checkpoints"):
        kept.rename(kept.with_name("lost"))
    with pytest.raises(MissingInputError, match="MLflow lacks checkpoints/best of"):
        register_best(sweep / "0_seed=1", uri=None, outputs=root / "outputs")


def test_a_server_that_is_gone_is_one_line(root: Path, sweep: Path) -> None:
    with pytest.raises(BusyError, match=r"^MLflow at http://127.0.0.1:9 does not register"):
        register_best(sweep / "0_seed=1", uri="http://a:b@127.0.0.1:9", outputs=root / "outputs")
