"""The configuration of a training run."""

from dataclasses import dataclass, field
from typing import Any

from pwc_exp.checks import check, check_not_negative, check_positive, check_size, nearest
from pwc_exp.groups import list_of
from pwc_exp.groups.augment import AugmentConfig
from pwc_exp.groups.data import DataConfig
from pwc_exp.groups.machine import DevicesConfig, OnNonFinite, OnStuck
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.tracking import TrackingConfig
from pwc_exp.groups.training import (
    InitMatch,
    LossConfig,
    OptimizerConfig,
    PrecisionConfig,
    ScheduleConfig,
    check_covers,
)
from pwc_exp.groups.validation import BEST_METRIC, ValidationSet, metrics, validation_sets


def check_level_weights(model: ModelConfig, loss: LossConfig) -> None:
    """Refuses weights that are not one for each level that estimates."""
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
    init_match: InitMatch = InitMatch.exact  # overlap: take what fits, list what does not
    resume: str | None = None  # run to go on with; auto: the newest one of these values, if any
    steps: int = 1_200_000  # optimizer updates
    batch_size: int = 8  # examples in one update, of all devices together
    accumulate: int = (
        1  # portions that a device's share of the batch is computed in, to save memory
    )
    ema_decay: float | None = None  # of an average of the weights, then used for validation
    validation: list[Any] = list_of()  # data sets to validate on too: name, name:root, or a mapping
    validation_root: str | None = None  # folder that their roots are relative to
    val_split: bool = True  # whether held-out samples of `data` are evaluated as well: val/aepe
    best_metric: str = BEST_METRIC  # by which checkpoints are the best: of a validation; lower wins
    val_batch_size: int = 1  # examples in one evaluation step
    log_every: int = 100  # steps between points of the training metrics
    eval_every: int = 1000  # steps between evaluations
    save_every: int = 1000  # steps between checkpoints
    keep_best: int = 3  # checkpoints kept for their best_metric, beside the newest two
    eval_samples: int | None = None  # at most so many validation samples of each set; null: all
    picture_samples: int = 4  # validation samples of each set drawn at each evaluation
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
        self._check_validation()
        check_size("data.crop", self.data.crop, 2**self.model.levels)
        check_level_weights(self.model, self.loss)
        check_covers(self.schedule, self.steps)

    def validation_sets(self) -> list[ValidationSet]:
        """The data sets that are validated on beside the held-out samples of `data`."""
        return validation_sets(self.validation, root=self.validation_root, data=self.data)

    def validation_metrics(self) -> list[str]:
        """The keys of all that an evaluation measures."""
        return metrics(self.validation_sets(), own=self.val_split)

    def _check_validation(self) -> None:
        known = self.validation_metrics()
        holds = bool(known)
        check(holds, "val_split", "must be true without validation sets", self.val_split)
        requirement = f"must be one of {', '.join(known)}{nearest(self.best_metric, known)}"
        check(self.best_metric in known, "best_metric", requirement, self.best_metric)
