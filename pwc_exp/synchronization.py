"""Sends to MLflow what it lacks of a run: one that had no server, or was cut off from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pwc_exp import checkpoints, storage
from pwc_exp.config.commands import SyncConfig
from pwc_exp.config.schema import CHECKPOINTS, CONFIG_FILE, LOCK_FILE, TRANSFER_FILE, load, params
from pwc_exp.config.training import DestinationConfig, TrainConfig
from pwc_exp.errors import MissingInputError
from pwc_exp.sweeps.folder import FILE as SWEEP_FILE
from pwc_exp.sweeps.folder import PAGE, PICTURES, TABLE, SweepFolder
from pwc_exp.tracking.catch_up import catch_up
from pwc_exp.tracking.events import Artifact

KINDS = ("points", "pictures", "artifacts", "params", "tags")


def sync(config: SyncConfig) -> None:
    """Sends params, points, pictures, checkpoints and the end of the run, and prints how much.

    Of a sweep, its own run first, so that those of its children, which follow, are below it.
    """
    folder = Path(config.run).absolute()
    if not (folder / SWEEP_FILE).is_file():
        _sync_run(folder, config.tracking)
        return
    sweep = SweepFolder.load(folder)
    begun = [sweep.run_dir(child) for child in sweep.children]
    begun = [run_dir for run_dir in begun if (run_dir / CONFIG_FILE).is_file()]
    if not begun:
        raise MissingInputError(f"{folder} must hold a child that has begun. Received: none")
    _sync_sweep(sweep, load(begun[0] / CONFIG_FILE), config.tracking)
    for run_dir in begun:
        _sync_run(run_dir, config.tracking)


def _sync_sweep(sweep: SweepFolder, of_child: TrainConfig, asked: DestinationConfig) -> None:
    """Its own run; where that is to be, its children know."""
    files = [sweep.path / name for name in (PAGE, TABLE, SWEEP_FILE)]
    artifacts = [Artifact(file, "") for file in files if file.is_file()]
    if (pictures := sweep.path / PICTURES).is_dir():
        artifacts.append(Artifact(pictures, PICTURES))
    _send(sweep.path, sweep.params, artifacts, of_child, asked)


def _sync_run(run_dir: Path, asked: DestinationConfig) -> None:
    of_run = load(run_dir / CONFIG_FILE)
    _send(run_dir, params(of_run), _artifacts(run_dir, of_run), of_run, asked)


def _send(
    run_dir: Path,
    told: Mapping[str, object],
    artifacts: Sequence[Artifact],
    config: TrainConfig,
    asked: DestinationConfig,
) -> None:
    with storage.lock(run_dir / LOCK_FILE):
        sent = catch_up(
            run_dir,
            params=told,
            artifacts=artifacts,
            uri=asked.uri or config.tracking.uri,
            experiment=asked.experiment or config.tracking.experiment,
            outputs=Path(config.outputs),
        )
    counts = [f"{sent.counts[kind]:,} {kind}" for kind in KINDS if sent.counts[kind]]
    ended = ["the end of the run"] if sent.counts["status"] else []
    print(f"sent     {', '.join(counts + ended) or 'nothing: all of it is there'}")
    print(f"MLflow   {sent.address}")


def _artifacts(run_dir: Path, config: TrainConfig) -> list[Artifact]:
    """What a training run has copied when it ends."""
    shown = checkpoints.best_and_last(run_dir / CHECKPOINTS, key=config.best_metric)
    copies = [Artifact(path, f"{CHECKPOINTS}/{name}") for name, path in shown.items()]
    files = [run_dir / name for name in (CONFIG_FILE, TRANSFER_FILE)]
    return [*(Artifact(file, "") for file in files if file.is_file()), *copies]
