"""The schemas of all commands: their registration with Hydra, their YAML form."""

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.config import commands, training
from pwc_exp.config.data import DATASETS
from pwc_exp.config.fields import Settings
from pwc_exp.config.sweeps import GridConfig, LocalConfig, OptunaConfig
from pwc_exp.config.training import BEST_METRIC, TrainConfig
from pwc_exp.errors import DataError, MissingInputError

CONFIG_FILE = "config.yaml"  # of a run, in its folder
TRANSFER_FILE = "init_from.txt"  # origin of each variable, with init_match=overlap
CHECKPOINTS = "checkpoints"  # folder in that of a run
BEST_KEY = BEST_METRIC  # default best_metric of a run
CHOICES = "choices."  # prefix of TrainConfig.choices
CHOICE = "choice."  # prefix of a group in MLflow
SWEEP_FILE = "sweep.json"  # in the folder of a sweep, above those of its children
ERROR_LOG = "error.log"  # the traceback of a run that failed
LOCK_FILE = ".lock"  # in a run folder; locked while a process trains the run

T = TypeVar("T")
Config = Settings  # of a command

COMMANDS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "evaluate": commands.EvaluateConfig,
    "compare": commands.CompareConfig,
    "leaderboard": commands.LeaderboardConfig,
    "predict": commands.PredictConfig,
    "submit": commands.SubmitConfig,
    "export": commands.ExportConfig,
    "export_weights": commands.ExportWeightsConfig,
    "export_card": commands.CardConfig,
    "serve": commands.ServeConfig,
    "replay": commands.ReplayConfig,
    "sync": commands.SyncConfig,
    "ui": commands.UiConfig,
    "describe": commands.DescribeConfig,
    "benchmark": commands.BenchmarkConfig,
    "benchmark_pipeline": commands.PipelineConfig,
    "data_check": commands.DataCheckConfig,
    "data_stats": commands.DataStatsConfig,
    "data_index": commands.DataIndexConfig,
    "data_show": commands.DataShowConfig,
    "data_halfres": commands.DataHalfresConfig,
    "data_fetch": commands.DataFetchConfig,
}
# Groups whose settings depend on the choice. No two classes of a group have the same settings,
# apart from data sets, which have a name.
VARIANTS: dict[str, dict[str, type]] = {
    "data": {**DATASETS},
    "augment": {
        "basic": training.BasicConfig,
        "heavy": training.HeavyConfig,
        "modern": training.ModernConfig,
    },
    "loss": {
        "multiscale": training.MultiscaleConfig,
        "robust": training.RobustConfig,
        "plus": training.PlusConfig,
    },
    "optimizer": {"adam": training.AdamConfig, "adamw": training.AdamWConfig},
    "schedule": {
        "constant": training.ConstantConfig,
        "multisteps": training.MultistepsConfig,
        "restarts": training.RestartsConfig,
        "cyclic": training.CyclicConfig,
        "cosine": training.CosineConfig,
        "onecycle": training.OneCycleConfig,
    },
}


def register(command: str = "train") -> None:
    """Registers the schemas with Hydra, as `<command>_schema` and `<group>_<choice>_schema`.

    They are outside of the groups, so that they are not offered as choices. Sweepers are choices.
    """
    schemas: dict[str, type] = {**COMMANDS}
    for group, variants in VARIANTS.items():
        schemas |= {f"{group}_{choice}": schema for choice, schema in variants.items()}
    for name, schema in schemas.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConfig)
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaConfig)
    ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConfig)
    own = HydraConf()
    if command == "train":  # in conf/train.yaml, these would override the choice of a preset
        others = [each for each in own.defaults if not {"sweeper", "launcher"} & set(each)]
        own.defaults = [*others, {"sweeper": "grid"}, {"launcher": "local"}]
    ConfigStore.instance().store(group="hydra", name="config", node=own)


def groups(schema: type) -> dict[str, type]:
    """The settings of a schema that have settings of their own, and their schemas."""
    found = {}
    for name, hint in get_type_hints(schema).items():
        for kind in (hint, *get_args(hint)):  # of `Kind | None` too
            if is_dataclass(kind):
                found[name] = cast(type, kind)
    return found


def flatten(config: Config) -> dict[str, Any]:
    """The values by full key: {"model.levels": 6, ...}. Lists are values."""
    return dict(_walk(asdict(config), ""))


def _walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def variants(config: TrainConfig) -> dict[str, str]:
    """The variant of each group that has several: {"data": "sintel", "loss": "robust", …}."""
    kinds = {group: type(getattr(config, group)) for group in VARIANTS}
    return {
        group: next(str(name) for name, kind in known.items() if kind is kinds[group])
        for group, known in VARIANTS.items()
    }


def params(config: TrainConfig) -> dict[str, Any]:
    """The parameters in MLflow: the choices of groups, then all values."""
    chosen = {"model": config.model.name, **variants(config), **config.choices}
    values = {key: value for key, value in flatten(config).items() if not key.startswith(CHOICES)}
    return {**{f"{CHOICE}{group}": name for group, name in chosen.items()}, **values}


def to_yaml(config: Config) -> str:
    """The values as plain YAML, for `load`."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def load(path: Path) -> TrainConfig:
    """Reads the configuration of a run; see `read_as`."""
    return read_as(TrainConfig, path, "a run's configuration")


def read_as(schema: type[T], path: Path, what: str) -> T:
    """Reads the values of a dataclass from YAML, as data: nothing in it is resolved or executed.

    what: description of the file, for messages.

    Raises:
        MissingInputError: it is not there.
        DataError: a key is unknown or missing, or a value is of the wrong type or refused.
    """
    try:
        values = _plain_values(path.read_text(encoding="utf-8"))
        structured = OmegaConf.structured(schema)
        for group in VARIANTS if schema is TrainConfig else ():
            structured[group] = _variant(group, values)
        return cast(T, OmegaConf.to_object(OmegaConf.merge(structured, values)))
    except OSError as error:
        raise MissingInputError(f"{path}: no such file; {what} is needed") from error
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise DataError(f"{path}: not {what}; {error}") from error


def _plain_values(text: str) -> dict[str, Any]:
    # Aliases can expand a small file to any size; interpolations can read the environment.
    if "${" in text or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("interpolations and aliases are refused")
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise ValueError("it must be a mapping")
    return values


def _variant(group: str, values: dict[str, Any]) -> type:
    """The class of the values saved for `group`, by its name or its settings."""
    saved = values.get(group)
    if isinstance(saved, dict):
        if saved.get("name") in VARIANTS[group]:
            return VARIANTS[group][saved["name"]]
        for variant in VARIANTS[group].values():
            if saved.keys() == {setting.name for setting in fields(variant)}:
                return variant
    raise ValueError(f"{group} is none of {', '.join(VARIANTS[group])}. Received: {saved}")
