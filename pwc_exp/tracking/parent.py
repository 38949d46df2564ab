"""The sweep that a run is a child of, as the files in the folder above the run's say it.

Nothing in a run says that it is a child: it is one if the folder above holds sweep.json.
"""

import json
from pathlib import Path
from typing import NamedTuple

from pwc_exp.tracking import record
from pwc_exp.tracking.record import UID

SWEEP_FILE = "sweep.json"


class Sweep(NamedTuple):
    """A sweep, as a child of it knows it."""

    name: str  # such as quickstart/2026-11-26_21-00-00
    uid: str  # the `run_uid` of its own run in MLflow
    child: str  # name of the child: the values that set it apart
    values: dict[str, str]  # these values, by key


def sweep_of(run_dir: Path) -> Sweep | None:
    """The sweep of the run in `run_dir`; None of a run that is no child.

    Files that are damaged make it no child: they are no reason not to train.
    """
    above = run_dir.absolute().parent
    try:
        children = json.loads((above / SWEEP_FILE).read_bytes())["children"]
        about = json.loads((above / record.FILE).read_bytes())
        child = next(entry for entry in children if entry["folder"] == run_dir.name)
        values = {str(key): str(value) for key, value in child["values"].items()}
        return Sweep(str(about["name"]), str(about[UID]), str(child["name"]), values)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, StopIteration):
        return None
