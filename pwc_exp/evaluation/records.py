"""What an evaluation writes, metrics.json and samples.csv, and how runs are read back."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pwc_exp.config.schema import CONFIG_FILE, flatten, load
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.evaluation.bootstrap import LEVEL
from pwc_exp.evaluation.metrics import COUNT, COUNTS, ERROR_EDGES, METRICS, SPEED_EDGES, means
from pwc_exp.evaluation.summary import SampleScore, Summary
from pwc_exp.tracking import journal

METRICS_FILE, SAMPLES_FILE = "metrics.json", "samples.csv"
EVALUATION = "evaluation."  # begins the names of what an evaluation records about itself
_NAMES = ("id", "dataset", "scene")
# Of metrics.json: results, and the command, which repeats, at more length, what all values say.
_NO_SETTINGS = {*(metric.name for metric in METRICS), COUNT, "samples", "command"}

Curve = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A training run or an evaluation, read from its folder.

    settings: what it was made with, as text by name: the configuration of the training run, and
    what an evaluation records about itself.
    """

    folder: Path
    settings: dict[str, str]
    curves: dict[str, Curve] = field(default_factory=dict)
    rows: dict[str, SampleScore] = field(default_factory=dict)  # by id; none of a training run
    error_by_speed: Curve = field(default_factory=list)  # (number of the bin, AEPE)


def as_json(summary: Summary, about: Mapping[str, object], data: Mapping[str, str]) -> str:
    """metrics.json: what was evaluated, then the metrics by name, then their parts."""
    return to_json(
        {
            **about,
            **summary.whole.means,
            "intervals": {name: list(found) for name, found in summary.whole.intervals.items()},
            "bootstrap": {
                **summary.bootstrap._asdict(),
                "groups": summary.whole.groups,
                "level": LEVEL,
            },
            "data_sets": dict(data),
            "datasets": {name: part.means for name, part in summary.datasets.items()},
            "sequences": {
                name: {scene: part.means for scene, part in scenes.items()}
                for name, scenes in summary.sequences.items()
            },
            "dialects": summary.protocols,
            "curves": {
                **summary.curves,
                "speed_edges": SPEED_EDGES.tolist(),
                "error_edges": ERROR_EDGES.tolist(),
            },
        }
    )


def to_json(content: Mapping[str, object]) -> str:
    """JSON for people; it has no NaN: what could not be measured is null, infinity is "inf"."""
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def as_csv(rows: Sequence[SampleScore]) -> str:
    """samples.csv: a line per sample with its metrics and the counts that they are means over.

    What could not be measured is an empty cell. A metric times its count is its sum.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    counts = [name for name in COUNTS if name not in (COUNT, "images")]
    lines.writerow([*_NAMES, *(metric.name for metric in METRICS), COUNT, *counts])
    for row in rows:
        own = means([row.sums])
        values = ["" if math.isnan(own[m.name]) else own[m.name] for m in METRICS]
        counted = [int(row.sums[name]) for name in (COUNT, *counts)]
        lines.writerow([row.id, row.dataset, row.scene, *values, *counted])
    return text.getvalue()


def read(folder: Path) -> RunRecord:
    """Reads an evaluation, with the training run that it names, or a training run.

    Raises:
        MissingInputError: it is neither.
        DataError: its files are damaged.
    """
    if (folder / SAMPLES_FILE).is_file():
        return _read_evaluation(folder)
    if (folder / CONFIG_FILE).is_file():
        return RunRecord(folder=folder, settings=_configuration(folder), curves=_curves(folder))
    raise MissingInputError(
        f"{folder} must be a training run ({CONFIG_FILE}) or an evaluation ({SAMPLES_FILE})"
    )


def error_by_speed(curves: Mapping[str, Sequence[float]]) -> Curve:
    """AEPE in each bin of `SPEED_EDGES` that has pixels; at the middle of the bin."""
    pairs = zip(curves.get("speed_error", []), curves.get("speed_pixels", []), strict=False)
    return [(n + 0.5, float(error) / count) for n, (error, count) in enumerate(pairs) if count]


def _read_evaluation(folder: Path) -> RunRecord:
    about = _read_metrics(folder / METRICS_FILE)
    settings = {
        f"{EVALUATION}{name}": str(value)
        for name, value in about.items()
        if name not in _NO_SETTINGS and not isinstance(value, dict | list)
    }
    run = Path(str(about.get("run") or ""))
    of_run = "run" in about and (run / CONFIG_FILE).is_file()
    return RunRecord(
        folder=folder,
        settings=settings | (_configuration(run) if of_run else {}),
        curves=_curves(run) if of_run else {},
        rows={row.id: row for row in _read_samples(folder / SAMPLES_FILE)},
        error_by_speed=error_by_speed(about.get("curves", {})),
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file; every evaluation has one") from None
    except ValueError as error:
        raise DataError(f"{path}: not the metrics of an evaluation; {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not the metrics of an evaluation; it must be a mapping")
    return found


def _read_samples(path: Path) -> Iterator[SampleScore]:
    """The sums of each sample: a metric is a mean over a count of the same line."""
    with path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.DictReader(file)):
            try:
                yield SampleScore(
                    number, cells["id"], cells["dataset"], cells["scene"], _sums(cells)
                )
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(
                    f"{path}:{number + 2}: not a sample of an evaluation of this version; {error!r}"
                ) from error


def _sums(cells: Mapping[str, str]) -> dict[str, float]:
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


def _plain(value: Any) -> Any:
    """`value` with null for NaN and text for infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
