from typing import Any

import pytest

from pwc_exp.config.sweeps import Direction, OptunaConfig
from pwc_exp.errors import ConfigError


def test_errors_are_to_be_small_unless_said_otherwise() -> None:
    assert OptunaConfig().directions == {"val/aepe": Direction.minimize}
    config = OptunaConfig(objectives=["val/wauc", "seconds"], maximize=["val/wauc"])
    expected = {"val/wauc": Direction.maximize, "seconds": Direction.minimize}
    assert list(config.directions.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("knobs", "key"),
    [
        ({"trials": 0}, "trials"),
        ({"startup_trials": -1}, "startup_trials"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"seed": -1}, "seed"),
        ({"min_resource": 0}, "min_resource"),
        ({"reduction_factor": 1}, "reduction_factor"),
        ({"objectives": []}, "objectives"),
        ({"objectives": ["seconds", "seconds"]}, "objectives"),
        ({"maximize": ["val/wauc"]}, "maximize"),
        ({"objectives": ["val/aepe", "seconds"], "sampler": "cmaes"}, "sampler"),
        ({"objectives": ["val/aepe", "seconds"], "pruner": "median"}, "pruner"),
        ({"objectives": ["seconds"], "pruner": "hyperband"}, "pruner"),
    ],
)
def test_what_cannot_be_meant_is_refused(knobs: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^sweep\.{key}"):
        OptunaConfig(**knobs)
