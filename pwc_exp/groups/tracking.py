"""Where a run is followed."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class TrackingConfig:
    """Where metrics and pictures go, beside the run folder's metrics.jsonl."""

    uri: str | None = None  # MLflow; null: $MLFLOW_TRACKING_URI, else SQLite in <outputs>/mlflow
    experiment: str = "pwc_exp"  # MLflow experiment
    mlflow: bool = True  # log to MLflow
    tensorboard: bool = True  # write TensorBoard events into the run folder
