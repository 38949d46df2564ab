"""`python -m pwc_exp.leaderboard`: the best runs in MLflow, and the settings in which they differ.

Nothing that takes long is imported before the arguments are checked.
"""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pwc_exp import cli
from pwc_exp.config.commands import Ended, LeaderboardConfig, Order, Seeds
from pwc_exp.config.composition import FREE, FREE_GROUPS
from pwc_exp.config.schema import CHOICE
from pwc_exp.errors import MissingInputError

if TYPE_CHECKING:
    from pwc_exp.tracking.search import Found

RUN, SEED, RUN_ID = "run", "seed", "MLflow run"  # columns
_NONE = "\u2013"
_MARK = "†"
_SETTINGS = 6  # columns
_LENGTH = 24  # characters of a value
_APART = (FREE - {"steps"}) | {SEED, "name"}  # settings that do not change the experiment


class Board(NamedTuple):
    """A leaderboard, as it is shown."""

    title: str
    table: list[list[str]]  # the heading and the rows
    notes: list[str]


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


def make_board(config: LeaderboardConfig, found: "Sequence[Found]", place: str) -> Board:
    """What is shown. `place`: the address of MLflow, without a password.

    Raises:
        MissingInputError: `found` is empty, or none of them has the metric.
    """
    metric = config.metric
    measured = [run for run in found if math.isfinite(run.metrics.get(metric, math.nan))]
    where = f"in experiment {config.tracking.experiment} of MLflow at {place}"
    if not found:
        raise MissingInputError(f"no run {where} has {' and '.join(_conditions(config))}")
    if not measured:
        known = {key for run in found for key in run.metrics if not key.startswith("system/")}
        raise MissingInputError(
            f"none of {len(found)} run(s) {where} has a number for metric={metric}. "
            f"They have: {', '.join(sorted(known)) or 'none'}"
        )
    rows = _rows(config, measured)
    shown = rows[: config.top]
    differ = differing([settings_of(runs[0]) for runs in shown])
    cells = _cells(metric, shown, differ[:_SETTINGS])
    own = {"rank", RUN, metric, RUN_ID} if len(cells) > 1 else cells[0].keys()
    head = [name for name in cells[0] if name in own or len({row[name] for row in cells}) > 1]
    in_all = [f"{name} {cell}" for name, cell in cells[0].items() if name not in head]
    missing, older = len(found) - len(measured), len(measured) - sum(map(len, rows))
    notes = {  # {note: whether it applies}
        f"in all rows: {', '.join(in_all)}": in_all,
        f"more settings that differ: {', '.join(differ[_SETTINGS:])}": differ[_SETTINGS:],
        f"{_MARK} validated on other samples than the first row: not comparable with it": any(
            row[metric].endswith(_MARK) for row in cells
        ),
        "±: standard deviation over the seeds (n - 1); the run named is the best of them": any(
            len(runs) > 1 for runs in shown
        ),
        "in brackets: 95 % interval, bootstrap over the validation samples' scenes": any(
            f"{metric}_lower" in run.metrics for runs in shown for run in runs
        ),
        "commit with +: the working tree had uncommitted changes": any(
            run.tags.get("dirty") == "true" for runs in shown for run in runs
        ),
        f"{older} older with a seed that a newer run has: not counted": older,
        f"{missing} without a number for {metric}: left out": missing,
        f"{len(shown)} of {len(rows)} rows, {len(found)} runs": True,
        f"MLflow at {place}, experiment {config.tracking.experiment}": True,
    }
    return Board(
        title=f"{metric}, {config.order} first",
        table=[head, *([row[name] for name in head] for row in cells)],
        notes=[note for note, applies in notes.items() if applies],
    )


def as_text(board: Board) -> str:
    """Columns for a terminal."""
    from pwc_exp.report.pages import aligned

    return "\n".join([board.title, "", *aligned(board.table), "", *board.notes])


def as_markdown(board: Board) -> str:
    """The same as a table in Markdown."""
    from pwc_exp.report.pages import literal, markdown_table

    lines = markdown_table([[literal(cell) for cell in row] for row in board.table])
    notes = [f"- {literal(note)}" for note in board.notes]
    return "\n".join([f"# {literal(board.title)}", "", *lines, "", *notes, ""])


