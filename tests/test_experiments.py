"""Every preset: what it is to be, and that it trains, on small files in the layouts it asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from small_sets import write_chairs, write_things_halfres

from pwc_exp import checkpoints
from pwc_exp.composition import data_dir
from pwc_exp.training import train

PRESETS = sorted(path.stem for path in data_dir("experiments").glob("*.yaml"))
# What the notebooks that tfoptflow's tables come from really ran: steps, batch, rate at step 0.
TFOPTFLOW = {
    "tfoptflow-lg-multisteps": (600_000, 32, 1e-4),
    "tfoptflow-sm-multisteps": (600_000, 32, 1e-4),
    "tfoptflow-lg-cyclic": (50_000, 32, 1e-5),
    "tfoptflow-sm-cyclic": (50_000, 32, 1e-5),
    "tfoptflow-sm-cyclic-fp16": (50_000, 32, 1e-5),
    "tfoptflow-sm-finetune": (200_000, 8, 1e-5),
}


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small FlyingChairs and a small FlyingThings3D."""
    folder = tmp_path_factory.mktemp("sets")
    write_chairs(folder / "FlyingChairs_release", 3)
    write_things_halfres(folder / "FlyingThings3D_HalfRes", 2)
    return folder


def test_there_is_a_preset_for_every_row_of_the_originals_tables() -> None:
    assert set(TFOPTFLOW) == {preset for preset in PRESETS if preset.startswith("tfoptflow")}
    assert len(PRESETS) == 9


@pytest.mark.parametrize("preset", TFOPTFLOW)
def test_a_preset_of_the_original_has_its_true_batch_and_rates(
    preset: str, configure: Callable[..., Any]
) -> None:
    from pwc_exp.build import build_schedule

    config = configure("train", f"experiment={preset}", "data.root=somewhere")
    rate = float(build_schedule(config.schedule)(0))
    steps, batch_size, first_rate = TFOPTFLOW[preset]
    assert (config.steps, config.batch_size) == (steps, batch_size)
    assert rate == pytest.approx(first_rate)
    assert config.model.name == preset.split("-")[1]
    assert config.data.crop == [256, 448]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_builds_and_takes_two_steps(
    preset: str, sets: Path, configure: Callable[..., Any], tmp_path: Path
) -> None:
    roots = {
        "nvlabs-chairs": sets / "FlyingChairs_release",
        "nvlabs-things": sets / "FlyingThings3D_HalfRes",
        "quickstart": None,
    }
    root = roots.get(preset, sets)
    place = [] if root is None else [f"data.root={root}"]
    small = ("data.crop=[64,64]", "batch_size=1", "val_batch_size=1", "steps=2", "log_every=1")
    fewer = ("eval_samples=1", "picture_samples=0", "xla=false", "tracking=off")
    outputs = f"outputs={tmp_path}"
    config = configure("train", f"experiment={preset}", *place, *small, *fewer, outputs)
    train(config, tmp_path / "run")
    last = checkpoints.latest(tmp_path / "run/checkpoints")
    assert last is not None
    assert checkpoints.load(last).step == 2
