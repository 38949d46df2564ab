"""Sends to MLflow what it lacks of a run, such as one that had no server or lost it."""

from collections.abc import Mapping
from pathlib import Path

from pwc_exp import checkpoints, storage
from pwc_exp.config.commands import SyncConfig
from pwc_exp.config.schema import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOCK_FILE,
    SWEEP_FILE,
    TRANSFER_FILE,
    load,
    params,
)
from pwc_exp.config.training import DestinationConfig, TrainConfig
from pwc_exp.errors import MissingInputError
from pwc_exp.sweeps.folder import PAGE, PICTURES, TABLE, SweepFolder
from pwc_exp.tracking import record
from pwc_exp.tracking.mlflow_store import where_to_look
from pwc_exp.tracking.sync import sync as sync_stores

KINDS = ("points", "pictures", "artifacts", "params", "tags")


def sync(config: SyncConfig) -> None:
    """Sends params, points, pictures, checkpoints and the end of the run, and prints how much.

    For a sweep: its own run first, so that the runs of its children are listed below it.
    """
    folder = Path(config.run).absolute()
    if not (folder / SWEEP_FILE).is_file():
        _sync_run(folder, config.tracking)
        return
    sweep = SweepFolder.load(folder)
    begun = [sweep.run_dir(child) for child in sweep.children]
    begun = [run_dir for run_dir in begun if (run_dir / record.FILE).is_file()]
    if not begun:
        raise MissingInputError(f"{folder} must hold a child that has begun. Received: none")
    _sync_sweep(sweep, load(begun[0] / CONFIG_FILE), config.tracking)
    for run_dir in begun:
        _sync_run(run_dir, config.tracking)


def _sync_sweep(sweep: SweepFolder, of_child: TrainConfig, asked: DestinationConfig) -> None:
    """The sweep's own run; its destination is in the configuration of a child."""
    files = [sweep.path / name for name in (PAGE, TABLE, SWEEP_FILE)]
    artifacts = {file.name: file for file in (*files, sweep.path / PICTURES)}
    _send(sweep.path, sweep.params, artifacts, of_child, asked, tensorboard=False)


def _sync_run(run_dir: Path, asked: DestinationConfig) -> None:
    of_run = load(run_dir / CONFIG_FILE)
    kept = checkpoints.best_and_last(run_dir / CHECKPOINTS, key=of_run.best_metric)
    artifacts = {name: run_dir / name for name in (CONFIG_FILE, TRANSFER_FILE)}
    artifacts |= {f"{CHECKPOINTS}/{name}": path for name, path in kept.items()}
    tensorboard = of_run.tracking.tensorboard
    _send(run_dir, params(of_run), artifacts, of_run, asked, tensorboard=tensorboard)


def _send(
    run_dir: Path,
    settings: Mapping[str, object],
    artifacts: Mapping[str, Path],
    config: TrainConfig,
    asked: DestinationConfig,
    *,
    tensorboard: bool,
) -> None:
    with storage.lock(run_dir / LOCK_FILE):
        store = sync_stores(
            run_dir,
            params=settings,
            artifacts=artifacts,
            uri=asked.uri or config.tracking.uri,
            experiment=asked.experiment or config.tracking.experiment,
            outputs=Path(config.outputs),
            tensorboard=tensorboard,
        )
    counts = [f"{store.sent[kind]:,} {kind}" for kind in KINDS if store.sent[kind]]
    ended = ["the end of the run"] if store.sent["status"] else []
    print(f"sent     {', '.join(counts + ended) or 'nothing: all of it is there'}")
    lines = where_to_look(
        run_dir,
        uri=asked.uri or config.tracking.uri,
        experiment=asked.experiment or config.tracking.experiment,
        outputs=Path(config.outputs),
    )
    print("\n".join(lines))
