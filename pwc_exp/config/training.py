"""A network, and a training run: augmentation, loss, optimizer, schedule, precision, validation."""

import re
from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pwc_exp.config.data import (
    DATASETS,
    DataConfig,
    FilesConfig,
    MixConfig,
    Split,
    check_dataset,
    part_config,
)
from pwc_exp.config.fields import (
    INFINITY,
    Settings,
    below_one,
    check,
    check_size,
    list_of,
    nearest,
    not_negative,
    positive,
    share,
)
from pwc_exp.errors import ConfigError

# Levels whose flow the context network refines.
ContextLevels = StrEnum("ContextLevels", ["output", "all", "none"])
# What warping reads outside of the second frame.
WarpBorder = StrEnum("WarpBorder", ["edge", "zero"])
# How convolutions of stride 2 are padded.
StridePadding = StrEnum("StridePadding", ["same", "symmetric"])
# Which points of two grids coincide when a flow is enlarged.
Alignment = StrEnum("Alignment", ["corner", "center"])
# Units of the flow inside the network: pixels of its level, or full-resolution pixels / 20.
LevelUnits = StrEnum("LevelUnits", ["grid", "scaled"])


class ModelConfig(Settings):
    """A PWC-Net."""

    prefix: ClassVar[str] = "model."

    name: str  # of the variant, in names of runs and tables
    levels: int = positive(6)  # depth of the pyramid: the coarsest level has stride 2**levels
    output_level: int = positive(2)  # finest level that estimates flow: stride 2**output_level
    search_range: int = positive(4)  # cost-volume radius, in pixels of its level
    feature_channels: list[int] = positive([16, 32, 64, 96, 128, 196])  # of levels 1 to `levels`
    pyramid_convolutions: int = 3  # at each of these levels: 3, or 2 as in NVlabs' PWCDCNet_old
    estimator_channels: list[int] = positive([128, 128, 96, 64, 32])  # layers of the flow estimator
    context_channels: list[int] = positive([128, 128, 128, 96, 64, 32])  # of the context network
    context_dilations: list[int] = positive([1, 2, 4, 8, 16, 1])  # one for each context_channels
    dense: bool  # each estimator layer also sees what the layers before it saw
    context: ContextLevels  # levels that the context network refines
    warp_border: WarpBorder  # what warping reads outside of the second frame
    stride_padding: StridePadding  # padding of the convolutions of stride 2
    upsample_alignment: Alignment  # of the output level's flow enlarged to full resolution
    level_units: LevelUnits  # units of the flow inside the network
    center_frames: bool = False  # frames in [-1, 1], so that coarse levels learn early
    normalize_features: bool = False  # before comparing frames, so that learning starts early

    def __post_init__(self) -> None:
        super().__post_init__()
        convolutions, levels = self.pyramid_convolutions, self.levels
        self.require(convolutions in (2, 3), "pyramid_convolutions", "must be 2 or 3")
        requirement = f"must be at most model.levels ({levels})"
        self.require(self.output_level <= levels, "output_level", requirement)
        for name, length, of in (
            ("feature_channels", levels, "levels"),
            ("context_dilations", len(self.context_channels), "context_channels"),
        ):
            requirement = f"needs one number for each of the {length} {of}"
            self.require(len(getattr(self, name)) == length, name, requirement)


class NetworkChoice(NamedTuple):
    """Where a network comes from; both None: the weights that ship."""

    run: str | None
    weights: str | None


class NetworkConfig(Settings):
    """A trained network: its weights and, where these do not say it, its model."""

    model: ModelConfig | None = None  # null: the one that the weights are for
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # name of shipped weights, a run, a checkpoint or a file

    @property
    def uses_network(self) -> bool:
        """Whether the command needs a network at all."""
        return True

    @property
    def networks(self) -> list[NetworkChoice]:
        """The networks that the command needs."""
        return [NetworkChoice(self.run, self.weights)] if self.uses_network else []


class AugmentConfig(Settings):
    """Augmentation of training examples; probabilities are per example."""

    prefix: ClassVar[str] = "augment."

    device: str | None = None  # where batches are augmented, such as GPU:0; null: CPU, prefetched
    flip_left_right: float = share(0.0)  # probability of a horizontal flip
    flip_up_down: float = share(0.0)  # probability of a vertical flip

    def __post_init__(self) -> None:
        super().__post_init__()
        known = re.fullmatch(r"(CPU|GPU)(:\d+)?", self.device or "CPU") is not None
        self.require(known, "device", "must be null or such as GPU:0")


class BasicConfig(AugmentConfig):
    """Random crops and flips."""


