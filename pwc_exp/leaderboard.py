"""`python -m pwc_exp.leaderboard`: the best runs in MLflow, and the settings in which they differ.

Nothing that takes long is imported before the arguments are checked.
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pwc_exp import cli
from pwc_exp.config.commands import Ended, LeaderboardConfig, Order, Seeds
from pwc_exp.config.composition import FREE, FREE_GROUPS
from pwc_exp.config.schema import CHOICE
from pwc_exp.errors import MissingInputError

if TYPE_CHECKING:
    from pwc_exp.tracking.search import Found

RUN, RUN_ID = "run", "MLflow run"  # columns
_NONE = "\u2013"
_SETTINGS = 6  # columns
_LENGTH = 24  # characters of a value
_MARK = "†"
SEED = "seed"
_APART = (FREE - {"steps"}) | {SEED, "name"}  # settings that do not change the experiment
_TAGS = {"dataset": "dataset", "recipe": "recipe", "sweep": "parent"}  # column -> tag


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run, or runs that differ in their seed only; the best first."""

    runs: "list[Found]"
    metric: str

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(run.metrics[self.metric] for run in self.runs)

    @property
    def validated_on(self) -> tuple[str, str]:
        """What comparable numbers have in common: the samples, and how many of them."""
        run = self.runs[0]
        own = run.digests.get(self.metric.rpartition("/")[0])  # val, or val/<data set>
        every = [digest for use, digest in sorted(run.digests.items()) if use.startswith("val")]
        return own or "+".join(every), run.params.get("eval_samples", "")

    def is_comparable(self, other: "Row") -> bool:
        """Whether both were measured on the same samples."""
        return not self.metric.startswith("val/") or self.validated_on == other.validated_on


@dataclass(frozen=True, kw_only=True)
class Board:
    """The cells of a leaderboard, as they are shown."""

    title: str
    head: list[str]
    rows: list[list[str]]  # cells, one for each of `head`
    shared: dict[str, str] = field(default_factory=dict)  # columns whose cells are all the same
    notes: list[str] = field(default_factory=list)

    @property
    def in_all(self) -> str:
        """The columns whose cells are all the same, in words."""
        return ", ".join(f"{name} {value}" for name, value in self.shared.items())


def main() -> None:
    """Runs `show`."""
    cli.run("leaderboard", "pwc_exp.leaderboard:show")


def show(config: LeaderboardConfig) -> None:
    """Prints the leaderboard, and writes it.

    Raises:
        MissingInputError: no run is found, or none has the metric.
        ConfigError: MLflow does not understand `where`.
        BusyError: MLflow does not answer.
        OutputError: a file cannot be written.
    """
    from pwc_exp import storage
    from pwc_exp.tracking.mlflow_store import tracking_uri
    from pwc_exp.tracking.record import without_password
    from pwc_exp.tracking.search import search

    uri = tracking_uri(config.tracking.uri, Path(config.outputs))
    found = search(uri, config.tracking.experiment, _conditions(config))
    board = make_board(config, found, without_password(uri))
    for name in config.out:
        storage.make_folder(Path(name).absolute().parent)
        storage.write_file(Path(name), as_markdown(board).encode())
    print(as_text(board))
    if config.out:
        print(f"written: {', '.join(config.out)}")


def make_board(config: LeaderboardConfig, found: "Sequence[Found]", place: str) -> Board:
    """What is shown. `place`: the address of MLflow, without a password."""
    measured = [run for run in found if math.isfinite(run.metrics.get(config.metric, math.nan))]
    if not measured:
        raise MissingInputError(_nothing(config, found, place))
    rows = _rows(config, measured)
    shown = rows[: config.top]
    differ = differing([settings_of(row.runs[0]) for row in shown])
    columns = _columns(config, shown, differ[:_SETTINGS])
    shared = {
        name: cells[0]
        for name, cells in columns.items()
        if name not in ("rank", RUN, config.metric, RUN_ID)
        if len(shown) > 1 and len(set(cells)) == 1
    }
    head = [name for name in columns if name not in shared]
    repeated = len(measured) - sum(len(row.runs) for row in rows)
    missing = len(found) - len(measured)
    notes = list(_notes(shown, differ[_SETTINGS:]))
    if repeated:
        older = _count(repeated, "older run")
        notes.append(f"{older} with a seed that a newer run has: not counted")
    left_out = f"; {missing} without a number for {config.metric} left out" if missing else ""
    notes += [
        f"{len(shown)} of {len(rows)} rows, {_count(len(measured), 'run')}{left_out}",
        f"MLflow at {place}, experiment {config.tracking.experiment}",
    ]
    return Board(
        title=f"{config.metric}, {config.order} first",
        head=head,
        rows=[list(cells) for cells in zip(*(columns[name] for name in head), strict=True)],
        shared=shared,
        notes=notes,
    )


