"""The schemas of all commands: their registration with Hydra, their YAML form."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.config.commands import (
    BenchmarkConfig,
    CardConfig,
    CompareConfig,
    DataCheckConfig,
    DataFetchConfig,
    DataHalfresConfig,
    DataIndexConfig,
    DataShowConfig,
    DataStatsConfig,
    DescribeConfig,
    EvaluateConfig,
    ExportConfig,
    ExportWeightsConfig,
    LeaderboardConfig,
    PipelineConfig,
    PredictConfig,
    ReplayConfig,
    ServeConfig,
    SubmitConfig,
    SyncConfig,
    UiConfig,
)
from pwc_exp.config.data import DATASETS
from pwc_exp.config.sweeps import GridConfig, LocalConfig, OptunaConfig
from pwc_exp.config.training import (
    BEST_METRIC,
    AdamConfig,
    AdamWConfig,
    BasicConfig,
    ConstantConfig,
    CosineConfig,
    CyclicConfig,
    HeavyConfig,
    ModernConfig,
    MultiscaleConfig,
    MultistepsConfig,
    OneCycleConfig,
    PlusConfig,
    RestartsConfig,
    RobustConfig,
    TrainConfig,
)
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
Config = (
    TrainConfig
    | EvaluateConfig
    | CompareConfig
    | LeaderboardConfig
    | PredictConfig
    | SubmitConfig
    | ExportConfig
    | ExportWeightsConfig
    | CardConfig
    | ServeConfig
    | ReplayConfig
    | SyncConfig
    | UiConfig
    | DescribeConfig
    | BenchmarkConfig
    | PipelineConfig
    | DataCheckConfig
    | DataStatsConfig
    | DataIndexConfig
    | DataShowConfig
    | DataHalfresConfig
    | DataFetchConfig
)

COMMANDS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "leaderboard": LeaderboardConfig,
    "predict": PredictConfig,
    "submit": SubmitConfig,
    "export": ExportConfig,
    "export_weights": ExportWeightsConfig,
    "export_card": CardConfig,
    "serve": ServeConfig,
    "replay": ReplayConfig,
    "sync": SyncConfig,
    "ui": UiConfig,
    "describe": DescribeConfig,
    "benchmark": BenchmarkConfig,
    "benchmark_pipeline": PipelineConfig,
    "data_check": DataCheckConfig,
    "data_stats": DataStatsConfig,
    "data_index": DataIndexConfig,
    "data_show": DataShowConfig,
    "data_halfres": DataHalfresConfig,
    "data_fetch": DataFetchConfig,
}
# Groups whose settings depend on the choice. No two classes of a group have the same settings,
# apart from data sets, which have a name.
VARIANTS: dict[str, dict[str, type]] = {
    "data": {**DATASETS},
    "augment": {"basic": BasicConfig, "heavy": HeavyConfig, "modern": ModernConfig},
    "loss": {"multiscale": MultiscaleConfig, "robust": RobustConfig, "plus": PlusConfig},
    "optimizer": {"adam": AdamConfig, "adamw": AdamWConfig},
    "schedule": {
        "constant": ConstantConfig,
        "multisteps": MultistepsConfig,
        "restarts": RestartsConfig,
        "cyclic": CyclicConfig,
        "cosine": CosineConfig,
        "onecycle": OneCycleConfig,
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
    ConfigStore.instance().store(group="hydra", name="config", node=_hydra_of(command))


def _hydra_of(command: str) -> HydraConf:
    """Hydra's own configuration, with our sweeper and launcher as the defaults of `train`.

    In conf/train.yaml, they would override the choice of a preset.
    """
    own = HydraConf()
    if command == "train":
        ours = ({"sweeper": "grid"}, {"launcher": "local"})
        names = [name for choice in ours for name in choice]
        own.defaults = [
            *(entry for entry in own.defaults if not any(name in entry for name in names)),
            *ours,
        ]
    return own


def flatten(config: Config) -> dict[str, Any]:
    """The values by full key: {"model.levels": 6, ...}. Lists are values."""

    def walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(walk(asdict(config), ""))


def variants(config: TrainConfig) -> dict[str, str]:
    """The variant of each group that has several: {"data": "sintel", "loss": "robust", …}.

    By the name of a data set, otherwise by the class.
    """

    def choice(values: Any, variants: dict[str, type]) -> str:
        name = getattr(values, "name", None)
        if name in variants:
            return str(name)
        return next(known for known, variant in variants.items() if type(values) is variant)

    return {group: choice(getattr(config, group), known) for group, known in VARIANTS.items()}


def params(config: TrainConfig) -> dict[str, Any]:
    """The parameters in MLflow: the choices of groups, then all values."""
    chosen = {"model": config.model.name, **variants(config), **config.choices}
    values = {key: value for key, value in flatten(config).items() if not key.startswith(CHOICES)}
    return {**{f"{CHOICE}{group}": name for group, name in chosen.items()}, **values}


def to_yaml(config: Config) -> str:
    """The values as plain YAML, for `load`."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def load(path: Path) -> TrainConfig:
    """Reads the configuration of a run as data: nothing in it is resolved or executed."""
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; a run's configuration is needed")
    try:
        values = _plain_values(path.read_text(encoding="utf-8"))
        schema = OmegaConf.structured(TrainConfig)
        for group in VARIANTS:
            schema[group] = _variant(group, values)
        return cast(TrainConfig, OmegaConf.to_object(OmegaConf.merge(schema, values)))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise DataError(f"{path}: not a run's configuration; {error}") from error


def read_as(schema: type[T], path: Path, what: str) -> T:
    """Reads the values of a dataclass from YAML, as data: nothing in it is resolved or executed.

    what: description of the file, for messages.

    Raises:
        MissingInputError: it is not there.
        DataError: a key is unknown or missing, or a value is of the wrong type or refused.
    """
    try:
        values = _plain_values(path.read_text(encoding="utf-8"))
        return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values)))
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
