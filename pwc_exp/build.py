"""From a configuration to objects: the one place where names meet code."""

import functools
from dataclasses import asdict
from pathlib import Path
from typing import assert_never

import keras

from pwc_exp.data import augment, datasets
from pwc_exp.data.file_source import FileSource
from pwc_exp.data.sample import Sample, Source
from pwc_exp.data.splits import take_split
from pwc_exp.data.synthetic import SyntheticSource
from pwc_exp.flow import losses
from pwc_exp.groups import (
    AugmentConfig,
    CyclicConfig,
    DataConfig,
    Dataset,
    LossConfig,
    ModelConfig,
    MultiscaleConfig,
    MultistepsConfig,
    OptimizerConfig,
    Precision,
    PrecisionConfig,
    RobustConfig,
    ScheduleConfig,
    Split,
)
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.schedules import Cyclic
from pwc_exp.steps import LossFn

POLICIES = {Precision.fp32: "float32", Precision.fp16: "mixed_float16"}  # names that Keras has
# A run's seed does not choose the scenes: runs of different seeds are compared on the same ones.
SYNTHETIC_SEEDS = {Split.train: 1, Split.val: 2}
# PWC-Net, section 4, "Training": by level.
PAPER_LEVEL_WEIGHTS = {6: 0.32, 5: 0.08, 4: 0.02, 3: 0.01, 2: 0.005, 1: 0.0025}


def build_model(config: ModelConfig, precision: PrecisionConfig) -> PWCNet:
    """The network with fresh weights. Sets Keras's global precision."""
    keras.config.set_dtype_policy(POLICIES[precision.policy])
    arguments = asdict(config)
    del arguments["name"]
    return PWCNet(**arguments)


def build_loss(config: LossConfig, model: PWCNet) -> LossFn:
    """(flows, target, valid) -> loss."""
    match config:
        case MultiscaleConfig():
            loss = losses.multiscale_loss
        case RobustConfig(compat=False):
            loss = functools.partial(losses.robust_loss, q=config.q, epsilon=config.epsilon)
        case RobustConfig():
            loss = functools.partial(losses.compat_robust_loss, q=config.q, epsilon=config.epsilon)
        case _:
            raise TypeError(f"loss must be a known configuration. Received: {config}")
    weights = config.level_weights or [PAPER_LEVEL_WEIGHTS[level] for level in model.units]
    return functools.partial(
        loss, level_weights=weights, units=model.units, alignment=model.upsample_alignment
    )


def build_schedule(config: ScheduleConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """step -> learning rate."""
    match config:
        case MultistepsConfig():
            return keras.optimizers.schedules.PiecewiseConstantDecay(
                config.boundaries, config.values
            )
        case CyclicConfig():
            return Cyclic(**asdict(config))
        case _:
            raise TypeError(f"schedule must be a known configuration. Received: {config}")


def build_optimizer(
    config: OptimizerConfig,
    schedule: keras.optimizers.schedules.LearningRateSchedule | float,
    precision: PrecisionConfig,
) -> keras.optimizers.Optimizer:
    """Adam; in fp16 with a loss scale that adapts."""
    adam = keras.optimizers.Adam(
        schedule,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
        name="adam",
    )
    if precision.policy == Precision.fp32:
        return adam
    return keras.optimizers.LossScaleOptimizer(adam, name="loss_scale")


def build_augment(config: AugmentConfig) -> augment.Augment:
    """What changes training examples."""
    return functools.partial(augment.basic, **asdict(config))


def build_source(config: DataConfig, split: Split) -> Source:
    """The examples of a split. For `train`, frames smaller than `data.crop` are refused."""
    if config.name == Dataset.synthetic:
        # All generated scenes can be made again, but to evaluate on means the held-out ones.
        split = Split.train if split == Split.train else Split.val
        knobs = asdict(config.synthetic)
        sizes = {Split.train: knobs.pop("train_size"), Split.val: knobs.pop("val_size")}
        return SyntheticSource(
            seed=SYNTHETIC_SEEDS[split], size=sizes[split], frame_size=config.crop, **knobs
        )
    samples = take_split(index(config), split, val_share=config.val_share)
    crop = config.crop if split == Split.train else None
    return FileSource(config.name, samples, crop=crop)


def index(config: DataConfig) -> list[Sample]:
    """All samples of a data set on disk that have ground truth."""
    root = Path(config.root or "")
    match config.name:
        case Dataset.sintel:
            return datasets.sintel(root, render_pass=config.render_pass)
        case Dataset.kitti:
            return datasets.kitti(root, truth=config.truth)
        case Dataset.flyingchairs:
            return datasets.flyingchairs(root)
        case Dataset.middlebury:
            return datasets.middlebury(root)
        case Dataset.synthetic:
            raise ValueError("the synthetic data set has no files")
        case _:
            assert_never(config.name)
