"""The configuration of each command: groups, and the knobs that belong to the command itself.

One line for each knob, with its unit; one without a default must be given. Sizes are (height,
width).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pwc_exp.checks import check, check_not_negative, check_one_of, check_positive, check_size
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.groups import (
    AugmentConfig,
    CyclicConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    MultiscaleConfig,
    MultistepsConfig,
    OptimizerConfig,
    PrecisionConfig,
    RobustConfig,
    ScheduleConfig,
    Split,
    TrackingConfig,
    list_of,
)


def _check_level_weights(model: ModelConfig, loss: LossConfig) -> None:
    weights = loss.level_weights if isinstance(loss, MultiscaleConfig | RobustConfig) else None
    if weights is None:
        requirement = "must be given for a pyramid of more than 6 levels"
        check(model.levels <= 6, "loss.level_weights", requirement, weights)
        return
    levels = model.levels - model.output_level + 1
    requirement = f"needs one number for each of the {levels} estimated levels"
    check(len(weights) == levels, "loss.level_weights", requirement, weights)


@dataclass(kw_only=True)
class TrainConfig:
    """A training run."""

    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    precision: PrecisionConfig
    tracking: TrackingConfig
    name: str = "train"  # of the run: its folder is <outputs>/<name>/<time>
    outputs: str = "outputs"  # folder of all runs
    seed: int = 0  # of the weights, the order of the samples and the augmentation
    steps: int = 1_200_000  # optimizer updates
    batch_size: int = 8  # examples in one update
    val_batch_size: int = 1  # examples in one evaluation step
    log_every: int = 100  # steps between points of the training metrics
    eval_every: int = 1000  # steps between evaluations
    save_every: int = 1000  # steps between checkpoints
    keep_best: int = 3  # checkpoints kept for their validation AEPE, beside the newest
    eval_samples: int | None = None  # at most so many validation samples per evaluation; null: all
    picture_samples: int = 4  # validation samples drawn at each evaluation
    xla: bool = True  # let XLA compile the decoder for evaluation, where that pays

    def __post_init__(self) -> None:
        intervals = ("log_every", "eval_every", "save_every")
        check_positive("", self, "steps", "batch_size", "val_batch_size", *intervals)
        check_not_negative("", self, "seed", "keep_best", "picture_samples")
        if self.eval_samples is not None:
            check_positive("", self, "eval_samples")
        check_size("data.crop", self.data.crop, 2**self.model.levels)
        _check_level_weights(self.model, self.loss)


@dataclass(kw_only=True)
class EvaluateConfig:
    """Errors of a run's, weights' or files' flow on a data set."""

    model: ModelConfig
    data: DataConfig | None = None  # null: that of the run
    precision: PrecisionConfig
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # file with weights for `model`
    predictions: str | None = None  # folder with flow files named by sample
    split: Split = Split.all  # samples to evaluate
    batch_size: int = 1  # samples in one step
    out: str | None = None  # folder for the tables and pictures
    xla: bool = True  # let XLA compile the decoder, where that pays

    def __post_init__(self) -> None:
        check_positive("", self, "batch_size")
        check_one_of(self, "run", "weights", "predictions")
        known = self.data is not None or self.run is not None
        check(known, "data", "must be chosen if no run says which data", self.data)


@dataclass(kw_only=True)
class PredictConfig:
    """Flow of consecutive frames, as files."""

    model: ModelConfig
    precision: PrecisionConfig
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # file with weights for `model`
    frames: list[str]  # image files, at least two: consecutive frames
    out: str  # folder for the flow files and pictures
    xla: bool = False  # let XLA compile the decoder, where that pays: about 10 s per frame size

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        check(len(self.frames) >= 2, "frames", "must name at least two files", self.frames)


@dataclass(kw_only=True)
class DescribeConfig:
    """A table of the layers of a model."""

    model: ModelConfig
    size: list[int] = list_of(448, 1024)  # of the frames (height, width), in pixels

    def __post_init__(self) -> None:
        check_size("size", self.size, 2**self.model.levels)


@dataclass(kw_only=True)
class BenchmarkConfig:
    """Time of inference and of training steps."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    inference_size: list[int] = list_of(448, 1024)  # of the frames (height, width), in pixels
    train_size: list[int] = list_of(384, 448)  # of the frames (height, width), in pixels
    train_batch_size: int = 4  # examples in one update
    repeats: int = 5  # timed calls of each kind
    xla: bool = True  # let XLA compile the decoder, where that pays

    def __post_init__(self) -> None:
        check_positive("", self, "train_batch_size", "repeats")
        check_size("inference_size", self.inference_size, 2**self.model.levels)
        check_size("train_size", self.train_size, 2**self.model.levels)
        _check_level_weights(self.model, self.loss)


CONFIG_FILE = "config.yaml"  # of a run, in its folder

Config = TrainConfig | EvaluateConfig | PredictConfig | DescribeConfig | BenchmarkConfig

COMMANDS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "describe": DescribeConfig,
    "benchmark": BenchmarkConfig,
}
# Groups whose knobs depend on the choice. No two classes of a group have the same knobs.
VARIANTS: dict[str, dict[str, type]] = {
    "loss": {"multiscale": MultiscaleConfig, "robust": RobustConfig},
    "schedule": {"multisteps": MultistepsConfig, "cyclic": CyclicConfig},
}


def register() -> None:
    """Makes the schemas known to Hydra, as `<command>_schema` and `<choice>_schema`.

    They lie outside of the groups, so that they are not offered as choices.
    """
    schemas: dict[str, type] = {**COMMANDS}
    for choices in VARIANTS.values():
        schemas |= choices
    for name, schema in schemas.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def flatten(config: Config) -> dict[str, Any]:
    """The values by full key: {"model.levels": 6, ...}. Lists are values."""

    def walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(walk(asdict(config), ""))


def to_yaml(config: Config) -> str:
    """The values as plain YAML, which `load` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def load(path: Path) -> TrainConfig:
    """Reads the configuration that a run saved, as data: nothing in it is resolved or executed."""
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


def _plain_values(text: str) -> dict[str, Any]:
    # Aliases can grow a small file to any size; interpolations can read the environment.
    if "${" in text or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("interpolations and aliases are refused")
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise ValueError("it must be a mapping")
    return values


def _variant(group: str, values: dict[str, Any]) -> type:
    """The class that has exactly the knobs that were saved for `group`."""
    saved = values.get(group)
    for variant in VARIANTS[group].values():
        if isinstance(saved, dict) and saved.keys() == {knob.name for knob in fields(variant)}:
            return variant
    raise ValueError(f"{group} is none of {', '.join(VARIANTS[group])}. Received: {saved}")
