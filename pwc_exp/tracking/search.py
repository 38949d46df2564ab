"""Finds runs in MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pwc_exp.errors import ConfigError
from pwc_exp.tracking.mlflow_store import connect_to_existing, mlflow_errors, shorten

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Run

_PAGE = 1000  # runs in one answer


@dataclass(frozen=True, kw_only=True)
class Found:
    """A run, as MLflow shows it.

    started: milliseconds since 1970.
    metrics, steps: the last value of each metric, and its step.
    digests: of the data sets, by context: train, val, val/<data set>.
    """

    run_id: str
    name: str
    status: str
    started: int
    metrics: Mapping[str, float]
    steps: Mapping[str, int]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    digests: Mapping[str, str]


def search(uri: str, experiment: str, conditions: Sequence[str]) -> list[Found]:
    """All runs for which every condition holds. conditions: in MLflow's filter syntax.

    Raises:
        MissingInputError: there is no such file or experiment.
        ConfigError: MLflow does not understand a condition.
        BusyError: MLflow does not answer, or refuses.
    """
    text = " and ".join(conditions)
    with mlflow_errors(uri, "does not answer"):
        client, experiment_id = connect_to_existing(uri, experiment)
        try:
            return [_found(run) for run in _pages(client, experiment_id, text)]
        except Exception as error:
            if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
                raise ConfigError(
                    f"MLflow does not understand the conditions {text} ({shorten(error)})"
                ) from error
            raise


def _pages(client: "mlflow.MlflowClient", experiment_id: str, conditions: str) -> "Iterator[Run]":
    token = None
    while True:
        page = client.search_runs([experiment_id], conditions, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _found(run: "Run") -> Found:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return Found(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started=run.info.start_time,
        metrics=run.data.metrics,
        steps={metric.key: metric.step for metric in run.data.to_proto().metrics},
        params=run.data.params,
        tags=run.data.tags,
        digests={
            tag.value: used.dataset.digest
            for used in inputs
            for tag in used.tags
            if tag.key == "mlflow.data.context"
        },
    )
