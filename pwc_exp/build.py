"""From a configuration to objects: the one place where names meet code."""

import functools
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras
from tqdm import tqdm

from pwc_exp import machine
from pwc_exp.config import training
from pwc_exp.config.data import (
    BadSample,
    DataConfig,
    FilesConfig,
    MixConfig,
    Occluded,
    SceneConfig,
    Split,
    SyntheticConfig,
)
from pwc_exp.config.training import ModelConfig
from pwc_exp.data import augmentation, datasets, quarantine
from pwc_exp.data.halfres import check_finished
from pwc_exp.data.pipeline import EvalFeed, OnBad, stop
from pwc_exp.data.sample import Sample, Source, take_split
from pwc_exp.data.source import FileSource, MixedSource
from pwc_exp.data.synthetic import SyntheticSource
from pwc_exp.data.synthetic.film import FilmLimits
from pwc_exp.data.synthetic.layers import DrivingLimits, Kind, LookLimits
from pwc_exp.data.synthetic.motion import MotionLimits
from pwc_exp.data.synthetic.outlines import OutlineLimits
from pwc_exp.errors import ConfigError, DataError, UserError
from pwc_exp.flow import losses
from pwc_exp.flow.convolution import uses_tensorflow
from pwc_exp.flow.losses import LossFn
from pwc_exp.flow.tensorflow_ops import on_cpu
from pwc_exp.models.pwcnet import FLOW_SCALE, PWCNet
from pwc_exp.optimizers import Adam, Constant, Cyclic, OneCycle, Restarts

POLICIES = {
    training.Precision.fp32: "float32",
    training.Precision.fp16: "mixed_float16",
    training.Precision.bf16: "mixed_bfloat16",
}  # names that Keras has
NO_BFLOAT16 = (
    "precision=bf16: this processor has no bfloat16 arithmetic; "
    "convolutions are computed in float32."
)
# Independent of the run's seed: runs with different seeds are compared on the same scenes.
SYNTHETIC_SEEDS = {Split.train: 1, Split.val: 2}
# By level: PWC-Net, section 4, "Training".
PAPER_LEVEL_WEIGHTS = {6: 0.32, 5: 0.08, 4: 0.02, 3: 0.01, 2: 0.005, 1: 0.0025}
PLUS_FULL_RESOLUTION_WEIGHT = 0.0005  # PWC-Net+ for Sintel; the other levels are as in the paper


def build_model(config: ModelConfig, precision: training.PrecisionConfig) -> PWCNet:
    """The network with random weights. Sets Keras's global precision.

    For bf16 on a processor without bfloat16 arithmetic, a line on stderr says what is used instead.
    """
    missing = uses_tensorflow() and on_cpu() and not machine.has_bfloat16()
    if missing and precision.policy == training.Precision.bf16:
        _say_that_bfloat16_is_missing()
    keras.config.set_dtype_policy(POLICIES[precision.policy])
    arguments = asdict(config)
    del arguments["name"]
    return PWCNet(**arguments)


@functools.cache  # once per process, though a run may build several networks
def _say_that_bfloat16_is_missing() -> None:
    print(NO_BFLOAT16, file=sys.stderr)


def build_loss(config: training.LossConfig, model: PWCNet) -> LossFn:
    """(flows, target, valid) -> loss."""
    match config:
        case training.MultiscaleConfig():
            loss = losses.multiscale_loss
        case training.RobustConfig(compat=False):
            loss = functools.partial(losses.robust_loss, q=config.q, epsilon=config.epsilon)
        case training.RobustConfig():
            loss = functools.partial(losses.compat_robust_loss, q=config.q, epsilon=config.epsilon)
        case training.PlusConfig(judged=training.Judged.flow):
            loss = functools.partial(losses.plus_loss, q=config.q, epsilon=config.epsilon)
        case training.PlusConfig():
            loss = functools.partial(
                losses.plus_up_loss,
                q=config.q,
                epsilon=config.epsilon,
                up_flow=model.up_flow,
                up_unit=FLOW_SCALE,
            )
        case _:
            raise TypeError(f"loss must be a known configuration. Received: {config}")
    weights = config.level_weights or _published_weights(config, model)
    levels = losses.Levels(weights, model.units, model.upsample_alignment)
    return functools.partial(loss, levels=levels)


def _published_weights(config: training.LossConfig, model: PWCNet) -> list[float]:
    weights = [PAPER_LEVEL_WEIGHTS[level] for level in model.units]
    if isinstance(config, training.PlusConfig):
        weights[-1] = PLUS_FULL_RESOLUTION_WEIGHT
    return weights


