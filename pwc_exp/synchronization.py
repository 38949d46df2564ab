"""Sends to MLflow what it lacks of a run: one that had no server, or was cut off from it."""

from pathlib import Path

from pwc_exp import checkpoints, durable
from pwc_exp.commands.aftermath import SyncConfig
from pwc_exp.config import CONFIG_FILE, LOCK_FILE, flatten, load
from pwc_exp.tracking.catch_up import catch_up
from pwc_exp.tracking.events import Artifact
from pwc_exp.weights import BEST_KEY, CHECKPOINTS

KINDS = ("points", "pictures", "artifacts", "params", "tags")


def sync(config: SyncConfig) -> None:
    """Sends params, points, pictures, checkpoints and the end of the run, and prints how much."""
    run_dir = Path(config.run).absolute()
    of_run = load(run_dir / CONFIG_FILE)
    with durable.lock(run_dir / LOCK_FILE):
        sent = catch_up(
            run_dir,
            params=flatten(of_run),
            artifacts=_artifacts(run_dir),
            uri=config.tracking.uri or of_run.tracking.uri,
            experiment=config.tracking.experiment or of_run.tracking.experiment,
            outputs=Path(of_run.outputs),
        )
    counts = [f"{sent.counts[kind]:,} {kind}" for kind in KINDS if sent.counts[kind]]
    ended = ["the end of the run"] if sent.counts["status"] else []
    print(f"sent     {', '.join(counts + ended) or 'nothing: all of it is there'}")
    print(f"MLflow   {sent.address}")


def _artifacts(run_dir: Path) -> list[Artifact]:
    """What a training run has copied when it ends."""
    shown = checkpoints.shown(run_dir / CHECKPOINTS, key=BEST_KEY)
    copies = [Artifact(path, f"{CHECKPOINTS}/{name}") for name, path in shown.items()]
    return [Artifact(run_dir / CONFIG_FILE, ""), *copies]