class HeavyConfig(AugmentConfig):
    """As tfoptflow: random crops and flips, translation of frame 2, scaling of both frames."""

    translate_probability: float = share(0.5)  # probability of a translation of frame 2
    translate: float = share(0.05)  # largest translation, as a share of the crop's sides
    scale_probability: float = share(0.5)  # probability of scaling both frames about the centre
    scale: float = share(0.05)  # 0.05: by a factor of 0.95 to 1.05

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.scale < 1, "scale", "must be below 1")


class ModernConfig(AugmentConfig):
    """As FlowNet2, RAFT and AutoFlow: geometry, relative motion, photometry, erased patches."""

    geometry_probability: float = share()  # of zoom to relative_zoom; otherwise a random crop
    min_zoom: float = positive()  # smallest factor of both frames
    max_zoom: float = positive()  # largest factor of both frames; above 1 enlarges
    squeeze: float = not_negative()  # largest log of the factor of width over height
    rotate: float = not_negative()  # of both frames, degrees, in either direction
    relative_translate: float = share()  # of frame 2, as a share of the crop's sides
    relative_rotate: float = not_negative()  # of frame 2, degrees, in either direction
    relative_zoom: float = not_negative()  # of frame 2, largest log of the factor
    asymmetry: float = share()  # probability that the frames' photometry is changed independently
    brightness: float = share()  # 0.4: by a factor of 0.6 to 1.4
    contrast: float = share()  # 0.4: by a factor of 0.6 to 1.4 about the mean luma
    saturation: float = share()  # 0.4: by a factor of 0.6 to 1.4
    hue: float = not_negative()  # degrees, in either direction
    gamma: float = not_negative()  # largest log of the exponent, either way
    noise: float = not_negative()  # largest standard deviation, of the range [0, 1]
    eraser_probability: float = share()  # probability of erased patches in frame 2
    eraser_patches: int = positive()  # largest number of patches
    eraser_size: float = positive()  # longest side of a patch, in pixels; the shortest is half

    def __post_init__(self) -> None:
        super().__post_init__()
        requirement = f"must be at least augment.min_zoom ({self.min_zoom})"
        self.require(self.min_zoom <= self.max_zoom, "max_zoom", requirement)


# How the height of the triangles changes, as in Smith's paper.
CyclicPolicy = StrEnum("CyclicPolicy", ["triangular", "triangular2", "exp_range"])
# Interpolation between learning rates.
Anneal = StrEnum("Anneal", ["linear", "cosine"])
# What the loss of a coarse level is computed from: its flow, or its upsampled flow.
Judged = StrEnum("Judged", ["flow", "up_flow"])
# Number format of the forward and backward pass.
Precision = StrEnum("Precision", ["fp32", "fp16", "bf16"])
# How the weights of `init_from` must match: all of them, or those that both networks have.
InitMatch = StrEnum("InitMatch", ["exact", "overlap"])
# Number format of inference; `auto`: by the processor and the card of the weights.
InferencePrecision = StrEnum("InferencePrecision", ["auto", "fp32", "fp16", "bf16"])


class InferencePrecisionConfig(Settings):
    """Number format of inference."""

    prefix: ClassVar[str] = "precision."

    policy: InferencePrecision | None = None  # null: that of the run, else fp32


class LossConfig(Settings):
    """A training loss: MultiscaleConfig, RobustConfig or PlusConfig."""

    prefix: ClassVar[str] = "loss."

    level_weights: list[float] | None = positive(None)  # coarse to fine; null: as published


class MultiscaleConfig(LossConfig):
    """Sum of the L2 errors of all levels, for training from scratch."""


class RobustConfig(LossConfig):
    """Sum of (L1 error + epsilon)**q of all levels, for fine-tuning."""

    q: float = positive(0.4)  # exponent; below 1, outliers count less
    epsilon: float = positive(0.01)  # added to the error, in units of the loss
    compat: bool = False  # compute it exactly as tfoptflow does


class PlusConfig(LossConfig):
    """PWC-Net+: a robust loss of the finest flow at full resolution, beside the other levels."""

    judged: Judged  # coarse levels: L2 error of flow, or robust error of up_flow
    q: float = positive(0.4)  # exponent; below 1, outliers count less
    epsilon: float = positive(0.01)  # added to the error, in units of the loss


