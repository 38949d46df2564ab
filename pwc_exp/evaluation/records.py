"""What an evaluation found, how it is written (metrics.json, samples.csv), and how it is read."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pwc_exp.config.commands import BootstrapConfig, Unit
from pwc_exp.config.schema import CONFIG_FILE, flatten, load
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.evaluation.bootstrap import LEVEL, Interval, intervals
from pwc_exp.evaluation.metrics import (
    COUNT,
    COUNTS,
    CURVES,
    ERROR_EDGES,
    METRICS,
    SPEED_EDGES,
    Sums,
    means,
    total,
)
from pwc_exp.evaluation.protocols import GroundTruthKind, score_by_protocols
from pwc_exp.tracking import journal

METRICS_FILE, SAMPLES_FILE = "metrics.json", "samples.csv"
EVALUATION = "evaluation."  # begins the names of what an evaluation records about itself
_COUNTS = [COUNT, *(name for name in COUNTS if name not in (COUNT, "images"))]  # columns
# Of metrics.json: results, and the command, which repeats, at more length, what all values say.
_NO_SETTINGS = {*(metric.name for metric in METRICS), COUNT, "samples", "command"}

Curve = list[tuple[float, float]]  # (step, value)


class SampleScore(NamedTuple):
    """The sums of one sample, and where it is from."""

    number: int  # in its source
    id: str
    dataset: str
    scene: str
    sums: Sums

    @property
    def aepe(self) -> float:
        """Its own AEPE, in pixels; NaN without a valid pixel."""
        return self.sums["aepe"] / self.sums[COUNT] if self.sums[COUNT] else math.nan


@dataclass(frozen=True, kw_only=True)
class Part:
    """The metrics over some of the samples."""

    means: dict[str, float]  # see `metrics.means`
    intervals: dict[str, Interval] = field(default_factory=dict)
    groups: int = 0  # that the intervals are drawn from


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is written, printed and plotted."""

    rows: list[SampleScore]
    whole: Part
    datasets: dict[str, Part]
    sequences: dict[str, dict[str, Part]]  # {data set: {scene: …}}; only where scenes have several
    protocols: dict[str, dict[str, dict[str, float]]]  # {data set: {protocol: {figure: value}}}
    curves: dict[str, list[float]]  # see `metrics.CURVES`
    bootstrap: BootstrapConfig


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


def summarize(
    rows: Sequence[SampleScore],
    *,
    kinds: Mapping[str, GroundTruthKind],
    protocols: Sequence[str],
    bootstrap: BootstrapConfig,
) -> Summary:
    """Divides every sum by its count, once.

    Args:
        rows: in the order of the source.
        kinds: what the ground truth of each data set is like.
        protocols: by whose definitions to score as well.
        bootstrap: of the intervals, over everything and of each data set.
    """

    def part(rows: Sequence[SampleScore]) -> Part:
        sums, groups = [row.sums for row in rows], groups_of(rows, bootstrap)
        drawn = intervals(sums, groups, draws=bootstrap.draws, seed=bootstrap.seed)
        return Part(means=means(sums), intervals=drawn, groups=len(set(groups)))

    datasets = _split(rows, lambda row: row.dataset)
    scenes = {name: _split(own, lambda row: row.scene) for name, own in datasets.items()}
    totals = total([row.sums for row in rows])
    return Summary(
        rows=list(rows),
        whole=part(rows),
        datasets={name: part(own) for name, own in datasets.items()},
        sequences={
            name: {scene: Part(means=means([row.sums for row in of])) for scene, of in own.items()}
            for name, own in scenes.items()
            if len(own) < len(datasets[name])
        },
        protocols={
            name: score_by_protocols(protocols, [row.sums for row in own], kinds[name])
            for name, own in datasets.items()
            if protocols
        },
        curves={name: [totals.get(key, 0.0) for key in keys] for name, keys in CURVES.items()},
        bootstrap=bootstrap,
    )


