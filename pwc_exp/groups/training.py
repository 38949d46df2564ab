"""Loss, optimizer, learning rate and precision of a training run."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_not_negative, check_positive


class CyclicPolicy(StrEnum):
    """What becomes of the height of the triangles."""

    triangular = auto()
    triangular2 = auto()
    exp_range = auto()


class Anneal(StrEnum):
    """How the rate goes from one value to another."""

    linear = auto()
    cosine = auto()


class Judged(StrEnum):
    """What a loss sees of a level but the finest: its flow, or what the next level starts from."""

    flow = auto()
    up_flow = auto()


class Precision(StrEnum):
    """Number format of the forward and backward pass."""

    fp32 = auto()
    fp16 = auto()
    bf16 = auto()


class InferencePrecision(StrEnum):
    """Number format of inference; `auto` decides by the processor and the card of the weights."""

    auto = "auto"  # not auto(), which this name hides
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


@dataclass(kw_only=True)
class LossConfig:
    """A training loss: MultiscaleConfig, RobustConfig or PlusConfig."""

    level_weights: list[float] | None = None  # coarse to fine; null: as published, by level

    def __post_init__(self) -> None:
        if self.level_weights is not None:
            check_positive("loss.", self, "level_weights")


@dataclass(kw_only=True)
class MultiscaleConfig(LossConfig):
    """Sum of the L2 errors of all levels, for training from scratch."""


@dataclass(kw_only=True)
class RobustConfig(LossConfig):
    """Sum of (L1 error + epsilon)**q of all levels, for fine-tuning."""

    q: float = 0.4  # exponent; below 1 gives less weight to outliers
    epsilon: float = 0.01  # added to the error, in units of the loss
    compat: bool = False  # as tfoptflow computes it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("loss.", self, "q", "epsilon")


@dataclass(kw_only=True)
class PlusConfig(LossConfig):
    """The finest flow robustly, at full resolution, beside the other levels: PWC-Net+."""

    judged: Judged  # of the other levels: flow, by its L2 error, or up_flow, robustly too
    q: float = 0.4  # exponent; below 1 gives less weight to outliers
    epsilon: float = 0.01  # added to the error, in units of the loss

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("loss.", self, "q", "epsilon")


@dataclass(kw_only=True)
class OptimizerConfig:
    """An optimizer: AdamConfig or AdamWConfig."""

    beta_1: float = 0.9  # decay of the mean of the gradients
    beta_2: float = 0.999  # decay of the mean of their squares
    epsilon: float = 1e-8  # added to the denominator of the update
    clip_norm: float | None = None  # longer gradients, all weights' taken together, are cut to it

    def __post_init__(self) -> None:
        check_positive("optimizer.", self, "epsilon")
        if self.clip_norm is not None:
            check_positive("optimizer.", self, "clip_norm")
        for name in ("beta_1", "beta_2"):
            beta = getattr(self, name)
            check(0 <= beta < 1, f"optimizer.{name}", "must be at least 0 and below 1", beta)

    @property
    def l2(self) -> float:
        """Nothing is added to the loss, unless a variant has this as a knob."""
        return 0.0

    @property
    def l2_biases(self) -> bool:
        """Without effect, unless a variant has this as a knob."""
        return False


@dataclass(kw_only=True)
class AdamConfig(OptimizerConfig):
    """Adam with L2 regularization, which passes through Adam's scaling."""

    l2: float = 4e-4  # coefficient of the half sum of squared weights added to the loss
    l2_biases: bool = True  # biases are regularized too

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("optimizer.", self, "l2")


@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay."""

    weight_decay: float = 1e-4  # share of a kernel, times the rate, taken off at each update

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("optimizer.", self, "weight_decay")


@dataclass(kw_only=True)
class ScheduleConfig:
    """A learning-rate schedule: one of the classes below."""


@dataclass(kw_only=True)
class ConstantConfig(ScheduleConfig):
    """The same at every step."""

    rate: float  # learning rate

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "rate")


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
    """Triangles between base and peak."""

    base: float  # lowest learning rate
    peak: float  # highest learning rate of the first triangle
    half_cycle: int  # steps from base to peak
    policy: CyclicPolicy = CyclicPolicy.triangular2  # 2: half as high from one to the next
    gamma: float = 0.99994  # factor of the height at each step, if policy is exp_range

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "base", "peak", "half_cycle")
        requirement = f"must be at least schedule.base ({self.base})"
        check(self.base <= self.peak, "schedule.peak", requirement, self.peak)
        requirement = "must be above 0 and at most 1"
        check(0 < self.gamma <= 1, "schedule.gamma", requirement, self.gamma)


@dataclass(kw_only=True)
class CosineConfig(ScheduleConfig):
    """Linear from 0 to the peak, then half a cosine wave down to the final rate, which stays."""

    peak: float  # highest learning rate
    final: float  # learning rate at the end
    warmup: int = 0  # steps from 0 to the peak; 0: the first rate is the peak
    total: int  # steps until the final rate, the warm-up included

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "peak", "total")
        check_not_negative("schedule.", self, "final", "warmup")
        requirement = f"must be at most schedule.peak ({self.peak})"
        check(self.final <= self.peak, "schedule.final", requirement, self.final)
        requirement = f"must be below schedule.total ({self.total})"
        check(self.warmup < self.total, "schedule.warmup", requirement, self.warmup)


@dataclass(kw_only=True)
class OneCycleConfig(ScheduleConfig):
    """Up to the peak once, then down to next to nothing."""

    peak: float  # highest learning rate
    total: int  # steps of the whole cycle
    warmup_share: float  # share of `total` that goes up
    start_divisor: float  # the first rate is peak / start_divisor
    final_divisor: float  # the last rate is the first / final_divisor
    anneal: Anneal  # shape of both phases

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "peak", "total")
        requirement = "must be at least 0 and below 1"
        check(0 <= self.warmup_share < 1, "schedule.warmup_share", requirement, self.warmup_share)
        for name in ("start_divisor", "final_divisor"):
            divisor = getattr(self, name)
            check(1 <= divisor < float("inf"), f"schedule.{name}", "must be at least 1", divisor)


@dataclass(kw_only=True)
class RestartsConfig(ScheduleConfig):
    """Rounds of equal length: each starts at a rate of its own, which is halved at given steps."""

    bases: list[float]  # learning rate at the start of each round
    round_steps: int  # steps of a round
    halvings: list[int]  # steps of a round at which its rate is halved, increasing

    def __post_init__(self) -> None:
        check_positive("schedule.", self, "bases", "round_steps")
        steps = sorted({step for step in self.halvings if 0 < step < self.round_steps})
        requirement = f"must be positive, increasing and below {self.round_steps} (round_steps)"
        check(self.halvings == steps, "schedule.halvings", requirement, self.halvings)


def check_covers(schedule: ScheduleConfig, steps: int) -> None:
    """Refuses a schedule of a certain length that ends before a run of `steps` does."""
    match schedule:
        case CosineConfig() | OneCycleConfig():
            key, length = "schedule.total", schedule.total
        case RestartsConfig():
            key, length = "schedule.bases", schedule.round_steps * len(schedule.bases)
        case _:
            return
    check(length >= steps, key, f"must be enough for the {steps:,} steps of the run", f"{length:,}")


@dataclass(kw_only=True)
class PrecisionConfig:
    """Number format of the computation; weights and metrics stay float32."""

    policy: Precision  # fp16 and bf16 are mixed precision, fp16 with a loss scale that adapts
