"""Sends what MLflow lacks of a run, because a process was killed or MLflow could not be reached."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from pwc_exp.tracking import journal
from pwc_exp.tracking.connection import asked
from pwc_exp.tracking.events import Artifact, Dataset, Picture
from pwc_exp.tracking.ledger import destination
from pwc_exp.tracking.mlflow_run import MlflowRun
from pwc_exp.tracking.record import Record

_AT_ONCE = 1000  # points in one call


class Sent(NamedTuple):
    """What has been sent, by kind, and where a person sees it."""

    counts: Mapping[str, int]
    address: str


def catch_up(
    run_dir: Path,
    *,
    params: Mapping[str, object],
    artifacts: Iterable[Artifact],
    uri: str | None,
    experiment: str,
    outputs: Path,
) -> Sent:
    """Makes the run in MLflow what its folder says, and sends nothing that is there already.

    Args:
        run_dir: the run's folder, which must be locked.
        params: the flat configuration.
        artifacts: files and folders to copy.
        uri: MLflow's address; None for where the run is, $MLFLOW_TRACKING_URI, or an SQLite file.
        outputs: the folder of all runs.

    Raises:
        MissingInputError: the folder is not that of a run.
        DataError: its files are damaged.
        BusyError: MLflow does not answer, or refuses.
    """
    record = Record.load(run_dir)
    points = journal.read(run_dir / journal.FILE)
    with asked(destination(run_dir, uri, outputs), "does not take what is sent"):
        run = MlflowRun(
            run_dir, record=record, params=params, uri=uri, experiment=experiment, outputs=outputs
        )
        for start in range(0, len(points), _AT_ONCE):
            run.send_points(points[start : start + _AT_ONCE])
        for dataset in record.datasets:
            run.send_item(Dataset(**dataset))
        send_pictures(run_dir, run)
        for artifact in artifacts:
            run.send_item(artifact)
        run.close(record.status, record.ended_at)
    return Sent(run.sent, run.address)


def send_pictures(run_dir: Path, run: MlflowRun) -> None:
    """Sends the pictures that MLflow lacks and the event file, their only other place, holds."""
    from pwc_exp.tracking.tensorboard import FOLDER, read_pictures  # takes long

    for drawn in read_pictures(run_dir / FOLDER):
        if not run.has_picture(drawn.step, drawn.key):
            pixels = np.asarray(PIL.Image.open(io.BytesIO(drawn.png)))
            run.send_item(Picture(drawn.step, drawn.time, drawn.key, pixels))
