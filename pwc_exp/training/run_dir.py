"""The folder of a run, locked by one process at a time, and its tracker."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pwc_exp import checkpoints, storage
from pwc_exp.config.data import name_of
from pwc_exp.config.resume import free_changes
from pwc_exp.config.schema import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOCK_FILE,
    TRANSFER_FILE,
    load,
    params,
    to_yaml,
)
from pwc_exp.config.training import TrainConfig
from pwc_exp.data.sample import Sources
from pwc_exp.errors import OutputError
from pwc_exp.stopping import STOP_FILE
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.record import place_name, sweep_of
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