def groups_of(rows: Sequence[SampleScore], bootstrap: BootstrapConfig) -> list[str]:
    """For each sample, the group that it is drawn with."""
    by_scene = bootstrap.unit == Unit.scenes
    return [f"{row.dataset}/{row.scene if by_scene else row.id}" for row in rows]


def as_json(summary: Summary, about: Mapping[str, object], data: Mapping[str, str]) -> str:
    """metrics.json: what was evaluated, then the metrics by name, then their parts."""
    bootstrap = summary.bootstrap
    return to_json(
        {
            **about,
            **summary.whole.means,
            "intervals": {name: list(found) for name, found in summary.whole.intervals.items()},
            "bootstrap": {
                "by_scene": bootstrap.unit == Unit.scenes,
                "draws": bootstrap.draws,
                "seed": bootstrap.seed,
                "groups": summary.whole.groups,
                "level": LEVEL,
            },
            "data_sets": data,
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

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return value

    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"


def as_csv(rows: Sequence[SampleScore]) -> str:
    """samples.csv: a line per sample with its metrics and the counts that they are means over.

    What could not be measured is an empty cell. A metric times its count is its sum.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["id", "dataset", "scene", *(metric.name for metric in METRICS), *_COUNTS])
    for row in rows:
        own = means([row.sums])
        values = ["" if math.isnan(own[m.name]) else own[m.name] for m in METRICS]
        counted = [int(row.sums[name]) for name in _COUNTS]
        lines.writerow([row.id, row.dataset, row.scene, *values, *counted])
    return text.getvalue()


def read(folder: Path) -> RunRecord:
    """Reads an evaluation, with the training run that it names, or a training run.

    Raises:
        MissingInputError: it is neither.
        DataError: its files are damaged.
    """
    if not (folder / SAMPLES_FILE).is_file():
        if not (folder / CONFIG_FILE).is_file():
            raise MissingInputError(
                f"{folder} must be a training run ({CONFIG_FILE}) or an evaluation ({SAMPLES_FILE})"
            )
        return RunRecord(folder=folder, settings=_configuration(folder), curves=_curves(folder))
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


def error_by_speed(curves: Mapping[str, Sequence[float]]) -> Curve:
    """AEPE in each bin of `SPEED_EDGES` that has pixels; at the middle of the bin."""
    pairs = zip(curves.get("speed_error", []), curves.get("speed_pixels", []), strict=False)
    return [(n + 0.5, float(error) / count) for n, (error, count) in enumerate(pairs) if count]


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


def _read_samples(path: Path) -> list[SampleScore]:
    """The sums of each sample: a metric is a mean over a count of the same line."""
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, cells in enumerate(csv.DictReader(file)):
            try:
                sums = {name: float(cells[name]) for name in _COUNTS}
                sums["images"] = float(sums[COUNT] > 0)
                for m in METRICS:
                    sums[m.name] = float(cells[m.name] or 0) * sums[m.over] / m.scale
                rows.append(
                    SampleScore(number, cells["id"], cells["dataset"], cells["scene"], sums)
                )
            except (KeyError, ValueError, TypeError) as error:
                raise DataError(
                    f"{path}:{number + 2}: not a sample of an evaluation of this version; {error!r}"
                ) from error
    return rows


def _configuration(run: Path) -> dict[str, str]:
    return {name: str(value) for name, value in flatten(load(run / CONFIG_FILE)).items()}


def _curves(run: Path) -> dict[str, Curve]:
    path = run / journal.FILE
    found: dict[str, Curve] = {}
    for point in journal.read(path) if path.is_file() else []:
        for key, value in point.values.items():
            found.setdefault(key, []).append((float(point.step), value))
    return found


def _split(
    rows: Sequence[SampleScore], key: Callable[[SampleScore], str]
) -> dict[str, list[SampleScore]]:
    parts: dict[str, list[SampleScore]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return parts
