"""Every preset: what it is to be, and that it trains, on small files in the layouts it asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from small_sets import write_chairs, write_hd1k, write_kitti, write_sintel, write_things_halfres

from pwc_exp import checkpoints
from pwc_exp.build import build_loss, build_model, build_optimizer, build_schedule
from pwc_exp.config.composition import data_dir
from pwc_exp.config.training import TrainConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.training.loop import train

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
# NVlabs' protocols: steps, batch, crop, rate at step 0 and in the last round, weights of the loss.
NVLABS = {
    "nvlabs-chairs": (1_200_000, 8, [320, 448], 1e-4, None, None),
    "nvlabs-things": (500_000, 4, [384, 768], 1e-5, None, None),
    "nvlabs-sintel": (300_000, 4, [384, 768], 3e-5, 2e-5, None),
    "nvlabs-kitti": (300_000, 4, [320, 896], 3e-5, 2e-5, [0.08, 0.02, 0.005, 0.0025, 0.001]),
    "pwcnet-plus-sintel": (750_000, 4, [320, 768], 5e-5, 5e-6, None),
    "pwcnet-plus-kitti": (600_000, 4, [320, 896], 4e-5, 1e-5, [0.08, 0.02, 0.005, 0.0025, 0.001]),
}
# Folder of the data within that of all sets; None: generated.
ROOTS = {
    "nvlabs-chairs": "FlyingChairs_release",
    "nvlabs-things": "FlyingThings3D_HalfRes",
    "nvlabs-sintel": "MPI-Sintel",
    "quickstart": None,
    "tune-quickstart": None,
    "pretrain-fast-1": None,
    "pretrain-fast-2": None,
    "pretrain-fast-3": None,
    "pretrain-fast-4": None,
}
SMALL = ("data.crop=[64,64]", "batch_size=2", "val_batch_size=1", "steps=2", "log_every=1")
FEWER = ("eval_samples=1", "picture_samples=0", "xla=false", "tracking=off")


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small one of each data set."""
    folder = tmp_path_factory.mktemp("sets")
    write_chairs(folder / "FlyingChairs_release", 3)
    write_things_halfres(folder / "FlyingThings3D_HalfRes", 2)
    write_sintel(folder / "MPI-Sintel", 3)
    write_kitti(folder / "kitti2012", 3)
    write_kitti(folder / "kitti2015", 3)
    write_hd1k(folder / "HD1K", 3)
    return folder


@pytest.fixture
def configured(configure: Callable[..., Any]) -> Callable[..., TrainConfig]:
    """(preset, folder of the data sets, *overrides) -> its configuration."""

    def of(preset: str, sets: Path, *overrides: str) -> TrainConfig:
        root = ROOTS.get(preset, ".")
        place = [] if root is None else [f"data.root={sets / root}"]
        config: TrainConfig = configure("train", f"experiment={preset}", *place, *overrides)
        return config

    return of


def test_there_is_a_preset_for_every_row_of_the_originals_tables() -> None:
    assert set(TFOPTFLOW) == {preset for preset in PRESETS if preset.startswith("tfoptflow")}


def test_these_are_the_presets() -> None:
    own = {"modern", "modern-small", "quickstart", "tune-quickstart"}
    own |= {f"pretrain-fast-{stage}" for stage in (1, 2, 3, 4)}
    assert set(PRESETS) == {*TFOPTFLOW, *NVLABS, *own}
    assert len(PRESETS) == 20


@pytest.mark.parametrize("preset", TFOPTFLOW)
def test_a_preset_of_the_original_has_its_true_batch_and_rates(
    preset: str, configured: Callable[..., TrainConfig]
) -> None:
    config = configured(preset, Path("somewhere"))
    rate = float(build_schedule(config.schedule)(0))
    steps, batch_size, first_rate = TFOPTFLOW[preset]
    assert (config.steps, config.batch_size) == (steps, batch_size)
    assert rate == pytest.approx(first_rate)
    assert config.model.name == preset.split("-")[1]
    assert config.data.crop == [256, 448]


@pytest.mark.parametrize("preset", NVLABS)
def test_a_preset_of_nvlabs_has_its_batch_crop_rates_and_weights(
    preset: str, configured: Callable[..., TrainConfig]
) -> None:
    config = configured(preset, Path("somewhere"))
    steps, batch_size, crop, first_rate, last_base, weights = NVLABS[preset]
    assert (config.steps, config.batch_size, config.data.crop) == (steps, batch_size, crop)
    schedule = build_schedule(config.schedule)
    assert float(schedule(0)) == pytest.approx(first_rate)
    if last_base is not None:
        assert float(schedule(steps - 150_000)) == pytest.approx(last_base)
    assert config.loss.level_weights == weights
    assert (config.model.name, config.model.level_units) == ("official", "scaled")
    assert (config.optimizer.l2, config.optimizer.l2_biases) == (4e-4, False)


@pytest.mark.parametrize("preset", ["modern", "modern-small", "pretrain-fast-1", "pretrain-fast-2"])
def test_the_modern_recipe_has_what_keeps_the_coarse_levels_alive(
    preset: str, configured: Callable[..., TrainConfig]
) -> None:
    config = configured(preset, Path("somewhere"))
    assert config.model.level_units == "scaled"
    assert config.model.center_frames and config.model.normalize_features
    assert config.optimizer.l2 == 0
    assert config.optimizer.clip_norm == 1


@pytest.fixture(scope="module")
def network() -> Callable[[TrainConfig], PWCNet]:
    """(configuration) -> its network; one for all presets that have the same."""
    built: dict[str, PWCNet] = {}

    def of(config: TrainConfig) -> PWCNet:
        key = repr((config.model, config.precision))
        if key not in built:
            built[key] = build_model(config.model, config.precision)
        return built[key]

    return of


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_builds(
    preset: str,
    configured: Callable[..., TrainConfig],
    network: Callable[[TrainConfig], PWCNet],
) -> None:
    config = configured(preset, Path("somewhere"))
    model = network(config)
    optimizer = build_optimizer(config.optimizer, build_schedule(config.schedule), config.precision)
    optimizer.build(model.trainable_variables)
    flows = {level: tf.zeros([1, 64 >> level, 64 >> level, 2]) for level in model.units}
    loss = build_loss(config.loss, model)(flows, tf.ones([1, 64, 64, 2]), tf.ones([1, 64, 64]))
    assert float(loss) > 0


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_takes_two_steps(
    preset: str, sets: Path, configured: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    shorter = ["schedule.warmup=1"] if preset in ("pretrain-fast-3", "pretrain-fast-4") else []
    config = configured(preset, sets, *SMALL, *FEWER, *shorter, f"outputs={tmp_path}")
    train(config, tmp_path / "run")
    last = checkpoints.latest(tmp_path / "run/checkpoints")
    assert last is not None
    assert checkpoints.load(last).step == 2
