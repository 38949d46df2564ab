from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pwc_exp.config import composition
from pwc_exp.config.schema import VARIANTS, flatten
from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.config.training import TrainConfig
from pwc_exp.tuning import open_search
from pwc_exp.tuning.space import Interval, parse

PRESET = "experiment=tune-quickstart"


def sweeper(*overrides: str) -> OptunaConfig:
    composition.register()
    conf = str(composition.data_dir("conf"))
    with initialize_config_dir(config_dir=conf, version_base="1.3"):
        values = compose("train", [PRESET, *overrides], return_hydra_config=True)
    config = OmegaConf.to_object(values.hydra.sweeper)
    assert isinstance(config, OptunaConfig)
    return config


def test_the_preset_describes_a_search_and_a_run() -> None:
    config = sweeper("hydra.sweeper.trials=3")
    assert (config.trials, config.pruner) == (3, Pruner.median)
    assert parse(config.params).parts == {
        "schedule.peak": Interval(3e-4, 1e-2, log=True),
        "augment.geometry_probability": Interval(0.0, 1.0),
        "augment.eraser_probability": Interval(0.0, 1.0),
    }
    run = composition.check(composition.compose_command("train", [PRESET]).values, "train")
    assert isinstance(run, TrainConfig)
    assert run.data.crop == [128, 128]  # as the quickstart's


def test_what_is_proposed_is_a_configuration_with_these_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    config = sweeper()
    space = parse(
        config.params, [PRESET, "loss=multiscale,robust", "batch_size=range(2, 9, step=2)"]
    )
    names = {schema: name for name, schema in VARIANTS["loss"].items()}
    search = open_search(tmp_path, "sweep", space, config, jobs=1, steps=10)
    for _ in range(3):
        proposal = search.ask()
        assert proposal is not None
        overrides = space.overrides(proposal.values)
        run = composition.check(composition.compose_command("train", overrides).values, "train")
        assert isinstance(run, TrainConfig)
        values = {**flatten(run), "loss": names[type(run.loss)]}
        for key, text in proposal.values.items():
            assert str(values[key]) == text
