"""What a folder holds of a training run or of an evaluation, to compare it with others."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pwc_exp.config.schema import CONFIG_FILE, flatten, load
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.findings import METRICS_FILE, SAMPLES_FILE
from pwc_exp.scoring import METRICS
from pwc_exp.scoring.metrics import COUNT, COUNTS
from pwc_exp.scoring.summary import Scored
from pwc_exp.tracking import journal

EVALUATION = "evaluation."  # begins the names of what an evaluation says of itself
# Of metrics.json: results, and the command, which says again, and longer, what all values say.
_NO_VALUES = {*(metric.name for metric in METRICS), COUNT, "samples", "command"}
Curve = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One folder.

    values: what it was made with, as text by name: the configuration of the training run, and what
    an evaluation says of itself.
    """

    folder: Path
    values: dict[str, str]
    curves: dict[str, Curve] = field(default_factory=dict)
    rows: dict[str, Scored] = field(default_factory=dict)  # by id; none of a training run
    errors_by_speed: Curve = field(default_factory=list)  # (number of the bin, AEPE)


def read(folder: Path) -> Recorded:
    """Reads an evaluation, with the training run that it names, or a training run.

    Raises:
        MissingInputError: it is neither.
        DataError: its files are damaged.
    """
    if (folder / SAMPLES_FILE).is_file():
        return _evaluation(folder)
    if (folder / CONFIG_FILE).is_file():
        return Recorded(folder=folder, values=_configuration(folder), curves=_curves(folder))
    raise MissingInputError(
        f"{folder} must be a training run ({CONFIG_FILE}) or an evaluation ({SAMPLES_FILE})"
    )


def _evaluation(folder: Path) -> Recorded:
    about = _metrics(folder / METRICS_FILE)
    values = {
        f"{EVALUATION}{name}": str(value)
        for name, value in about.items()
        if name not in _NO_VALUES and not isinstance(value, dict | list)
    }
    run = Path(str(about.get("run") or ""))
    of_run = "run" in about and (run / CONFIG_FILE).is_file()
    return Recorded(
        folder=folder,
        values=values | (_configuration(run) if of_run else {}),
        curves=_curves(run) if of_run else {},
        rows={row.id: row for row in _rows(folder / SAMPLES_FILE)},
        errors_by_speed=_errors_by_speed(about.get("curves", {})),
    )


def _metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file; an evaluation has it") from None
    except ValueError as error:
        raise DataError(f"{path}: not the metrics of an evaluation; {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not the metrics of an evaluation; it must be a mapping")
    return found


def _rows(path: Path) -> Iterator[Scored]:
    """The sums of each sample: a metric is a mean over a count of the same line."""
    with path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.DictReader(file)):
            try:
                yield Scored(number, cells["id"], cells["dataset"], cells["scene"], _sums(cells))
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(
                    f"{path}:{number + 2}: not a sample of an evaluation of this version; {error!r}"
                ) from error


def _sums(cells: dict[str, str]) -> dict[str, float]:
    counts = {name: float(cells[name]) for name in COUNTS if name != "images"}
    counts["images"] = float(counts[COUNT] > 0)
    sums = {m.name: float(cells[m.name] or 0) * counts[m.over] / m.scale for m in METRICS}
    return sums | counts


def _configuration(run: Path) -> dict[str, str]:
    return {name: str(value) for name, value in flatten(load(run / CONFIG_FILE)).items()}


def _curves(run: Path) -> dict[str, Curve]:
    path = run / journal.FILE
    found: dict[str, Curve] = {}
    for point in journal.read(path) if path.is_file() else []:
        for key, value in point.values.items():
            found.setdefault(key, []).append((float(point.step), value))
    return found


def _errors_by_speed(curves: dict[str, list[float]]) -> Curve:
    pairs = zip(curves.get("speed_error", []), curves.get("speed_pixels", []), strict=False)
    return [
        (place + 0.5, float(error) / count) for place, (error, count) in enumerate(pairs) if count
    ]
