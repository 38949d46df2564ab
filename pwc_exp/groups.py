"""The groups of a configuration: one line for each knob, with its unit, and checks of its values.

A knob that everyone wants the same has its default here; one that is a choice has none and is
stated in `conf/<group>/`. Sizes are (height, width).
"""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from pwc_exp.checks import check, check_not_negative, check_positive, check_share
from pwc_exp.errors import ConfigError


class ContextLevels(StrEnum):
    """Levels whose flow the context network refines."""

    output = auto()
    all = auto()


class WarpBorder(StrEnum):
    """What warping reads outside of the second frame."""

    edge = auto()
    zero = auto()


class StridePadding(StrEnum):
    """How convolutions of stride 2 are padded."""

    same = auto()
    symmetric = auto()


class Alignment(StrEnum):
    """Which points of two grids coincide when a flow is enlarged."""

    corner = auto()
    center = auto()  # type: ignore[assignment] # hides str.center


class LevelUnits(StrEnum):
    """Units of the flow inside the network: pixels of its level, or full-resolution pixels / 20."""

    grid = auto()
    scaled = auto()


class Dataset(StrEnum):
    """Data sets that can be read, and the generated one."""

    synthetic = auto()
    sintel = auto()
    kitti = auto()
    flyingchairs = auto()
    middlebury = auto()


class RenderPass(StrEnum):
    """Renderings of Sintel."""

    clean = auto()
    final = auto()


class Truth(StrEnum):
    """Ground truths of KITTI: without or with the pixels that are occluded in the second frame."""

    noc = auto()
    occ = auto()


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    fp32 = auto()
    fp16 = auto()


class Split(StrEnum):
    """Which samples of a data set are evaluated."""

    train = auto()
    val = auto()
    all = auto()


FIRST_ENTRIES = {
    Dataset.sintel: "training/clean and training/flow",
    Dataset.kitti: "training/image_2 (2012: colored_0) and training/flow_noc",
    Dataset.flyingchairs: "data/00001_img1.ppm",
    Dataset.middlebury: "other-data and other-gt-flow",
}


def list_of(*values: Any) -> Any:
    """A list as the default of a field."""
    return field(default_factory=lambda: list(values))


@dataclass(kw_only=True)
class ModelConfig:
    """A PWC-Net."""

    name: str  # of the variant, for names of runs and tables
    levels: int = 6  # depth of the pyramid: the coarsest level has stride 2**levels
    output_level: int = 2  # finest level that estimates flow; its stride is 2**output_level
    search_range: int = 4  # cost-volume radius, in pixels of its level
    feature_channels: list[int] = list_of(16, 32, 64, 96, 128, 196)  # of levels 1 to `levels`
    estimator_channels: list[int] = list_of(128, 128, 96, 64, 32)  # of the flow estimator's layers
    context_channels: list[int] = list_of(128, 128, 128, 96, 64, 32)  # of the context network
    context_dilations: list[int] = list_of(1, 2, 4, 8, 16, 1)  # one for each of context_channels
    dense: bool  # each estimator layer also sees what the layers before it saw
    context: ContextLevels  # levels that the context network refines
    warp_border: WarpBorder  # what warping reads outside of the second frame
    stride_padding: StridePadding  # padding of the convolutions of stride 2
    upsample_alignment: Alignment  # of the output level's flow enlarged to full resolution
    level_units: LevelUnits  # units of the flow inside the network
    normalize_features: bool = False  # before comparing frames, so that learning starts early

    def __post_init__(self) -> None:
        lists = ("feature_channels", "estimator_channels", "context_channels", "context_dilations")
        check_positive("model.", self, "levels", "output_level", "search_range", *lists)
        check(
            self.output_level <= self.levels,
            "model.output_level",
            f"must be at most model.levels ({self.levels})",
            self.output_level,
        )
        check(
            len(self.feature_channels) == self.levels,
            "model.feature_channels",
            f"needs one number for each of the {self.levels} levels",
            self.feature_channels,
        )
        check(
            len(self.context_dilations) == len(self.context_channels),
            "model.context_dilations",
            f"needs one number for each of the {len(self.context_channels)} context_channels",
            self.context_dilations,
        )


@dataclass(kw_only=True)
class SyntheticConfig:
    """Generated pairs of frames with exact flow."""

    train_size: int = 20_000  # samples of the split train
    val_size: int = 64  # samples of the split val
    layers: int = 4  # things in front of the background, each with its own motion
    max_speed: float = 0.1  # largest shift of a layer, in diagonals of the frame; the mean is 1/5
    max_rotation: float = 3.0  # of a layer, in degrees, either way
    max_zoom: float = 0.05  # growth of a layer: 0.05 is 5 percent, either way

    def __post_init__(self) -> None:
        check_positive("data.synthetic.", self, "train_size", "val_size", "layers")
        check_not_negative("data.synthetic.", self, "max_speed", "max_rotation", "max_zoom")