def as_text(board: Board) -> str:
    """Columns for a terminal."""
    from pwc_exp.report.pages import aligned

    shared = [f"in all: {board.in_all}"] if board.shared else []
    rows = aligned([board.head, *board.rows])
    return "\n".join([board.title, *shared, "", *rows, "", *board.notes])


def as_markdown(board: Board) -> str:
    """The same as a table in Markdown."""
    from pwc_exp.report.pages import literal, markdown_table

    lines = markdown_table([[literal(cell) for cell in row] for row in (board.head, *board.rows)])
    shared = [f"In all: {literal(board.in_all)}.", ""] if board.shared else []
    notes = [f"- {literal(note)}" for note in board.notes]
    return "\n".join([f"# {literal(board.title)}", "", *shared, *lines, "", *notes, ""])


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


def _nothing(config: LeaderboardConfig, found: "Sequence[Found]", place: str) -> str:
    where = f"in experiment {config.tracking.experiment} of MLflow at {place}"
    if not found:
        return f"no run {where} has {' and '.join(_conditions(config))}"
    known = sorted({key for run in found for key in run.metrics if not key.startswith("system/")})
    return (
        f"none of {_count(len(found), 'run')} {where} has a number for metric={config.metric}. "
        f"They have: {', '.join(known) or 'none'}"
    )


def _rows(config: LeaderboardConfig, measured: "Sequence[Found]") -> list[Row]:
    """Best first; of runs with the same settings and seed, only the newest."""
    sign = 1 if config.order == Order.lowest else -1
    groups: dict[object, dict[str, Found]] = {}
    for run in sorted(measured, key=lambda run: run.started):
        if config.seeds == Seeds.group:
            key, seed = experiment_of(run, config.metric), run.params.get(SEED, "")
            groups.setdefault(key, {})[seed] = run
        else:
            groups[run.run_id] = {"": run}
    rows = []
    for group in groups.values():
        runs = sorted(group.values(), key=lambda r: (sign * r.metrics[config.metric], r.started))
        rows.append(Row(runs=runs, metric=config.metric))
    return sorted(rows, key=lambda row: (sign * row.value, row.runs[0].started))


def _columns(
    config: LeaderboardConfig, rows: Sequence[Row], differ: Sequence[str]
) -> dict[str, list[str]]:
    """{heading: cells}."""
    from pwc_exp.report.pages import shortened
    from pwc_exp.tracking.record import short_commit

    digits = 3 if max(abs(row.value) for row in rows) >= 0.1 else 6
    settings = [settings_of(row.runs[0]) for row in rows]
    marks = ["" if row.is_comparable(rows[0]) else f" {_MARK}" for row in rows]
    return {
        "rank": [str(place) for place, _ in enumerate(rows, start=1)],
        RUN: [_name(row) for row in rows],
        config.metric: [_value(row, digits) + mark for row, mark in zip(rows, marks, strict=True)],
        "seed": [_seeds(row) for row in rows],
        **{
            label: [shortened(own[key], _LENGTH) for own in settings]
            for key, label in labels(differ).items()
        },
        "steps": [f"{row.runs[0].steps[config.metric]:,}" for row in rows],
        **{
            name: [_shared([run.tags.get(tag, _NONE) for run in row.runs]) for row in rows]
            for name, tag in _TAGS.items()
        },
        "status": [_shared([run.status for run in row.runs]) for row in rows],
        "commit": [_shared([short_commit(run.tags) or _NONE for run in row.runs]) for row in rows],
        "data": [row.runs[0].digests.get("train", _NONE)[:8] for row in rows],
        RUN_ID: [row.runs[0].run_id for row in rows],
    }