def _rows(config: LeaderboardConfig, measured: "Sequence[Found]") -> "list[list[Found]]":
    """Runs that differ only in their seed, of each seed the newest; the best row and run first."""
    sign, metric = 1 if config.order == Order.lowest else -1, config.metric
    newest: dict[tuple[Hashable, str], Found] = {}
    for run in sorted(measured, key=lambda run: run.started):
        row: Hashable = run.run_id
        if config.seeds == Seeds.group:  # of one experiment, at one step, on the same data
            settings = settings_of(run).items() - {("steps", run.params.get("steps"))}
            row = frozenset(settings), run.steps[metric], frozenset(run.digests.items())
        newest[row, run.params.get(SEED, _NONE)] = run
    rows: dict[Hashable, list[Found]] = {}
    ranked = sorted(newest.items(), key=lambda item: sign * item[1].metrics[metric])
    for (row, _), run in ranked:
        rows.setdefault(row, []).append(run)
    return sorted(rows.values(), key=lambda runs: sign * _mean(runs, metric))


def _mean(runs: "Sequence[Found]", metric: str) -> float:
    return statistics.fmean(run.metrics[metric] for run in runs)


def _cells(
    metric: str, rows: "Sequence[Sequence[Found]]", settings: Sequence[str]
) -> list[dict[str, str]]:
    """{column: cell} of each row, with a column for each of `settings`."""
    digits = 3 if max(abs(_mean(runs, metric)) for runs in rows) >= 0.1 else 6
    cells = []
    for rank, runs in enumerate(rows, start=1):
        best = runs[0]
        seeds = sorted((run.params.get(SEED, _NONE) for run in runs), key=lambda s: (len(s), s))
        number = f"{_mean(runs, metric):,.{digits}f}"
        ends = [best.metrics.get(f"{metric}_{end}", math.nan) for end in ("lower", "upper")]
        if len(runs) > 1:
            deviation = statistics.stdev(run.metrics[metric] for run in runs)
            number += f" ± {deviation:,.{digits}f}"
        elif all(map(math.isfinite, ends)):
            number += f" [{ends[0]:,.{digits}f}, {ends[1]:,.{digits}f}]"
        if _samples(best, metric) != _samples(rows[0][0], metric):
            number += f" {_MARK}"
        about = [_about(run, metric, settings) for run in runs]
        cells.append(
            {
                "rank": str(rank),
                RUN: best.name,
                metric: number,
                SEED: ", ".join(seeds) + (f" (n {len(seeds)})" if len(seeds) > 1 else ""),
                **{
                    name: cell if all(other[name] == cell for other in about) else "several"
                    for name, cell in about[0].items()
                },
                RUN_ID: best.run_id,
            }
        )
    return cells


def _about(run: "Found", metric: str, settings: Sequence[str]) -> dict[str, str]:
    """The cells that runs of one row may have in common."""
    from pwc_exp.report.pages import shortened
    from pwc_exp.tracking.record import short_commit

    values = settings_of(run)
    return {
        **{key: shortened(values.get(key, _NONE), _LENGTH) for key in settings},
        "steps": f"{run.steps[metric]:,}",
        "dataset": run.tags.get("dataset", _NONE),
        "recipe": run.tags.get("recipe", _NONE),
        "sweep": run.tags.get("parent", _NONE),
        "status": run.status,
        "commit": short_commit(run.tags) or _NONE,
        "data": run.digests.get("train", _NONE)[:8],
    }


def _samples(run: "Found", metric: str) -> Hashable:
    """What comparable validation metrics have in common: the samples, and how many of them."""
    if not metric.startswith("val/"):
        return None
    own = run.digests.get(metric.rpartition("/")[0])  # val, or val/<data set>
    every = sorted(digest for use, digest in run.digests.items() if use.startswith("val"))
    return own or tuple(every), run.params.get("eval_samples")


def settings_of(run: "Found") -> dict[str, str]:
    """The values that define the experiment of a run, and the choice of each group."""
    choices, values = {}, {}
    for key, value in run.params.items():
        if key.startswith(CHOICE):
            choices[key.removeprefix(CHOICE)] = value
        elif key not in _APART and not key.startswith(FREE_GROUPS):
            values[key] = value
    named = {"experiment", "tracking", *(group for group in choices if f"{group}.name" in values)}
    return {group: choice for group, choice in choices.items() if group not in named} | values


def differing(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Settings that all runs have and that differ, apart from those that follow from a name.

    A setting of a model that its name determines is left out, such as the channels of sm and tiny;
    likewise for data. Choices of groups come first, settings of the data last.
    """

    def count(*keys: str) -> int:
        return len({tuple(run[key] for key in keys) for run in runs})

    def follows(key: str) -> bool:
        name = f"{key.partition('.')[0]}.name"
        return name != key and name in known and count(name, key) == count(name)

    known = {key for key in runs[0] if all(key in run for run in runs)}
    return sorted(
        (key for key in known if count(key) > 1 and not follows(key)),
        key=lambda key: (key.startswith("data."), "." in key and not key.endswith(".name"), key),
    )


if __name__ == "__main__":
    main()
