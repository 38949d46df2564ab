"""The leaderboard: runs of MLflow by a metric, and in which knobs they differ."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pwc_exp import storage
from pwc_exp.alikeness import SEED, differing, experiment_of, knobs, labels
from pwc_exp.config.commands import Ended, LeaderboardConfig, Order, Seeds
from pwc_exp.errors import MissingInputError
from pwc_exp.report.leaderboard import RUN, RUN_ID, Board, as_html, as_markdown, as_text
from pwc_exp.report.page import NONE
from pwc_exp.tracking.mlflow_store import tracking_uri
from pwc_exp.tracking.provenance import short_commit, without_password
from pwc_exp.tracking.search import Found, search

_KNOBS = 6  # columns
_LENGTH = 24  # characters of a value
_MARK = "†"
_SEVERAL = "several"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run, or those that are alike but for their seed; the best first."""

    runs: list[Found]
    metric: str

    @property
    def value(self) -> float:
        """The mean of the seeds."""
        return statistics.fmean(run.metrics[self.metric] for run in self.runs)

    @property
    def validated_on(self) -> tuple[str, str]:
        """What numbers must have in common to be compared: the samples, and how many of them."""
        run = self.runs[0]
        own = run.digests.get(self.metric.rpartition("/")[0])  # val, or val/<data set>
        every = [digest for use, digest in sorted(run.digests.items()) if use.startswith("val")]
        return own or "+".join(every), run.params.get("eval_samples", "")


def rank(config: LeaderboardConfig) -> None:
    """Prints the leaderboard, and writes it.

    Raises:
        MissingInputError: no run is found, or none has the metric.
        ConfigError: MLflow does not understand `where`.
        BusyError: MLflow does not answer.
        OutputError: a file cannot be written.
    """
    uri = tracking_uri(config.tracking.uri, Path(config.outputs))
    found = search(uri, config.tracking.experiment, _conditions(config))
    board = make_board(config, found, without_password(uri))
    for name in config.out:
        out = Path(name)
        rendered = as_html(board) if out.suffix == ".html" else as_markdown(board)
        storage.make_folder(out.absolute().parent)
        storage.write_file(out, rendered.encode())
    print(as_text(board))
    if config.out:
        print(f"written: {', '.join(config.out)}")


def make_board(config: LeaderboardConfig, found: Sequence[Found], place: str) -> Board:
    """What is shown. `place`: the address of MLflow, without a password."""
    measured = [run for run in found if math.isfinite(run.metrics.get(config.metric, math.nan))]
    if not measured:
        raise MissingInputError(_nothing(config, found, place))
    rows = _rows(config, measured)
    shown = rows[: config.top]
    differ = differing([knobs(row.runs[0]) for row in shown])
    columns = _columns(config, shown, differ[:_KNOBS])
    fixed = ("rank", RUN, config.metric, RUN_ID)
    alike = {
        name: cells[0]
        for name, cells in columns.items()
        if name not in fixed and len(shown) > 1 and len(set(cells)) == 1
    }
    head = [name for name in columns if name not in alike]
    repeated = len(measured) - sum(len(row.runs) for row in rows)
    ids = [(row.runs[0].experiment_id, row.runs[0].run_id) for row in shown]
    return Board(
        title=f"{config.metric}, {config.order} first",
        head=head,
        rows=[list(cells) for cells in zip(*(columns[name] for name in head), strict=True)],
        alike=alike,
        notes=[
            *_notes(shown, differ),
            *([_repeated(repeated)] if repeated else []),
            f"{len(shown)} of {len(rows)} rows, {_count(len(measured), 'run')}"
            + _left_out(len(found) - len(measured), config.metric),
            f"MLflow at {place}, experiment {config.tracking.experiment}",
        ],
        links=[
            f"{place.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
            if place.startswith("http")
            else ""
            for experiment, run in ids
        ],
    )


def _conditions(config: LeaderboardConfig) -> list[str]:
    wanted = {
        "tags.kind": "run",
        "tags.dataset": config.dataset,
        "tags.recipe": config.recipe,
        "tags.parent": config.parent,
        "tags.best": "true" if config.best else None,
        "attributes.status": "FINISHED" if config.status == Ended.finished else None,
    }
    own = [f"{key} = '{value}'" for key, value in wanted.items() if value is not None]
    return [*own, config.where] if config.where else own


def _nothing(config: LeaderboardConfig, found: Sequence[Found], place: str) -> str:
    asked = " and ".join(_conditions(config))
    where = f"in experiment {config.tracking.experiment} of MLflow at {place}"
    if not found:
        return f"no run {where} has {asked}"
    known = sorted({key for run in found for key in run.metrics if not key.startswith("system/")})
    return (
        f"none of {_count(len(found), 'run')} {where} has a number for metric={config.metric}. "
        f"They have: {', '.join(known) or 'none'}"
    )


