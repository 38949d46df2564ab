"""The folder of a run: locked by one process at a time, its tracker; what MLflow lacks of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pwc_exp import checkpoints, storage
from pwc_exp.config.commands import SyncConfig
from pwc_exp.config.composition import free_changes
from pwc_exp.config.data import name_of
from pwc_exp.config.schema import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOCK_FILE,
    SWEEP_FILE,
    TRANSFER_FILE,
    load,
    params,
    to_yaml,
)
from pwc_exp.config.training import DestinationConfig, TrainConfig
from pwc_exp.data.sample import Sources
from pwc_exp.errors import MissingInputError, OutputError
from pwc_exp.stopping import STOP_FILE
from pwc_exp.sweeps.folder import PAGE, PICTURES, TABLE, SweepFolder
from pwc_exp.tracking import Tracker, record
from pwc_exp.tracking.mlflow_store import where_to_look
from pwc_exp.tracking.record import place_name, sweep_of
from pwc_exp.tracking.tracker import sync as sync_stores
from pwc_exp.training.state import RunState
from pwc_exp.weights import STARTED_FROM


@contextmanager
def acquire_run_dir(
    run_dir: Path, config: TrainConfig, *, resumed: bool
) -> Iterator[dict[str, Any]]:
    """Locks the run's folder, and yields the settings that a resumed run changes.

    Raises:
        OutputError: the folder is that of another run.
        BusyError: another process is training the run.
    """
    file = run_dir / CONFIG_FILE
    if file.exists() and not resumed:
        raise OutputError(f"{run_dir} must be a new folder. Received: that of another run")
    storage.make_folder(run_dir)
    with storage.lock(run_dir / LOCK_FILE):
        storage.remove_leftovers(run_dir)
        if resumed:
            (run_dir / STOP_FILE).unlink(missing_ok=True)  # the request has been met
        changes = free_changes(load(file), config) if resumed else {}
        if changes or not resumed:
            storage.write_file(file, to_yaml(config).encode())
        yield changes


def open_tracker(
    state: RunState, changes: Mapping[str, tuple[Any, Any]], *, resumed: bool
) -> Tracker:
    """The tracker of a run's metrics, pictures and files."""
    config, run_dir = state.config, state.run_dir
    sweep = sweep_of(run_dir)
    # Tags to search runs by: see docs/sweeps.md.
    tags = {
        "run_dir": str(run_dir),
        "kind": "run",
        "dataset": name_of(config.data),
        "recipe": config.name,
        **({"parent": sweep.name} if sweep else {}),
    }
    if state.origin is not None:
        # Absolute: who reads the record later may be in another folder.
        origin = {**state.origin.record(), "path": str(state.origin.path.absolute())}
        tags |= {"init_from": origin["path"], STARTED_FROM: json.dumps(origin)}
    return Tracker(
        run_dir,
        run_name=sweep.child if sweep else place_name(run_dir, Path(config.outputs)),
        params=params(config),
        tags=tags,
        uri=config.tracking.uri,
        experiment=config.tracking.experiment,
        outputs=Path(config.outputs),
        mlflow=config.tracking.mlflow,
        tensorboard=config.tracking.tensorboard,
        required=config.tracking.required,
        resumed_at=state.step if resumed else None,
        changes=changes,
    )


def describe_run(tracker: Tracker, state: RunState, sources: Sources) -> None:
    """Logs the configuration, the data sets and the weights taken from another run."""
    tracker.artifact(state.run_dir / CONFIG_FILE, "")
    if state.transfer is not None:
        storage.write_file(state.run_dir / TRANSFER_FILE, state.transfer.details().encode())
        tracker.artifact(state.run_dir / TRANSFER_FILE, "")
    used = {"train": sources.train, "val": sources.val, **sources.validation}
    for context, source in used.items():
        sizes = {context: source.size}
        tracker.dataset(source.name, digest=source.digest, sizes=sizes, context=context)


def send_checkpoints(state: RunState, tracker: Tracker) -> None:
    """Logs the best and the last checkpoint to MLflow."""
    folder = state.run_dir / CHECKPOINTS
    for name, path in checkpoints.best_and_last(folder, key=state.config.best_metric).items():
        tracker.artifact(path, f"{CHECKPOINTS}/{name}")


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