def _name(row: Row) -> str:
    """Of several runs, what their names have in common without the seed, else their recipe."""
    if len(row.runs) == 1:
        return row.runs[0].name
    names = {
        " ".join(part for part in run.name.split() if not part.startswith("seed="))
        for run in row.runs
    }
    recipes = _shared([run.tags.get("recipe", _NONE) for run in row.runs])
    return (len(names) == 1 and names.pop()) or recipes


def _value(row: Row, digits: int) -> str:
    """With the standard deviation over the seeds (n - 1) or, of one run, with its interval."""
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
    seeds = sorted((run.params.get("seed", _NONE) for run in row.runs), key=lambda s: (len(s), s))
    return seeds[0] if len(seeds) == 1 else f"{', '.join(seeds)} (n {len(seeds)})"


def _shared(values: Sequence[str]) -> str:
    """The value that all have."""
    return values[0] if len(set(values)) == 1 else "several"


def _notes(rows: Sequence[Row], more: Sequence[str]) -> Iterator[str]:
    if not all(row.is_comparable(rows[0]) for row in rows):
        yield f"{_MARK} validated on other samples than the first row: not comparable with it"
    if any(len(row.runs) > 1 for row in rows):
        yield "±: standard deviation over the seeds (n - 1); the run named is the best of them"
    if any(f"{row.metric}_lower" in run.metrics for row in rows for run in row.runs):
        yield "in brackets: 95 % interval, bootstrap over the validation samples' scenes"
    if any(run.tags.get("dirty") == "true" for row in rows for run in row.runs):
        yield "commit with +: the working tree had uncommitted changes"
    if more:
        verb = "differs" if len(more) == 1 else "differ"
        yield f"{_count(len(more), 'more setting')} {verb}: {', '.join(more)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def settings_of(found: "Found") -> dict[str, str]:
    """The values that define the experiment of a run, and the choice of each group."""
    apart = (*FREE_GROUPS, CHOICE)
    own = {
        key: value
        for key, value in found.params.items()
        if key not in _APART and not key.startswith(apart)
    }
    choices = [key for key in found.params if key.startswith(CHOICE)]
    chosen = {key.removeprefix(CHOICE): found.params[key] for key in choices}
    named = {group for group in chosen if f"{group}.name" in own} | {"experiment", "tracking"}
    return {group: choice for group, choice in chosen.items() if group not in named} | own


def experiment_of(found: "Found", metric: str) -> Hashable:
    """A key that is equal for runs that differ only in their seed, at a step, on the same data."""
    values = {key: value for key, value in settings_of(found).items() if key != "steps"}
    return frozenset(values.items()), found.steps[metric], frozenset(found.digests.items())


def differing(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Settings that all runs have and that differ, apart from those that follow from a name.

    A setting of a model that its name determines is left out, such as the channels of sm and tiny;
    likewise for data. Choices of groups come first, settings of the data last.
    """
    shared = [key for key in runs[0] if all(key in run for run in runs)]
    differ = [key for key in shared if len({run[key] for run in runs}) > 1]
    return sorted(
        (key for key in differ if not _follows(key, runs)),
        key=lambda key: (key.startswith("data."), "." in key and not key.endswith(".name"), key),
    )


def labels(keys: Iterable[str]) -> dict[str, str]:
    """Short names: the last part of each key, unless another key has the same."""
    short = {}
    for key in keys:
        group, _, last = key.rpartition(".")
        short[key] = group if group and last == "name" else last
    taken = list(short.values())
    return {key: key if taken.count(label) > 1 else label for key, label in short.items()}


def _follows(key: str, runs: Sequence[Mapping[str, str]]) -> bool:
    """Whether runs with the same name of the setting's group have the same value of the setting."""
    name = f"{key.partition('.')[0]}.name"
    if name == key or not all(name in run for run in runs):
        return False
    values: dict[str, str] = {}
    return all(values.setdefault(run[name], run[key]) == run[key] for run in runs)


if __name__ == "__main__":
    main()