class OptimizerConfig(Settings):
    """An optimizer: AdamConfig or AdamWConfig."""

    prefix: ClassVar[str] = "optimizer."

    beta_1: float = below_one(0.9)  # decay of the mean of the gradients
    beta_2: float = below_one(0.999)  # decay of the mean of their squares
    epsilon: float = positive(1e-8)  # added to the denominator of the update
    clip_norm: float | None = positive(None)  # largest global norm of gradients; null: any

    @property
    def l2(self) -> float:
        """Coefficient of the L2 penalty; 0 unless a variant has this setting."""
        return 0.0

    @property
    def l2_biases(self) -> bool:
        """Whether biases are regularized; no effect unless a variant has this setting."""
        return False


class AdamConfig(OptimizerConfig):
    """Adam with L2 regularization in the loss, as in the original."""

    l2: float = not_negative(4e-4)  # coefficient of the L2 penalty, half the sum of squared weights
    l2_biases: bool = True  # regularize biases, too


class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay."""

    weight_decay: float = not_negative(1e-4)  # share of a kernel, times the rate, per update


class ScheduleConfig(Settings):
    """A learning-rate schedule: one of the classes below."""

    prefix: ClassVar[str] = "schedule."


class ConstantConfig(ScheduleConfig):
    """A constant rate."""

    rate: float = positive()  # learning rate


class MultistepsConfig(ScheduleConfig):
    """Piecewise constant."""

    boundaries: list[int]  # steps at which the rate changes, increasing
    values: list[float] = positive()  # learning rates: one before each boundary, one after the last

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = sorted({step for step in self.boundaries if step > 0})
        requirement = "must be positive and increasing, at least one"
        self.require(self.boundaries == steps != [], "boundaries", requirement)
        needed = len(self.boundaries) + 1
        requirement = f"needs {needed} numbers, one more than schedule.boundaries"
        self.require(len(self.values) == needed, "values", requirement)


class CyclicConfig(ScheduleConfig):
    """Triangles between base and peak."""

    base: float = positive()  # lowest learning rate
    peak: float = positive()  # highest learning rate of the first triangle
    half_cycle: int | None = positive(None)  # steps from base to peak; null: a tenth of `steps`
    policy: CyclicPolicy = CyclicPolicy.triangular2  # triangular2: the height halves each cycle
    gamma: float = 0.99994  # factor of the height per step, for policy=exp_range

    def __post_init__(self) -> None:
        super().__post_init__()
        requirement = f"must be at least schedule.base ({self.base})"
        self.require(self.base <= self.peak, "peak", requirement)
        self.require(0 < self.gamma <= 1, "gamma", "must be above 0 and at most 1")


class CosineConfig(ScheduleConfig):
    """Linear warm-up, then half a cosine down to the final rate, which is kept."""

    peak: float = positive()  # highest learning rate
    final: float = not_negative()  # learning rate at the end
    warmup: int = not_negative(0)  # steps from 0 to the peak; 0: starts at the peak
    total: int = positive()  # steps until the final rate, including the warm-up

    def __post_init__(self) -> None:
        super().__post_init__()
        requirement = f"must be at most schedule.peak ({self.peak})"
        self.require(self.final <= self.peak, "final", requirement)
        requirement = f"must be below schedule.total ({self.total})"
        self.require(self.warmup < self.total, "warmup", requirement)


class OneCycleConfig(ScheduleConfig):
    """Up to the peak once, then down to almost 0 (Smith and Topin)."""

    peak: float = positive()  # highest learning rate
    total: int = positive()  # steps of the whole cycle
    warmup_share: float = below_one()  # share of `total` before the peak
    start_divisor: float  # the first rate is peak / start_divisor
    final_divisor: float  # the last rate is the first / final_divisor
    anneal: Anneal  # shape of both phases

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start_divisor", "final_divisor"):
            self.require(1 <= getattr(self, name) < INFINITY, name, "must be at least 1")


class RestartsConfig(ScheduleConfig):
    """Rounds of equal length, each with its own first rate, which is halved at given steps."""

    bases: list[float] = positive()  # learning rate at the start of each round
    round_steps: int = positive()  # steps of a round
    halvings: list[int]  # steps of a round at which its rate is halved, increasing

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = sorted({step for step in self.halvings if 0 < step < self.round_steps})
        requirement = f"must be positive, increasing and below {self.round_steps} (round_steps)"
        self.require(self.halvings == steps, "halvings", requirement)


def check_covers(schedule: ScheduleConfig, steps: int) -> None:
    """Refuses a schedule that ends before a run of `steps`."""
    match schedule:
        case CosineConfig() | OneCycleConfig():
            key, length = "schedule.total", schedule.total
        case RestartsConfig():
            key, length = "schedule.bases", schedule.round_steps * len(schedule.bases)
        case _:
            return
    check(length >= steps, key, f"must cover the {steps:,} steps of the run", f"{length:,}")


class PrecisionConfig(Settings):
    """Number format of the computation; weights and metrics are always float32."""

    prefix: ClassVar[str] = "precision."

    policy: Precision  # fp16, with dynamic loss scaling, and bf16 are mixed precision


# What to do when a loss or gradient is not finite. Its update is never applied.
OnNonFinite = StrEnum("OnNonFinite", ["stop", "skip"])
# What to do when training fails to start.
OnStuck = StrEnum("OnStuck", ["warn", "reseed"])


class DevicesConfig(Settings):
    """The devices that a batch is split over."""

    prefix: ClassVar[str] = "devices."

    gpus: list[int] | None = None  # numbers of the GPUs to use; null: all
    cpus: int = positive(1)  # virtual CPU devices, to test multi-device code without GPUs
    cluster: bool = True  # join the cluster described by TF_CONFIG or Slurm, if any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus is not None:
            different = len(set(self.gpus)) == len(self.gpus) and min(self.gpus, default=0) >= 0
            self.require(different, "gpus", "must be different numbers, from 0")


class TrackingConfig(Settings):
    """Where metrics and pictures are logged, beside the run folder."""

    prefix: ClassVar[str] = "tracking."

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = "pwc_exp"  # MLflow experiment
    mlflow: bool = True  # log to MLflow
    tensorboard: bool = True  # write TensorBoard events into the run folder
    required: bool = False  # refuse to start while MLflow cannot be reached

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.mlflow or not self.required, "required", "needs tracking.mlflow=true")


class DestinationConfig(Settings):
    """Where a finished run is logged to."""

    prefix: ClassVar[str] = "tracking."

    uri: str | None = None  # MLflow; null: that of the run
    experiment: str | None = None  # MLflow experiment; null: that of the run


class SearchConfig(Settings):
    """Where runs are searched."""

    prefix: ClassVar[str] = "tracking."

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = TrackingConfig.experiment  # MLflow experiment


OWN = "val"  # metric prefix of the held-out samples; of a validation set: val/<name>
METRICS = ("aepe", "aepe_per_image", "fl_all", "outlier_3px")  # of each set; lower is better
BEST_METRIC = f"{OWN}/aepe"  # ranks checkpoints and runs by default
MEAN_AEPE = f"{OWN}/mean/aepe"  # geometric mean over the data sets of `validation`, if several
_NAME = re.compile(r"[\w.-]+")


class ValidationSet(NamedTuple):
    """A data set to validate on. prefix: of its metrics and pictures, val/<name>."""

    prefix: str
    data: DataConfig
    split: Split


def _validation_set(key: str, entry: Any, root: str | None, data: DataConfig) -> ValidationSet:
    """The data set of an entry: a name, `name:root`, or a mapping.

    A mapping has name, root, as (its name in metrics), split and the settings of that data set.
    """
    if isinstance(entry, str):
        name, colon, place = entry.partition(":")
        entry = {"name": name, **({"root": place} if colon else {})}
    check_dataset(key, entry)
    values = {"crop": data.crop, **entry}
    called = str(values.pop("as", values["name"]))
    check(bool(_NAME.fullmatch(called)), f"{key}.as", "must be letters, digits, _, . or -", called)
    split = str(values.pop("split", Split.all))
    check(split in list(Split), f"{key}.split", f"must be one of {', '.join(Split)}", split)
    schema = DATASETS[values["name"]]
    if issubclass(schema, FilesConfig) and "root" not in values:
        if root is None or not schema.folder:
            more = f", or validation_root=<folder with {schema.folder}>" if schema.folder else ""
            raise ConfigError(
                f"{key}: {values['name']} needs its root, the folder that holds "
                f"{schema.first_entries}: validation=[{values['name']}:<root>]{more}"
            )
        values["root"] = schema.folder
    return ValidationSet(f"{OWN}/{called}", part_config(key, values, root=root), Split(split))


def roots_of(sets: Sequence[ValidationSet]) -> dict[str, Path]:
    """The roots of the sets that have one, by the prefix of their metrics."""
    return {
        each.prefix: Path(each.data.root or "")
        for each in sets
        if isinstance(each.data, FilesConfig)
    }


def check_level_weights(model: ModelConfig, loss: LossConfig) -> None:
    """Refuses anything but one weight for each level that estimates flow."""
    weights = loss.level_weights
    if weights is None:
        requirement = "must be given for a pyramid of more than 6 levels"
        check(model.levels <= 6, "loss.level_weights", requirement, weights)
        return
    levels = model.levels - model.output_level + 1
    requirement = f"needs one number for each of the {levels} estimated levels"
    check(len(weights) == levels, "loss.level_weights", requirement, weights)


class TrainConfig(Settings):
    """A training run."""

    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    precision: PrecisionConfig
    tracking: TrackingConfig
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    # The choice that Hydra made for each group, for the record; set by the command line.
    choices: dict[str, str] = field(default_factory=dict)
    name: str = "train"  # name of the run, whose folder is <outputs>/<name>/<time>
    outputs: str = "outputs"  # folder of all runs
    seed: int = not_negative(0)  # seed of weights, sample order and augmentation
    init_from: str | None = None  # run, checkpoint or file with initial weights; null: random
    init_match: InitMatch = InitMatch.exact  # overlap: take what matches, list the rest
    resume: str | None = None  # run folder; auto: the newest run with these values, if any
    steps: int = positive(1_200_000)  # optimizer updates
    batch_size: int = positive(8)  # examples per update, over all devices
    accumulate: int = positive(1)  # micro-batches of a device's batch, to save memory
    ema_decay: float | None = None  # of a moving average of the weights, used for validation
    validation: list[Any] = list_of()  # more validation sets: name, name:root, or a mapping
    validation_root: str | None = None  # folder that the roots of validation sets are relative to
    val_split: bool = True  # evaluate held-out samples of `data`, too: val/aepe
    best_metric: str = BEST_METRIC  # validation metric that ranks checkpoints; lower is better
    val_batch_size: int = positive(1)  # examples per evaluation step
    log_every: int = positive(100)  # steps between training metrics
    eval_every: int = positive(1000)  # steps between evaluations
    save_every: int = positive(1000)  # steps between checkpoints
    keep_best: int = not_negative(3)  # best checkpoints kept, beside the newest two
    eval_samples: int | None = positive(None)  # most samples per validation set; null: all
    picture_samples: int = not_negative(4)  # samples per validation set to draw
    xla: bool = True  # compile the decoder with XLA for evaluation where that is faster
    xla_step: bool = False  # compile the whole training step with XLA; for one device
    on_nonfinite: OnNonFinite = OnNonFinite.stop  # skip: drop non-finite updates and continue
    nonfinite_limit: int = not_negative(50)  # skipped updates in a row that end the run
    on_stuck: OnStuck = OnStuck.warn  # reseed: restart failed training with new weights

    def __post_init__(self) -> None:
        super().__post_init__()
        holds = Path(self.name).name == self.name and self.name not in ("", "..")
        check(holds, "name", "must be the name of a folder, without slashes", self.name)
        parts = self.accumulate * self.devices.cpus
        requirement = f"must be a multiple of {parts}, accumulate times the number of devices"
        self.require(self.batch_size % parts == 0, "batch_size", requirement)
        if self.ema_decay is not None:
            self.require(0 < self.ema_decay < 1, "ema_decay", "must be between 0 and 1")
        holds = not (self.xla_step and self.devices.cpus > 1)
        self.require(holds, "xla_step", "must be false with several devices")
        if isinstance(self.schedule, CyclicConfig) and self.schedule.half_cycle is None:
            # Five triangles, as tfoptflow's in 200,000 steps. Kept: a resumed run may get more.
            self.schedule.half_cycle = max(1, self.steps // 10)
        known = self.validation_metrics()
        self.require(bool(known), "val_split", "must be true without validation sets")
        requirement = f"must be one of {', '.join(known)}{nearest(self.best_metric, known)}"
        self.require(self.best_metric in known, "best_metric", requirement)
        check_size("data.crop", self.data.crop, 2**self.model.levels)
        check_level_weights(self.model, self.loss)
        check_covers(self.schedule, self.steps)

    def validation_sets(self) -> list[ValidationSet]:
        """The validation sets beside the held-out samples of `data`."""
        found = [
            _validation_set(f"validation[{n}]", entry, self.validation_root, self.data)
            for n, entry in enumerate(self.validation)
        ]
        parts = self.data.parts if isinstance(self.data, MixConfig) else []
        taken = [*(str(part["name"]) for part in parts), *METRICS, "mean"]
        for place, each in enumerate(found):
            name = each.prefix.removeprefix(f"{OWN}/")
            requirement = "needs a unique name in metrics: {name: …, as: …}"
            check(name not in taken, f"validation[{place}]", requirement, name)
            taken.append(name)
        return found

    def validation_metrics(self) -> list[str]:
        """The keys of all metrics of an evaluation."""
        sets = self.validation_sets()
        prefixes = [*([OWN] if self.val_split else []), *(each.prefix for each in sets)]
        keys = [f"{prefix}/{metric}" for prefix in prefixes for metric in METRICS]
        return [*keys, *([MEAN_AEPE] if len(sets) > 1 else [])]
