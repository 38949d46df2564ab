"""What became of a child, as its folder tells: whoever ran it, and wherever."""

import math
from pathlib import Path
from typing import NamedTuple

from pwc_exp.config.schema import ERROR_LOG
from pwc_exp.errors import UserError
from pwc_exp.stopping import asked_by_file
from pwc_exp.tracking import journal, record
from pwc_exp.tracking.provenance import short_commit
from pwc_exp.tracking.record import Record
from pwc_exp.tuning.watch import seconds

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"  # as MLflow calls them
PRUNED = "PRUNED"
WHY_PRUNED = "pruned"  # how the reason begins that a pruned run is given
WAITING = "WAITING"  # nothing is there yet


class Outcome(NamedTuple):
    """status: one of those above. values: the last of each key. seconds: of training steps."""

    status: str
    values: dict[str, float]
    curve: list[tuple[float, float]]  # (step, value) of the metric
    steps: int  # the last with a point
    seconds: float
    reason: str  # why it did not finish, one line; empty if it did
    commit: str = ""  # of the code, with a + if files differed from it; empty where it is not known


def read(run_dir: Path, metric: str) -> Outcome:
    """Reads the folder of a run that no process runs now. metric: a key of its journal."""
    if not (run_dir / record.FILE).is_file():
        reason = _error(run_dir)
        return Outcome(FAILED if reason else WAITING, {}, [], 0, math.nan, reason)
    try:
        kept = Record.load(run_dir)
        status = kept.status
        points = journal.read(run_dir / journal.FILE) if (run_dir / journal.FILE).exists() else []
    except UserError as error:
        return Outcome(FAILED, {}, [], 0, math.nan, str(error))
    reason = ""
    if status == FAILED:
        reason = _error(run_dir) or "no reason is on record"
    elif status == KILLED:
        reason = asked_by_file(run_dir) or "it was stopped"
        status = PRUNED if reason.startswith(WHY_PRUNED) else KILLED
    spent = seconds(points)
    return Outcome(
        status=status,
        values={key: value for point in points for key, value in point.values.items()},
        curve=[(p.step, p.values[metric]) for p in points if metric in p.values],
        steps=max((point.step for point in points), default=0),
        seconds=math.nan if spent is None else spent,
        reason=reason,
        commit=short_commit(kept.about),
    )


def _error(run_dir: Path) -> str:
    """The last line of the traceback that a run left: what was raised, without its module."""
    try:
        lines = (run_dir / ERROR_LOG).read_text(encoding="utf-8").strip().splitlines()
    except OSError:
        return ""
    kind, _, message = lines[-1].partition(": ") if lines else ("", "", "")
    return message if kind.startswith("pwc_exp.") else f"{kind.rpartition('.')[2]}: {message}"
