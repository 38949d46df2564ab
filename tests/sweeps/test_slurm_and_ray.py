"""The launchers that come as extras: what they are told, and that all of a sweep is there then."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from pwc_exp.config import composition
from pwc_exp.errors import MissingExtraError, SweepError

NEEDED = {
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}
SMALLEST = (
    "model=tiny",
    "model.levels=3",
    "model.search_range=1",
    "model.feature_channels=[4,8,12]",
    "model.estimator_channels=[8,8]",
    "model.context_channels=[8]",
    "model.context_dilations=[1]",
    "data.crop=[32,48]",
    "data.val_size=2",
    "data.workers=1",
    "schedule=constant",
    "batch_size=2",
    "picture_samples=0",
    "xla=false",
    "log_every=1",
)
# A task that ends as the seed says, without TensorFlow: what matters is what the others do.
TASK = """
import sys
from pathlib import Path

from pwc_exp.errors import DataError
from pwc_exp.tracking.record import Record

class OfThreads(Exception):
    def __init__(self, first, second):  # so it cannot be pickled
        super().__init__(first)

ENDINGS = {1: DataError("a mistake"), 2: OfThreads(1, 2), 3: SystemExit(143), 4: SystemExit(130)}

def run(config, run_dir):
    print("child", config.seed)
    if config.seed in ENDINGS:
        raise ENDINGS[config.seed]
    record = Record.new("child", {})
    record.end("FINISHED")
    record.save(run_dir)

if __name__ == "__main__":
    from pwc_exp import cli

    cli.run("train", "pwc_task:run")
"""


def installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(plugin) is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def skip_without(choice: str) -> None:
    extra = choice.partition("_")[0]
    if not installed(NEEDED[extra]):
        pytest.skip(f"needs the extra: pip install 'pwc_exp[{extra}]'")


def launcher(choice: str, *overrides: str) -> Any:
    """The values of a launcher as a sweep gets them; skips where its extra is missing."""
    skip_without(choice)
    composition.register()
    folder = str(composition.data_dir("conf"))
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        arguments = [f"hydra/launcher={choice}", *overrides]
        composed = compose("train", arguments, return_hydra_config=True)
        return OmegaConf.to_container(composed.hydra.launcher)


def test_a_child_on_slurm_is_one_task_with_one_gpu_of_one_job_array() -> None:
    values = launcher("slurm", "hydra.launcher.partition=gpu")
    expected = {
        **{"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 1},
        **{"partition": "gpu", "array_parallelism": 16, "max_num_timeout": 0},
        "signal_delay_s": 120,  # before the end
        "setup": ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"],  # srun keeps the processors
        "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
    }
    assert {key: values[key] for key in expected} == expected
    assert values["_target_"].endswith(".SlurmLauncher")
    assert launcher("slurm_local")["_target_"].endswith(".LocalLauncher")


def test_the_pages_launcher_is_slurms_with_its_values(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/scaling.md").read_text(encoding="utf-8")
    _, _, sweeps = page.partition("\n## Sweeps on Slurm")
    text, _, _ = sweeps.partition("```yaml\n")[2].partition("```")
    (tmp_path / "hydra/launcher").mkdir(parents=True)
    (tmp_path / "hydra/launcher/ours.yaml").write_text(text, encoding="utf-8")
    own = launcher("slurm", "hydra/launcher=ours", f"hydra.searchpath=[file://{tmp_path}]")
    changed = {key: value for key, value in own.items() if value != launcher("slurm")[key]}
    assert changed == {
        key: value for key, value in yaml.safe_load(text).items() if key != "defaults"
    }


@pytest.mark.parametrize(
    ("choice", "address", "gpus"), [("ray_cluster", "auto", 1), ("ray_local", "local", 0)]
)
def test_a_child_on_ray_is_a_process_of_its_own(choice: str, address: str, gpus: int) -> None:
    values = launcher(choice)["ray"]
    assert values["init"]["address"] == address
    assert values["remote"]["num_gpus"] == gpus
    assert (values["remote"]["max_calls"], values["remote"]["max_retries"]) == (1, 0)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    composition.register()
    Plugins.instance()  # looks for them, once
    repository = ConfigStore.instance().repo["hydra"].get("launcher", {})
    for plugin in composition.PLUGINS:
        monkeypatch.delitem(repository, f"{plugin.rpartition('/')[2]}.yaml", raising=False)
    packages = {"slurm": "submitit", "slurm_local": "submitit", "ray_local": "ray"}
    for choice, package in {**packages, "ray_cluster": "ray"}.items():
        with pytest.raises(MissingExtraError, match=f"pip install 'hydra-{package}-launcher"):
            composition.compose_command("train", [f"hydra/launcher={choice}"])


def sweep(
    folder: Path, *command: str, seconds: int = 900, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs a sweep into `swept` of the folder, in a process of its own."""
    paths = f"{Path(__file__).parents[2]}{os.pathsep}{folder}"
    environment = {**os.environ, "PYTHONPATH": paths, **(variables or {})}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [sys.executable, *command, "hydra.sweep.dir=swept"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["slurm_local", "ray_local"])