def build_schedule(
    config: training.ScheduleConfig,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """step -> learning rate."""
    match config:
        case training.ConstantConfig():
            return Constant(**asdict(config))
        case training.MultistepsConfig():
            return keras.optimizers.schedules.PiecewiseConstantDecay(
                config.boundaries, config.values
            )
        case training.RestartsConfig():
            return Restarts(**asdict(config))
        case training.CyclicConfig():
            return Cyclic(**asdict(config))
        case training.CosineConfig():
            return keras.optimizers.schedules.CosineDecay(
                0.0 if config.warmup else config.peak,
                config.total - config.warmup,
                alpha=config.final / config.peak,
                warmup_target=config.peak if config.warmup else None,
                warmup_steps=config.warmup,
            )
        case training.OneCycleConfig():
            return OneCycle(**asdict(config))
        case _:
            raise TypeError(f"schedule must be a known configuration. Received: {config}")


def build_optimizer(
    config: training.OptimizerConfig,
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
    precision: training.PrecisionConfig,
) -> keras.optimizers.Optimizer:
    """Adam or AdamW; in fp16 with dynamic loss scaling. The training step clips gradients."""
    settings = {"beta_1": config.beta_1, "beta_2": config.beta_2, "epsilon": config.epsilon}
    match config:
        case training.AdamConfig():
            optimizer = Adam(schedule, **settings, name="adam")
        case training.AdamWConfig():
            optimizer = Adam(schedule, **settings, weight_decay=config.weight_decay, name="adamw")
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        case _:
            raise TypeError(f"optimizer must be a known configuration. Received: {config}")
    if precision.policy != training.Precision.fp16:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")


def build_augment(config: training.AugmentConfig) -> augmentation.Augment:
    """The augmentation of training examples."""
    settings = asdict(config)
    del settings["device"]
    match config:
        case training.BasicConfig():
            return functools.partial(augmentation.basic, **settings)
        case training.HeavyConfig():
            return functools.partial(augmentation.heavy, **settings)
        case training.ModernConfig():
            return functools.partial(augmentation.modern, **settings)
        case _:
            raise TypeError(f"augment must be a known configuration. Received: {config}")


def build_source(config: DataConfig, split: Split) -> Source:
    """The examples of a split. For `train`, frames smaller than `data.crop` are refused."""
    match config:
        case SyntheticConfig():
            return _build_synthetic(config, split)
        case MixConfig():
            sources = [build_source(part, split) for part in config.part_configs()]
            # Weights are for training; an evaluation takes every sample once.
            weights = config.weights if split == Split.train else None
            return MixedSource(sources, weights=weights, labels=config.labels)
        case FilesConfig():
            return _build_files(config, split)
        case _:
            raise TypeError(f"data must be a known configuration. Received: {config}")


def index(config: DataConfig) -> list[Sample]:
    """All samples of a data set on disk."""
    if not isinstance(config, FilesConfig) or config.name not in datasets.DATASETS:
        raise ConfigError(f"data: {config.name} is not a data set on disk")
    root = Path(config.root or "")
    check_finished(root)
    return datasets.DATASETS[config.name](root, **index_settings(config))


def index_settings(config: FilesConfig) -> dict[str, Any]:
    """The settings that only this data set has, which its index function takes."""
    shared = {setting.name for setting in fields(FilesConfig)}
    return {name: value for name, value in asdict(config).items() if name not in shared}


def build_skipped(config: DataConfig, source: Source) -> frozenset[int]:
    """Examples that the configured quarantine list excludes.

    Raises:
        DataError: none is left.
    """
    if not isinstance(config, FilesConfig) or config.quarantine is None:
        return frozenset()
    listed = quarantine.read(Path(config.quarantine))
    skipped = frozenset(number for number, name in enumerate(source.ids) if name in listed)
    if len(skipped) == source.size:
        raise DataError(f"No sample of {source.name} is left: {config.quarantine} lists them all.")
    return skipped


def build_on_bad(config: DataConfig, listed: Path | None) -> OnBad:
    """What to do with a sample that cannot be read; skipped ones are listed in `listed`."""
    if not isinstance(config, FilesConfig) or config.on_bad == BadSample["raise"]:
        return stop

    def skip(sample_id: str, error: UserError) -> None:
        # Training and validation may meet the same one.
        if listed is not None and quarantine.append(listed, sample_id, str(error)):
            tqdm.write(f"left out, see {listed}: {sample_id}. {error}")

    return skip


def build_eval_feed(
    config: DataConfig,
    source: Source,
    *,
    batch_size: int,
    multiple: int,
    listed: Path | None,
    limit: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> EvalFeed:
    """Whole examples, each once, without the excluded ones; see `EvalFeed`."""
    return EvalFeed(
        source,
        batch_size=batch_size,
        multiple=multiple,
        limit=limit,
        shard=shard,
        skipped=build_skipped(config, source),
        on_bad=build_on_bad(config, listed),
    )


def _build_synthetic(config: SyntheticConfig, split: Split) -> SyntheticSource:
    # An evaluation on all generated scenes means the held-out ones.
    split = Split.train if split == Split.train else Split.val
    return SyntheticSource(
        seed=SYNTHETIC_SEEDS[split],
        size=config.train_size if split == Split.train else config.val_size,
        frame_size=config.frame_size or config.crop,
        textures=config.textures,
        kinds={
            name: (build_kind(scene), weight)
            for name, (scene, weight) in config.kind_configs().items()
        },
        occluded=config.occluded == Occluded.include,
        cache=config.cache,
    )


def build_kind(config: SceneConfig) -> Kind:
    """The limits of generated scenes of one kind."""
    values = asdict(config)

    def limits(of: type[Any], **renamed: str) -> Any:
        return of(**{name: values[renamed.get(name, name)] for name in of._fields})

    fewest = config.layers if config.min_layers is None else config.min_layers
    return Kind(
        layers=(fewest, config.layers),
        outlines=limits(OutlineLimits),
        look=limits(LookLimits),
        motion=limits(MotionLimits),
        driving=limits(DrivingLimits, share="driving"),
        film=limits(FilmLimits, share="film_share"),
    )


def _build_files(config: FilesConfig, split: Split) -> FileSource:
    chosen = take_split(index(config), split, val_share=config.val_share)
    crop = config.crop if split == Split.train else None
    return FileSource(config.name, chosen, crop=crop, cache=config.cache)
