"""Every configuration that the project ships composes, and values that cannot work are refused."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pwc_exp.config.composition import check, compose_command, data_dir, register
from pwc_exp.config.data import DATASETS, Dataset, FilesConfig
from pwc_exp.config.schema import COMMANDS, VARIANTS, Config, flatten, groups, load, params, to_yaml
from pwc_exp.config.training import CyclicConfig, Precision, TrainConfig
from pwc_exp.errors import ConfigError, DataError, MissingInputError

# What a command or a choice cannot do without.
NEEDS = {
    "evaluate": ["run=somewhere"],
    "compare": ["runs=[a,b]"],
    "export_weights": ["run=somewhere", "out=somewhere.safetensors"],
    "export_card": ["weights=somewhere", "data=synthetic"],
    "predict": ["weights=somewhere", "frames=[a.png,b.png]", "out=somewhere"],
    "submit": ["benchmark=sintel", "check=somewhere"],
    "sync": ["run=somewhere"],
    "data_check": ["data=synthetic"],
    "data_stats": ["data=synthetic"],
    "data_index": ["data=synthetic"],
    "data_halfres": ["root=somewhere", "out=elsewhere"],
    "replay": ["box=somewhere"],
    "data_fetch": ["data=synthetic"],
    "export": ["weights=somewhere", "out=somewhere"],
    "serve": ["weights=somewhere"],
    **{
        f"data={name}": ["data.root=somewhere"]
        for name, schema in DATASETS.items()
        if issubclass(schema, FilesConfig)
    },
    "data=folder": ["data.root=somewhere", "data.frame1=*_1.png", "data.flow=*.flo"],
    "data=csv": ["data.root=somewhere", "data.manifest=pairs.csv"],
    "data=mix": ["data.root=somewhere", "data.parts=[{name:sintel,root:a}]"],
    "data=chairsthingsmix": ["data.root=somewhere"],
    "data=realpairs": ["data.root=somewhere"],
    "model=tiny": ["loss.level_weights=[1,1,1]"],
    "schedule=restarts": ["steps=750_000"],
}
FOLDERS = (path.name for path in data_dir("conf").iterdir() if path.is_dir())
GROUPS = sorted(name for name in FOLDERS if name != "hydra")  # that is Hydra's own: launchers


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    register()


def names(folder: Path) -> list[str]:
    found = sorted(path.stem for path in folder.glob("*.yaml"))
    assert found, f"no files in {folder}"
    return found


def choices(group: str) -> list[str]:
    """The choices of a group for training; precision=auto is for inference."""
    found = [f"{group}={name}" for name in names(data_dir("conf") / group)]
    return [choice for choice in found if choice != "precision=auto"]


def configure(command: str, *overrides: str) -> Config:
    needs = [need for name in (command, *overrides) for need in NEEDS.get(name, [])]
    return check(compose_command(command, [*needs, *overrides]).values, command)


def configure_training(*overrides: str) -> TrainConfig:
    return cast(TrainConfig, configure("train", *overrides))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_file_that_composes_to_its_class(command: str) -> None:
    assert names(data_dir("conf")) == sorted(COMMANDS)
    assert type(configure(command)) is COMMANDS[command]


@pytest.mark.parametrize("choice", [choice for group in GROUPS for choice in choices(group)])
def test_every_choice_of_every_group_composes(choice: str) -> None:
    assert flatten(configure_training(choice))


@pytest.mark.parametrize(
    ("model", "loss"), list(itertools.product(choices("model"), choices("loss"))), ids="".join
)
def test_any_model_has_any_loss(model: str, loss: str) -> None:
    config = configure_training(model, loss)  # whose weights are one for each level
    assert config.model.name == model.partition("=")[2]
    assert type(config.loss) is VARIANTS["loss"][loss.partition("=")[2]]


@pytest.mark.parametrize("preset", names(data_dir("experiments")))
def test_every_preset_is_a_complete_training_run(preset: str) -> None:
    generated = preset.startswith("pretrain") or preset.endswith("quickstart")
    place = [] if generated else ["data.root=somewhere"]
    assert configure_training(f"experiment={preset}", *place) != configure_training()
    assert (
        (data_dir("experiments") / f"{preset}.yaml").read_text().startswith("# @package _global_")
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=0", "steps must be positive"),
        ("steps=1e999", "steps: Value 'inf' of type 'float' could not be converted to Integer"),
        ("seed=-1", "seed must be at least 0"),
        ("eval_samples=0", "eval_samples must be positive"),
        ("batch_size=null", "batch_size"),
        ("data.crop=[250,448]", r"data.crop must be a multiple of 64 .* Received: \[250, 448\]"),
        ("data.crop=[256]", "data.crop must be"),
        ("data=sintel data.val_share=1.5", "data.val_share must be between 0 and 1"),
        ("data.max_zoom=-1", "data.max_zoom must be at least 0"),
        ("schedule=onecycle schedule.total=99 steps=100", "schedule.total must cover"),
        ("schedule=restarts steps=750_001", "schedule.bases must cover the 750,001 steps"),
        ("augment.device=gpu0", "augment.device must be null or such as GPU:0"),
        ("augment=modern augment.max_zoom=0.5", "augment.max_zoom must be at least augment.min_z"),
        ("augment=modern augment.noise=-1", "augment.noise must be at least 0"),
        ("augment=heavy augment.scale=1", "augment.scale must be below 1"),
        ("data.speed_shares=[0.5,0.2,0.2]", "data.speed_shares must be three shares that sum"),
        ("data.speed_bounds=[0.1,0.1,0.2]", "data.speed_bounds must be three increasing"),
        ("data.frame_size=[256,256]", "data.frame_size must be at least data.crop"),
        ("data.max_strain=0.5", "data.max_strain must be at most 0.4"),
        ("data.min_layers=9", "data.min_layers must be 0 to data.layers. Received: 9"),
        ("data.radius=[0.3,0.2]", "data.radius must be two ascending numbers"),
        ("data.jpeg=0", "data.jpeg must be 1 to 100"),
        ("data.occluded=no", "data.occluded"),
        ("+data.kinds.a.noise=0.1", "data.kinds.a.weight must be at least 0. Received: None"),
        ("data=scenes +data.kinds.film.nois=1", "data.kinds.film: Key 'nois' not in 'SceneConfig'"),
        ("data=scenes +data.kinds.film.noise=2", "data.kinds.film: noise must be between 0 and 1"),
        ("+data.kinds.a.weight=0", r"data.kinds must have a weight above 0. Received: \['a'\]"),
        ("augment.flip_up_down=nan", "augment.flip_up_down must be between 0 and 1"),
        ("model.output_level=7", "model.output_level must be at most model.levels"),
        ("model.levels=5", "model.feature_channels needs one number for each of the 5 levels"),
        ("model.context_dilations=[1]", "model.context_dilations needs one number"),
        ("model.warp_border=mirror", r"model.warp_border: .* expected one of \[edge, zero\]"),
        ("loss.level_weights=[1,2]", "loss.level_weights needs one number for each of the 5"),
        ("loss.level_weights=[1,1,1,1,0]", "loss.level_weights must be positive"),
        ("optimizer.beta_1=1", "optimizer.beta_1 must be at least 0 and below 1"),
        ("optimizer.l2=inf", "optimizer.l2 must be at least 0"),
        ("optimizer.clip_norm=0", "optimizer.clip_norm must be positive"),
        ("optimizer=adamw optimizer.epsilon=0", "optimizer.epsilon must be positive"),
        ("optimizer=adamw optimizer.weight_decay=-1", "optimizer.weight_decay must be at least 0"),
        ("optimizer=adamw optimizer.l2=0.1", "optimizer.l2: the chosen optimizer has no such key"),
        ("schedule=constant schedule.rate=0", "schedule.rate must be positive"),
        ("schedule=cyclic schedule.policy=square", "schedule.policy: .* one of .*triangular2"),
        ("schedule=cyclic schedule.gamma=1.1", "schedule.gamma must be above 0 and at most 1"),
        ("schedule=cosine schedule.warmup=9 steps=9", "schedule.warmup must be below schedule.tot"),
        ("schedule=cosine schedule.final=1", "schedule.final must be at most schedule.peak"),
        ("schedule=onecycle schedule.warmup_share=1", "schedule.warmup_share must be at least 0"),
        ("schedule=onecycle schedule.final_divisor=0.5", "schedule.final_divisor must be at least"),
        ("schedule=restarts schedule.halvings=[5,5]", "schedule.halvings must be positive, incre"),
        ("schedule=restarts schedule.round_steps=140_000", r"below 140000 \(round_steps\)"),
        ("schedule.boundaries=[2,1]", "schedule.boundaries must be positive and increasing"),
        ("schedule.boundaries=[1]", "schedule.values needs 2 numbers"),
        ("name=${oc.env:HOME}", "name: interpolations with a resolver are refused"),
        ("model.name=${nosuch}", "model.name: Interpolation key 'nosuch' not found"),
        ("~loss", "loss: a value is needed"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure_training(*override.split())


@pytest.mark.parametrize(
    ("command", "overrides"),
    [
        ("evaluate", ["run=null"]),
        ("predict", ["frames=[]"]),
        ("predict", ["run=x"]),  # beside the weights
        ("describe", ["size=[100,100]"]),
        ("benchmark", ["train_size=[0,64]"]),
    ],
)
def test_a_command_refuses_inputs_that_do_not_fit_together(
    command: str, overrides: list[str]
) -> None:
    with pytest.raises(ConfigError):
        configure(command, *overrides)


def test_a_value_of_a_choice_can_be_overridden_from_the_command_line() -> None:
    config = configure_training("schedule=cyclic", "schedule.peak=1e-3", "precision=fp16")
    assert isinstance(config.schedule, CyclicConfig)
    assert (config.schedule.peak, config.schedule.half_cycle) == (1e-3, 120_000)
    assert config.precision.policy is Precision.fp16


def test_flatten_names_every_value_by_its_full_key() -> None:
    flat = flatten(configure_training("data.crop=[64,128]"))
    assert flat["data.crop"] == [64, 128]
    assert flat["data.layers"] == 8
    assert not any(isinstance(value, dict) for value in flat.values())


def test_variants_of_a_group_differ_in_their_keys_but_for_data_sets_which_have_a_name() -> None:
    for group, variants in VARIANTS.items():
        if group == "data":
            assert {choice: cast(Any, schema).name for choice, schema in variants.items()} == {
                choice: choice for choice in Dataset
            }
            continue
        keys = [
            frozenset(setting.name for setting in dataclasses.fields(cls))
            for cls in variants.values()
        ]
        assert len(set(keys)) == len(variants) > 1


@pytest.mark.parametrize(
    "combination",
    [
        *itertools.product(choices("loss"), ["optimizer=adam"], choices("schedule")),
        ("loss=robust", "optimizer=adamw", "schedule=onecycle"),
    ],
)
def test_a_saved_configuration_loads_as_it_was(
    combination: tuple[str, str, str], tmp_path: Path
) -> None:
    config = configure_training(*combination, "optimizer.epsilon=1e-5", "data=kitti")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load(path) == config


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: train", "name: ${oc.env:HOME}"),
        ("name: train", "name: train\n_target_: os.system"),
        ("name: train", "name: &a train\noutputs: *a"),
        ("name: train", "name: !!python/object/apply:os.getcwd []"),
        ("name: train", "name: [train"),
        ("steps: 1200000", "steps: -1"),
        ("steps: 1200000", "steps: many"),
        ("half_cycle: 120000", "full_cycle: 120000"),
    ],
)
def test_a_saved_configuration_that_was_tampered_with_is_refused(
    old: str, new: str, tmp_path: Path
) -> None:
    text = to_yaml(configure_training("schedule=cyclic"))
    assert old in text
    path = tmp_path / "config.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match="config.yaml"):
        load(path)


@pytest.mark.parametrize("text", ["", "[]", "model: 3", "\x00"])
def test_a_file_that_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="config.yaml"):
        load(path)
    with pytest.raises(MissingInputError, match="config.yaml"):
        load(tmp_path / "nowhere/config.yaml")


def test_the_record_has_the_choices_that_were_made(configure: Callable[..., Any]) -> None:
    recorded = params(configure("train", "augment=none", "tracking=off"))
    assert recorded["choice.augment"] == "none"  # not basic, whose class it has
    assert recorded["choice.tracking"] == "off"
    assert not [key for key in recorded if key.startswith("choices.")]


@pytest.mark.parametrize("command", COMMANDS)
def test_messages_name_a_setting_by_its_whole_key(command: str) -> None:
    for name, kind in groups(COMMANDS[command]).items():
        for variant in (kind, *kind.__subclasses__()):
            assert getattr(variant, "prefix", None) == f"{name}.", variant