@dataclass(kw_only=True)
class DataConfig:
    """Pairs of frames with ground-truth flow."""

    name: Dataset  # which data set
    root: str | None = None  # folder that holds the files; null for synthetic
    crop: list[int]  # training window (height, width), in pixels; size of generated frames
    render_pass: RenderPass = RenderPass.clean  # of Sintel
    truth: Truth = Truth.noc  # of KITTI
    val_share: float = 0.05  # share of the scenes held out where there is no official split
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    workers: int = 2  # parallel reads

    def __post_init__(self) -> None:
        check_positive("data.", self, "crop", "workers")
        check(len(self.crop) == 2, "data.crop", "must be [height, width]", self.crop)
        check_share("data.", self, "val_share")
        if self.name in FIRST_ENTRIES and not self.root:
            held = f"the folder that holds {FIRST_ENTRIES[self.name]}"
            raise ConfigError(f"data.root is needed for {self.name}: data.root=... {held}")


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes of training examples; probabilities."""

    flip_left_right: float = 0.0  # probability of mirroring left and right
    flip_up_down: float = 0.0  # probability of mirroring top and bottom

    def __post_init__(self) -> None:
        check_share("augment.", self, "flip_left_right", "flip_up_down")


@dataclass(kw_only=True)
class LossConfig:
    """A training loss: MultiscaleConfig or RobustConfig."""


@dataclass(kw_only=True)
class MultiscaleConfig(LossConfig):
    """Sum of the L2 errors of all levels, for training from scratch."""

    level_weights: list[float] | None = None  # coarse to fine; null: the paper's, by level

    def __post_init__(self) -> None:
        if self.level_weights is not None:
            check_positive("loss.", self, "level_weights")


@dataclass(kw_only=True)
class RobustConfig(LossConfig):
    """Sum of (L1 error + epsilon)**q of all levels, for fine-tuning."""

    level_weights: list[float] | None = None  # coarse to fine; null: the paper's, by level
    q: float = 0.4  # exponent; below 1 gives less weight to outliers
    epsilon: float = 0.01  # added to the error, in units of the loss
    compat: bool = False  # as tfoptflow computes it

    def __post_init__(self) -> None:
        if self.level_weights is not None:
            check_positive("loss.", self, "level_weights")
        check_positive("loss.", self, "q", "epsilon")


@dataclass(kw_only=True)
class OptimizerConfig:
    """Adam with L2 regularization."""

    beta_1: float = 0.9  # decay of the mean of the gradients
    beta_2: float = 0.999  # decay of the mean of their squares
    epsilon: float = 1e-8  # added to the denominator of the update
    l2: float = 4e-4  # coefficient of the half sum of squared weights added to the loss
    l2_biases: bool = True  # biases are regularized too

    def __post_init__(self) -> None:
        check_positive("optimizer.", self, "epsilon")
        check_not_negative("optimizer.", self, "l2")
        for name in ("beta_1", "beta_2"):
            beta = getattr(self, name)
            check(0 <= beta < 1, f"optimizer.{name}", "must be at least 0 and below 1", beta)


@dataclass(kw_only=True)
class ScheduleConfig:
    """A learning-rate schedule: MultistepsConfig or CyclicConfig."""


@dataclass(kw_only=True)
class MultistepsConfig(ScheduleConfig):
    """Constant between steps at which it changes."""

    boundaries: list[int]  # steps at which the rate changes, increasing
    values: list[float]  # learning rates: one before each boundary, one after the last

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "values")
        steps = sorted({step for step in self.boundaries if step > 0})
        requirement = "must be positive and increasing, at least one"
        check(self.boundaries == steps != [], "schedule.boundaries", requirement, self.boundaries)
        check(
            len(self.values) == len(self.boundaries) + 1,
            "schedule.values",
            f"needs {len(self.boundaries) + 1} numbers, one more than schedule.boundaries",
            self.values,
        )


@dataclass(kw_only=True)
class CyclicConfig(ScheduleConfig):
    """Triangles between base and peak, half as high from one to the next ("triangular2")."""

    base: float  # lowest learning rate
    peak: float  # highest learning rate of the first triangle
    half_cycle: int  # steps from base to peak

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "base", "peak", "half_cycle")
        check(
            self.base <= self.peak,
            "schedule.peak",
            f"must be at least schedule.base ({self.base})",
            self.peak,
        )


@dataclass(kw_only=True)
class PrecisionConfig:
    """Number format of the computation; weights and metrics stay float32."""

    policy: Precision  # fp16 is mixed precision with loss scaling


@dataclass(kw_only=True)
class TrackingConfig:
    """Where metrics and pictures go, beside the run folder's metrics.jsonl."""

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = "pwc_exp"  # MLflow experiment
    mlflow: bool = True  # log to MLflow
    tensorboard: bool = True  # write TensorBoard events into the run folder
