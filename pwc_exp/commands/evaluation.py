"""The configuration of an evaluation."""

from dataclasses import dataclass

from pwc_exp.checks import check, check_one_of, check_positive
from pwc_exp.groups.data import DataConfig, Split
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.training import PrecisionConfig


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
