"""The launchers that come as extras: what the files of conf/hydra/launcher make of a sweep."""

import importlib.util
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from pwc_exp import composition
from pwc_exp.errors import MissingExtraError

NEEDED = {
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}


def installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(plugin) is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def launcher(choice: str, *overrides: str) -> Any:
    """The values of a launcher as a sweep gets them; skips where its extra is missing."""
    extra = choice.partition("_")[0]
    if not installed(NEEDED[extra]):
        pytest.skip(f"needs the extra: pip install 'pwc_exp[{extra}]'")
    composition.register()
    folder = str(composition.data_dir("conf"))
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        arguments = [f"hydra/launcher={choice}", *overrides]
        composed = compose("train", arguments, return_hydra_config=True)
        return OmegaConf.to_container(composed.hydra.launcher)


def test_a_child_on_slurm_is_one_task_with_one_gpu_of_one_job_array() -> None:
    values = launcher("slurm", "hydra.launcher.partition=gpu")
    shares = {key: values[key] for key in ("nodes", "tasks_per_node", "gpus_per_node")}
    assert shares == {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 1}
    assert (values["partition"], values["array_parallelism"]) == ("gpu", 16)
    assert values["_target_"].endswith(".SlurmLauncher")
    assert values["submitit_folder"] == "${hydra.sweep.dir}/.submitit/%j"


def test_slurm_signals_before_the_end_and_srun_keeps_the_processors() -> None:
    values = launcher("slurm")
    assert values["signal_delay_s"] == 120
    assert values["max_num_timeout"] == 0
    assert values["setup"] == ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]


def test_slurm_can_be_tried_out_on_this_machine() -> None:
    assert launcher("slurm_local")["_target_"].endswith(".LocalLauncher")


@pytest.mark.parametrize(
    ("choice", "address", "gpus"), [("ray_cluster", "auto", 1), ("ray_local", "local", 0)]
)
def test_a_child_on_ray_is_a_process_of_its_own(choice: str, address: str, gpus: int) -> None:
    values = launcher(choice)["ray"]
    assert values["init"]["address"] == address
    assert values["remote"]["num_gpus"] == gpus
    assert (values["remote"]["max_calls"], values["remote"]["max_retries"]) == (1, 0)


@pytest.mark.parametrize(
    ("choice", "extra"),
    [("slurm", "slurm"), ("slurm_local", "slurm"), ("ray_cluster", "ray"), ("ray_local", "ray")],
)
def test_a_missing_extra_is_named(choice: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    composition.register()
    Plugins.instance()  # looks for them, once
    repository = ConfigStore.instance().repo["hydra"].get("launcher", {})
    for plugin in composition.PLUGINS:
        monkeypatch.delitem(repository, f"{plugin.rpartition('/')[2]}.yaml", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'pwc_exp\[{extra}\]'$"):
        composition.compose_command("train", [f"hydra/launcher={choice}"])
