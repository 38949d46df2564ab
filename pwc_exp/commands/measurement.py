"""The configurations of what measures a network and its surroundings."""

from dataclasses import dataclass

from pwc_exp.checks import check, check_one_of, check_positive, check_size
from pwc_exp.commands.training import check_level_weights
from pwc_exp.groups import list_of
from pwc_exp.groups.augment import AugmentConfig
from pwc_exp.groups.data import DataConfig
from pwc_exp.groups.model import ModelConfig, NetworkConfig
from pwc_exp.groups.training import LossConfig, OptimizerConfig, PrecisionConfig


@dataclass(kw_only=True)
class DescribeConfig:
    """A table of the layers of a model."""

    model: ModelConfig
    size: list[int] = list_of(448, 1024)  # of the frames (height, width), in pixels

    def __post_init__(self) -> None:
        check_size("size", self.size, 2**self.model.levels)


@dataclass(kw_only=True)
class BenchmarkConfig:
    """Time of inference, training steps and the input pipeline; error of lower precision."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    precision: PrecisionConfig  # bf16 or fp16: timed beside fp32, with the error in pixels
    data: DataConfig | None = (
        None  # of the input pipeline, beside generated scenes; null: only these
    )
    augment: AugmentConfig  # of the input pipeline
    models: list[str] = list_of()  # further choices of the group model, timed in turn with `model`
    run: str | None = None  # folder of a training run: its model and best checkpoint, for the error
    weights: str | None = None  # name of shipped weights, a run, a checkpoint or a file, likewise
    frames: list[str] | None = (
        None  # two images for the error; null: pairs of data, or a photograph
    )
    inference_size: list[int] = list_of(448, 1024)  # of the frames (height, width), in pixels
    train_size: list[int] = list_of(384, 448)  # of the frames (height, width), in pixels
    train_batch_size: int = 4  # examples in one update
    repeats: int = 5  # timed calls of each kind
    xla: bool = True  # let XLA compile the decoder, where that pays

    def __post_init__(self) -> None:
        check_positive("", self, "train_batch_size", "repeats")
        check(self.run is None or self.weights is None, "run or weights", "must be one", "both")
        if self.frames is not None:
            check(len(self.frames) == 2, "frames", "must be two images", self.frames)
        check_size("inference_size", self.inference_size, 2**self.model.levels)
        check_size("train_size", self.train_size, 2**self.model.levels)
        check_level_weights(self.model, self.loss)


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
        check_level_weights(self.model, self.loss)


@dataclass(kw_only=True)
class ExportTimingConfig(NetworkConfig):
    """Time of the formats of an export, beside the network itself."""

    exported: str  # folder of the export
    size: list[int] = list_of(448, 1024)  # of the frames (height, width), in pixels
    repeats: int = 5  # timed calls of each format
    xla: bool = True  # let XLA compile the network's decoder, where that pays

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        check_positive("", self, "size", "repeats")

    def check_model(self, model: ModelConfig) -> None:
        """Frames must be of a size that the strides of the pyramid divide."""
        check_size("size", self.size, 2**model.levels)