def test_all_children_finish_with_folders_and_mlflow_complete(choice: str, root: Path) -> None:
    import mlflow

    skip_without(choice)
    arguments = ("-m", f"hydra/launcher={choice}", *SMALLEST, "steps=2", "seed=1,2")
    # As if Slurm had started the sweep, or Ray, as one of several tasks.
    outer = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"} if choice == "ray_local" else {}
    ending = sweep(root, "-m", "pwc_exp.train", *arguments, variables=outer)
    assert ending.returncode == 0, ending.stdout + ending.stderr
    client = mlflow.MlflowClient(f"sqlite:///{root}/outputs/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("pwc_exp")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    for number in range(2):
        child = root / "swept" / f"{number}_seed-{number + 1}"
        assert json.loads((child / "run.json").read_text())["ended"]["status"] == "FINISHED"
        assert (child / "config.yaml").is_file()
        assert (child / "checkpoints/step-00000002").is_dir()
        ledger = json.loads((child / "mlflow.json").read_text())
        run = client.get_run(ledger["run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        history = client.get_metric_history(ledger["run_id"], "train/loss")
        assert sorted(point.step for point in history) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["slurm_local", "ray_local"])
def test_no_ending_of_a_child_stops_the_others(choice: str, tmp_path: Path) -> None:
    skip_without(choice)
    (tmp_path / "pwc_task.py").write_text(TASK)
    ending = sweep(tmp_path, "pwc_task.py", "-m", f"hydra/launcher={choice}", "seed=1,2,3,4,0")
    assert ending.returncode == SweepError.exit_code, ending.stdout + ending.stderr
    assert "4 of 5 children did not finish; seed=1: a mistake" in ending.stderr
    assert [path.parent.name for path in tmp_path.glob("swept/*/run.json")] == ["4_seed-0"]


@pytest.mark.slow
def test_slurm_is_given_one_job_array_that_signals_and_can_come_back(tmp_path: Path) -> None:
    skip_without("slurm")
    stand_ins = {"sbatch": "cp $1 batch.sh; echo Submitted batch job 77", "srun": "", "sacct": ""}
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pwc_task.py").write_text(TASK)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    arguments = ("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "tracking.mlflow=false")
    # The jobs are nowhere, so the sweep would wait for them.
    with pytest.raises(subprocess.TimeoutExpired):
        command = ("pwc_task.py", "-m", *arguments, "seed=1,2,3")
        sweep(tmp_path, *command, seconds=90, variables={"PATH": path})
    batch = (tmp_path / "batch.sh").read_text()
    for line in (
        "#SBATCH --array=0-2%3",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --requeue",
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
    ):
        assert line in batch.splitlines()