def _rows(config: LeaderboardConfig, measured: Sequence[Found]) -> list[Row]:
    """Best first; of runs that are alike with their seed, only the newest."""
    sign = 1 if config.order == Order.lowest else -1

    def order(run: Found) -> tuple[float, int]:
        return sign * run.metrics[config.metric], run.started

    groups: dict[object, dict[str, Found]] = {}
    for run in sorted(measured, key=lambda run: run.started):
        if config.seeds == Seeds.group:
            key, seed = experiment_of(run, config.metric), run.params.get(SEED, "")
            groups.setdefault(key, {})[seed] = run
        else:
            groups[run.run_id] = {"": run}
    rows = [
        Row(runs=sorted(group.values(), key=order), metric=config.metric)
        for group in groups.values()
    ]
    return sorted(rows, key=lambda row: (sign * row.value, row.runs[0].started))


def _columns(
    config: LeaderboardConfig, rows: Sequence[Row], differ: Sequence[str]
) -> dict[str, list[str]]:
    """{heading: cells}."""
    digits = 3 if max(abs(row.value) for row in rows) >= 0.1 else 6
    values = [knobs(row.runs[0]) for row in rows]
    return {
        "rank": [str(place) for place, _ in enumerate(rows, start=1)],
        RUN: [_name(row) for row in rows],
        config.metric: [
            _value(row, digits) + (f" {_MARK}" if not _is_comparable(row, rows[0]) else "")
            for row in rows
        ],
        "seed": [_seeds(row) for row in rows],
        **{label: [_cut(run[key]) for run in values] for key, label in labels(differ).items()},
        "steps": [f"{row.runs[0].steps[config.metric]:,}" for row in rows],
        "dataset": [_tag(row, "dataset") for row in rows],
        "recipe": [_tag(row, "recipe") for row in rows],
        "sweep": [_tag(row, "parent") for row in rows],
        "status": [_shared([run.status for run in row.runs]) for row in rows],
        "commit": [_shared([short_commit(run.tags) or NONE for run in row.runs]) for row in rows],
        "data": [row.runs[0].digests.get("train", NONE)[:8] for row in rows],
        RUN_ID: [row.runs[0].run_id for row in rows],
    }


def _name(row: Row) -> str:
    """Of several runs, what is left of their names without the seed, else their recipe."""
    if len(row.runs) == 1:
        return row.runs[0].name
    names = {
        " ".join(part for part in run.name.split() if not part.startswith(f"{SEED}="))
        for run in row.runs
    }
    return (len(names) == 1 and names.pop()) or _tag(row, "recipe")


def _value(row: Row, digits: int) -> str:
    """With its deviation over the seeds (n - 1) or, of one run, with its interval."""
    measured = f"{row.value:,.{digits}f}"
    if len(row.runs) > 1:
        deviation = statistics.stdev(run.metrics[row.metric] for run in row.runs)
        return f"{measured} ± {deviation:,.{digits}f}"
    metrics = row.runs[0].metrics
    ends = [metrics.get(f"{row.metric}_{end}", math.nan) for end in ("lower", "upper")]
    if not all(map(math.isfinite, ends)):
        return measured
    return f"{measured} [{ends[0]:,.{digits}f}, {ends[1]:,.{digits}f}]"


def _seeds(row: Row) -> str:
    seeds = sorted((run.params.get(SEED, NONE) for run in row.runs), key=lambda s: (len(s), s))
    return seeds[0] if len(seeds) == 1 else f"{', '.join(seeds)} (n {len(seeds)})"


def _tag(row: Row, name: str) -> str:
    return _shared([run.tags.get(name, NONE) for run in row.runs])


def _shared(values: Sequence[str]) -> str:
    """The value that all have."""
    return values[0] if len(set(values)) == 1 else _SEVERAL


def _cut(value: str) -> str:
    return value if len(value) <= _LENGTH else f"{value[: _LENGTH - 1]}…"


def _is_comparable(row: Row, first: Row) -> bool:
    return not row.metric.startswith("val/") or row.validated_on == first.validated_on


def _notes(rows: Sequence[Row], differ: Sequence[str]) -> Iterator[str]:
    if not all(_is_comparable(row, rows[0]) for row in rows):
        yield (
            f"{_MARK} validated on other samples than the first row: numbers of different samples "
            "are not comparable"
        )
    if any(len(row.runs) > 1 for row in rows):
        yield "±: standard deviation over the seeds (n - 1); the run named is the best of them"
    if any(f"{row.metric}_lower" in run.metrics for row in rows for run in row.runs):
        yield "in brackets: 95 % interval, bootstrap over the validation samples' scenes"
    if any("+" in short_commit(run.tags) for row in rows for run in row.runs):
        yield "commit with +: files differed from it"
    if more := differ[_KNOBS:]:
        verb = "differs" if len(more) == 1 else "differ"
        yield f"{_count(len(more), 'more knob')} {verb}: {', '.join(more)}"


def _repeated(count: int) -> str:
    verbs = "repeats the seed of a newer one, and does"
    if count > 1:
        verbs = "repeat the seeds of newer ones, and do"
    return f"{_count(count, 'run')} {verbs} not count"


def _left_out(count: int, metric: str) -> str:
    return f"; {count} without a number for {metric} left out" if count else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
