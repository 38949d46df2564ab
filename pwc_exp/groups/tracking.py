"""Where a run is followed."""

from dataclasses import dataclass

from pwc_exp.checks import check


@dataclass(kw_only=True)
class TrackingConfig:
    """Where metrics and pictures go, beside the run folder's metrics.jsonl."""

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = "pwc_exp"  # MLflow experiment
    mlflow: bool = True  # log to MLflow
    tensorboard: bool = True  # write TensorBoard events into the run folder
    required: bool = False  # refuse to start a run while MLflow cannot be reached

    def __post_init__(self) -> None:
        requirement = "needs tracking.mlflow=true"
        check(self.mlflow or not self.required, "tracking.required", requirement, self.required)


@dataclass(kw_only=True)
class DestinationConfig:
    """Where a run is sent to once it has ended."""

    uri: str | None = None  # MLflow; null: where the run was to be followed
    experiment: str | None = None  # MLflow experiment; null: that of the run


@dataclass(kw_only=True)
class SearchConfig:
    """Where runs are looked for."""

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = TrackingConfig.experiment  # MLflow experiment
