"""The configuration of each command: its groups, and the knobs that belong to the command itself.

One line for each knob, with its unit; one without a default must be given. Sizes are (height,
width).
"""

from dataclasses import dataclass, field
from pathlib import Path

from pwc_exp.checks import check, check_not_negative, check_one_of, check_positive, check_size
from pwc_exp.groups import list_of
from pwc_exp.groups.augment import AugmentConfig
from pwc_exp.groups.data import DataConfig, Split
from pwc_exp.groups.machine import DevicesConfig, OnNonFinite, OnStuck
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.tracking import DestinationConfig, TrackingConfig
from pwc_exp.groups.training import (
    LossConfig,
    OptimizerConfig,
    PrecisionConfig,
    ScheduleConfig,
    check_covers,
)


def _check_level_weights(model: ModelConfig, loss: LossConfig) -> None:
    weights = loss.level_weights
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
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    name: str = "train"  # of the run: its folder is <outputs>/<name>/<time>
    outputs: str = "outputs"  # folder of all runs
    seed: int = 0  # of the weights, the order of the samples and the augmentation
    init_from: str | None = None  # run, checkpoint or file with weights to start from; null: fresh
    resume: str | None = None  # run to go on with; auto: the newest one of these values, if any
    steps: int = 1_200_000  # optimizer updates
    batch_size: int = 8  # examples in one update, of all devices together
    accumulate: int = (
        1  # portions that a device's share of the batch is computed in, to save memory
    )
    ema_decay: float | None = None  # of an average of the weights, then used for validation
    val_batch_size: int = 1  # examples in one evaluation step
    log_every: int = 100  # steps between points of the training metrics
    eval_every: int = 1000  # steps between evaluations
    save_every: int = 1000  # steps between checkpoints
    keep_best: int = 3  # checkpoints kept for their validation AEPE, beside the newest two
    eval_samples: int | None = None  # at most so many validation samples per evaluation; null: all
    picture_samples: int = 4  # validation samples drawn at each evaluation
    xla: bool = True  # let XLA compile the decoder for evaluation, where that pays
    xla_step: bool = False  # let XLA compile the whole training step; for one device
    on_nonfinite: OnNonFinite = (
        OnNonFinite.stop
    )  # what an update that is not finite does to the run
    nonfinite_limit: int = 50  # updates in a row that may be skipped, in fp16 too
    on_stuck: OnStuck = OnStuck.warn  # what training that does not start does to the run

    def __post_init__(self) -> None:
        intervals = ("log_every", "eval_every", "save_every")
        check_positive("", self, "steps", "batch_size", "accumulate", "val_batch_size", *intervals)
        check_not_negative("", self, "seed", "keep_best", "picture_samples", "nonfinite_limit")
        portions = self.accumulate * self.devices.cpus
        requirement = f"must be a multiple of {portions}, accumulate times the devices"
        check(self.batch_size % portions == 0, "batch_size", requirement, self.batch_size)
        if self.ema_decay is not None:
            check(0 < self.ema_decay < 1, "ema_decay", "must be between 0 and 1", self.ema_decay)
        holds = not (self.xla_step and self.devices.cpus > 1)
        check(holds, "xla_step", "must be false with several devices", self.xla_step)
        if self.eval_samples is not None:
            check_positive("", self, "eval_samples")
        check_size("data.crop", self.data.crop, 2**self.model.levels)
        _check_level_weights(self.model, self.loss)
        check_covers(self.schedule, self.steps)


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
    frames: list[str]  # image files, at least two, consecutive frames; or one folder of them
    out: str  # folder for the flow files and pictures
    xla: bool = False  # let XLA compile the decoder, where that pays: about 10 s per frame size

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        single = len(self.frames) == 1 and Path(self.frames[0]).is_file()
        requirement = "must name at least two files, or a folder"
        check(bool(self.frames) and not single, "frames", requirement, self.frames)


