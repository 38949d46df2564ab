"""The best checkpoint of a sweep's best run becomes a version of a model in MLflow's registry."""

from pathlib import Path

from pwc_exp import checkpoints
from pwc_exp.config.schema import CHECKPOINTS, CONFIG_FILE, load
from pwc_exp.errors import MissingInputError
from pwc_exp.tracking.registry import Registered, register


def register_best(run_dir: Path, *, uri: str | None, outputs: Path) -> Registered:
    """Makes a child the best of its sweep, see `register`.

    Raises:
        MissingInputError: it has no evaluated checkpoint, is no child, or is not in MLflow.
        DataError: the checkpoint is damaged.
        BusyError: MLflow does not answer, or refuses.
    """
    key = load(run_dir / CONFIG_FILE).best_metric
    best = checkpoints.best(run_dir / CHECKPOINTS, key=key)
    if best is None:
        raise MissingInputError(f"{run_dir / CHECKPOINTS} must hold an evaluated checkpoint")
    manifest = checkpoints.load(best).manifest
    return register(
        run_dir,
        checkpoint=f"{CHECKPOINTS}/best",
        metrics={key: manifest.metrics[key]},
        step=manifest.step,
        uri=uri,
        outputs=outputs,
    )
