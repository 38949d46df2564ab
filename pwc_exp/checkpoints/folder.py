"""The checkpoints of a run: the last, the best, those that stay, and the damaged ones."""

import itertools
import logging
import math
import re
from pathlib import Path

from pwc_exp import durable
from pwc_exp.checkpoints.files import Checkpoint, load, read_manifest
from pwc_exp.checkpoints.state import first
from pwc_exp.errors import DataError, MissingInputError, ResumeError

_STEP_FOLDER = re.compile(r"step-(\d{8,})")
_CORRUPT = ".corrupt-"
_NEWEST = 2  # that always stay: the last one, and one to go on from should that be damaged
_log = logging.getLogger(__name__)


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints in `folder`, by step."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=_step)


def latest(folder: Path) -> Path | None:
    """Finds the checkpoint of the highest step; None if there is none."""
    return next(reversed(list_checkpoints(folder)), None)


def newest_intact(folder: Path) -> Checkpoint | None:
    """Reads the checkpoint of the highest step that is intact; None if `folder` has none at all.

    Damaged ones before it are renamed to `.corrupt-<name>`, with a warning each: for one process
    at a time.

    Raises:
        DataError: there are some, and all are damaged; they keep their names.
        ResumeError: the newest one is of another format.
    """
    damaged = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = load(path)
        except (DataError, MissingInputError) as error:
            damaged[path] = error
            continue
        for corrupt, reason in damaged.items():
            _log.warning("%s is set aside as %s: %s", corrupt, _set_aside(corrupt).name, reason)
        return checkpoint
    if damaged:
        reasons = first(map(str, damaged.values()))
        raise DataError(f"{folder} holds damaged checkpoints only: {reasons}")
    return None


def best(folder: Path, *, key: str) -> Path | None:
    """Finds the checkpoint whose metric `key` is lowest; None if none has a number there."""
    return next(iter(_ranked(folder, key)), None)


def shown(folder: Path, *, key: str) -> dict[str, Path]:
    """The checkpoints that people ask for, by name: best and last; none that is not there."""
    chosen = {"best": best(folder, key=key), "last": latest(folder)}
    return {name: path for name, path in chosen.items() if path is not None}


def retain(folder: Path, *, keep_best: int, key: str) -> None:
    """Removes all checkpoints but the last two and the `keep_best` with the lowest metric `key`."""
    durable.remove_leftovers(folder)
    found = list_checkpoints(folder)
    kept = {*found[-_NEWEST:], *_ranked(folder, key)[:keep_best]}
    for path in found:
        if path not in kept:
            durable.remove_folder(path)


def _set_aside(path: Path) -> Path:
    plain = path.with_name(_CORRUPT + path.name)
    numbered = (plain.with_name(f"{plain.name}-{number}") for number in itertools.count(2))
    target = next(place for place in itertools.chain([plain], numbered) if not place.exists())
    durable.rename(path, target)
    return target


def _ranked(folder: Path, key: str) -> list[Path]:
    """The checkpoints that have a finite metric `key`, lowest first, later first if equal."""
    metrics = {path: _metric(path, key) for path in list_checkpoints(folder)}
    finite = [path for path, metric in metrics.items() if math.isfinite(metric)]
    return sorted(finite, key=lambda path: (metrics[path], -_step(path)))


def _metric(path: Path, key: str) -> float:
    try:
        return read_manifest(path).metrics.get(key, math.nan)
    except (DataError, MissingInputError, ResumeError):
        return math.nan  # a damaged checkpoint is never the best


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