@dataclass(kw_only=True)
class SyncConfig:
    """What MLflow lacks of a run that has ended."""

    run: str  # folder of the training run
    tracking: DestinationConfig = field(default_factory=DestinationConfig)


@dataclass(kw_only=True)
class ReplayConfig:
    """An update that was not finite, again."""

    box: str  # its black box, a folder in <run>/blackbox


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


@dataclass(kw_only=True)
class PipelineConfig:
    """Speed of reading, decoding, augmenting and generating examples."""

    data: DataConfig | None = None  # null: files as FlyingChairs and Sintel have them, made here
    augment: AugmentConfig
    crop: list[int] = list_of(384, 448)  # training window (height, width), in pixels
    seconds: float = 5.0  # that each measurement takes, at least

    def __post_init__(self) -> None:
        check_positive("", self, "crop", "seconds")
        check(len(self.crop) == 2, "crop", "must be [height, width]", self.crop)


@dataclass(kw_only=True)
class SafetyConfig:
    """Time of what surrounds the training steps: checks, points of the curves, checkpoints."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train_size: list[int] = list_of(384, 448)  # of the frames (height, width), in pixels
    train_batch_size: int = 4  # examples in one update
    repeats: int = 10  # steps and checkpoints that are timed; points more often
    folder: str = "."  # on the disk to measure; what is written in it is removed
    uri: str | None = None  # MLflow; null: an SQLite file in that folder

    def __post_init__(self) -> None:
        check_positive("", self, "train_batch_size", "repeats")
        check_size("train_size", self.train_size, 2**self.model.levels)
        _check_level_weights(self.model, self.loss)


@dataclass(kw_only=True)
class DataCheckConfig:
    """What is wrong with a data set."""

    data: DataConfig
    split: Split = Split.all  # samples to check
    decode: bool = False  # decode every file too; else headers are compared with file sizes
    convention_samples: int = 8  # samples that tell which way the flow points
    out: str | None = None  # folder for report.json and quarantine.txt

    def __post_init__(self) -> None:
        check_not_negative("", self, "convention_samples")


@dataclass(kw_only=True)
class DataStatsConfig:
    """How large the motion in a data set is, and how much of it is known."""

    data: DataConfig
    split: Split = Split.all  # samples to count
    samples: int | None = None  # at most so many, evenly spread; null: all
    out: str | None = None  # folder for stats.json

    def __post_init__(self) -> None:
        if self.samples is not None:
            check_positive("", self, "samples")


@dataclass(kw_only=True)
class DataIndexConfig:
    """The samples of a data set, as a CSV file that `data=csv` reads."""

    data: DataConfig
    split: Split = Split.all  # samples to list
    out: str | None = None  # CSV file; null: a table on the terminal


@dataclass(kw_only=True)
class DataShowConfig:
    """Samples of a data set, drawn: what training sees of it."""

    data: DataConfig
    augment: AugmentConfig
    split: Split = Split.train  # samples to draw
    samples: int = 8  # how many
    seed: int = 0  # of the order of the samples and the augmentation
    out: str = "samples.png"  # picture

    def __post_init__(self) -> None:
        check_positive("", self, "samples")
        check_not_negative("", self, "seed")


@dataclass(kw_only=True)
class DataHalfresConfig:
    """FlyingThings3D at half its size."""

    root: str  # folder of the whole FlyingThings3D
    out: str  # folder for the small one
    workers: int | None = None  # parallel processes; null: one for each processor

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_positive("", self, "workers")


@dataclass(kw_only=True)
class DataFetchConfig:
    """A data set from its authors' server."""

    data: DataConfig  # data.root is the folder to unpack into
    entry: str | None = None  # of the catalogue, where a data set has several: kitti2012, kitti2015
    accept_licence: bool = False  # false: only show what would be downloaded, and on what terms
    keep_archives: bool = False  # false: delete each archive once it is unpacked
