"""Loss, optimizer, learning rate and precision of a training run."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_not_negative, check_positive


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    fp32 = auto()
    fp16 = auto()


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
