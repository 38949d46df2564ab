"""The leaderboard: order, groups of seeds, what sets rows apart, and what may not be compared."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pwc_exp.config.commands import LeaderboardConfig, Order, Seeds
from pwc_exp.config.schema import params
from pwc_exp.config.training import SearchConfig
from pwc_exp.errors import BusyError, ConfigError, MissingInputError
from pwc_exp.leaderboard import Board, as_markdown, as_text, make_board, show
from pwc_exp.tracking import search
from pwc_exp.tracking.search import Found

Runs = Callable[..., Found]
TINY = ("train", "model=tiny", "loss.level_weights=[1,1,1]")


@pytest.fixture
def run(configure: Callable[..., Any]) -> Runs:
    """(AEPE, *overrides, **changes) -> a run as MLflow shows it, each later than those before."""
    made: list[Found] = []

    def make(aepe: float, *overrides: str, **changes: Any) -> Found:
        values = {key: str(value) for key, value in params(configure(*TINY)).items()}
        changed = dict(override.split("=", 1) for override in overrides)
        if changed.keys() <= values.keys():
            values |= changed  # composing takes longer
        else:
            composed = params(configure(*TINY, *overrides))
            values = {key: str(value) for key, value in composed.items()}
        found = Found(
            run_id=f"{len(made):032x}",
            name=f"run {len(made)}",
            status="FINISHED",
            started=len(made),
            metrics={"val/aepe": aepe},
            steps={"val/aepe": 20},
            params=values,
            tags={"kind": "run", "dataset": "synthetic", "recipe": "quick"},
            digests={"train": "1234567890", "val": "abc"},
        )
        made.append(replace(found, **changes))
        return made[-1]

    return make


def board(*found: Found, **choices: Any) -> Board:
    return make_board(LeaderboardConfig(**choices), found, "http://server")


def column(shown: Board, name: str) -> list[str]:
    head, *rows = shown.table
    return [row[head.index(name)] for row in rows]


def test_the_best_is_first(run: Runs) -> None:
    runs = [run(3.0), run(1.0), run(2.0), run(float("nan"))]
    assert column(board(*runs, seeds=Seeds.single), "run") == ["run 1", "run 2", "run 0"]
    highest = board(*runs, seeds=Seeds.single, order=Order.highest, top=2)
    assert column(highest, "run") == ["run 0", "run 2"]
    assert {"2 of 3 rows, 4 runs", "1 without a number for val/aepe: left out"} < {*highest.notes}


def test_runs_alike_but_for_their_seed_are_one_row_with_mean_and_deviation(run: Runs) -> None:
    alike = [
        run(aepe, f"seed={seed}", "name=other", "tracking=off")
        for seed, aepe in ((1, 2.0), (2, 1.0), (10, 6.0))
    ]
    shown = board(*alike, run(2.5, "optimizer.epsilon=0.5"))
    assert column(shown, "run") == ["run 3", "run 1"]  # the best of them
    assert column(shown, "MLflow run")[1] == alike[1].run_id
    assert column(shown, "val/aepe") == ["2.500", "3.000 ± 2.646"]
    assert column(shown, "seed") == ["0", "1, 2, 10 (n 3)"]
    assert column(shown, "optimizer.epsilon") == ["0.5", "1e-08"]


def test_runs_at_other_steps_or_of_other_data_are_no_group(run: Runs) -> None:
    runs = [
        run(1.0, "seed=1"),
        run(1.0, "seed=2", steps={"val/aepe": 10}),
        run(1.0, "seed=3", digests={"train": "other", "val": "abc"}),
    ]
    assert column(board(*runs), "seed") == ["1", "2", "3"]


def test_of_runs_with_the_same_seed_the_newest_counts(run: Runs) -> None:
    runs = [run(1.0, "seed=1"), run(5.0, "seed=1"), run(3.0, "seed=2")]
    shown = board(*runs)
    assert column(shown, "val/aepe") == ["4.000 ± 1.414"]
    assert "1 older with a seed that a newer run has: not counted" in shown.notes
    assert len(column(board(*runs, seeds=Seeds.single), "run")) == 3


def test_an_interval_is_shown_where_the_run_has_one(run: Runs) -> None:
    ends = {"val/aepe": 1.0, "val/aepe_lower": 0.9, "val/aepe_upper": 1.2}
    shown = board(run(1.0, metrics=ends), run(2.0, "batch_size=2"))
    assert column(shown, "val/aepe") == ["1.000 [0.900, 1.200]", "2.000"]


@pytest.mark.parametrize(
    "other",
    [{"digests": {"train": "1234567890", "val": "xyz"}}, {"overrides": ["eval_samples=7"]}],
)
def test_numbers_of_other_samples_are_marked(run: Runs, other: dict[str, Any]) -> None:
    overrides = other.pop("overrides", [])
    shown = board(run(1.0), run(2.0, "batch_size=2"), run(3.0, *overrides, **other))
    assert column(shown, "val/aepe") == ["1.000", "2.000", "3.000 †"]
    assert any("not comparable" in note for note in shown.notes)
    assert not any("not comparable" in note for note in board(run(1.0), run(2.0)).notes)


def test_a_metric_of_a_validation_set_is_compared_where_its_samples_are_the_same(
    run: Runs,
) -> None:
    key = "val/sintel/aepe"
    digests = {"train": "1234567890", "val/sintel": "abc"}
    found = [
        run(9.0, f"batch_size={number}", digests=digests | more, metrics={key: float(number)})
        for number, more in ((1, {"val": "a"}), (2, {"val": "b"}), (3, {"val/sintel": "xyz"}))
    ]
    found = [replace(each, steps={key: 20}) for each in found]
    assert column(board(*found, metric=key), key) == ["1.000", "2.000", "3.000 †"]


def test_columns_that_are_alike_are_listed_once(run: Runs) -> None:
    tags = {"commit": "0123456789", "dirty": "true", "dataset": "synthetic", "recipe": "quick"}
    shown = board(run(1.0, tags=tags), run(2.0, tags=tags), seeds=Seeds.single)
    assert shown.table[0] == ["rank", "run", "val/aepe", "MLflow run"]
    (note,) = [note for note in shown.notes if note.startswith("in all rows: seed 0, steps 20, ")]
    assert "dataset synthetic, " in note and "commit 0123456+, data 12345678" in note


def test_where_the_runs_of_a_row_differ_it_says_so(run: Runs) -> None:
    alike = [run(1.0, f"seed={seed}", status=status) for seed, status in ((1, "FAILED"), (2, "OK"))]
    assert column(board(*alike), "status") == ["several"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["eval_every=7"], ["xla_step=true"], ["xla_step"]),  # the first changes no weight
        (["schedule=cyclic"], ["schedule=onecycle"], ["schedule", "schedule.peak"]),
        (
            ["schedule=cyclic"],
            ["schedule=cyclic", "schedule.half_cycle=7"],
            ["schedule.half_cycle"],
        ),
        (
            ["batch_size=2", "data.crop=[64,64]"],
            ["model=sm", "loss.level_weights=null"],
            ["batch_size", "model.name", "loss.level_weights", "data.crop"],
        ),
    ],
)
def test_settings_that_not_all_have_or_that_follow_from_a_name_are_no_columns(
    run: Runs, first: list[str], second: list[str], expected: list[str]
) -> None:
    steps = "steps=40000"
    shown = board(run(1.0, steps, *first), run(2.0, steps, *second), seeds=Seeds.single)
    assert shown.table[0] == ["rank", "run", "val/aepe", *expected, "MLflow run"]


def test_more_settings_than_fit_are_listed(run: Runs) -> None:
    changed = [
        *("schedule.values=[1e-3,1e-4]", "schedule.boundaries=[5]", "model.search_range=2"),
        *("optimizer.epsilon=1", "optimizer.clip_norm=1", "batch_size=2", "data.crop=[64,64]"),
        *("data.train_size=3", "ema_decay=0.5"),
    ]
    shown = board(run(1.0), run(2.0, *changed))
    (note,) = [note for note in shown.notes if note.startswith("more settings that differ: ")]
    assert note.endswith("data.crop, data.train_size")


def test_names_are_shown_as_they_are(run: Runs) -> None:
    name = "a|b<script> " + "long " * 40
    shown = board(run(1.0, name=name), run(2.0, "batch_size=2"))
    assert "a\\|b\\<script\\>" in as_markdown(shown)
    lines = [line for line in as_markdown(shown).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert name.strip() in as_text(shown)  # whole, on one line


def test_a_metric_that_no_run_has_is_refused_with_those_that_there_are(run: Runs) -> None:
    with pytest.raises(MissingInputError, match=r"none of 1 run\(s\) .* They have: val/aepe$"):
        board(run(1.0), metric="val/apee")


# With MLflow


@pytest.fixture
def client(root: Path) -> Any:
    """MLflow's client, of a database with 5 runs: seeds 0 to 4, AEPE 10 less the seed."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/outputs/mlflow/mlflow.db")
    experiment = client.create_experiment("pwc_exp")
    for seed in range(5):
        tags = {"kind": "run", "dataset": "synthetic", "recipe": "quick", "parent": f"p{seed % 2}"}
        made = client.create_run(experiment, run_name=f"seed={seed}", tags=tags)
        client.log_param(made.info.run_id, "seed", seed)
        for step, aepe in ((10, 1.0), (20, 10.0 - seed)):
            client.log_metric(made.info.run_id, "val/aepe", aepe, step=step)
        client.set_terminated(made.info.run_id, "FAILED" if seed == 4 else "FINISHED")
    return client


def lines(capsys: pytest.CaptureFixture[str], **choices: Any) -> list[str]:
    show(LeaderboardConfig(seeds=Seeds.single, **choices))
    rows = capsys.readouterr().out.splitlines()
    return [row for row in rows if re.match(r"\d+ +seed=", row)]


def test_runs_are_read_page_by_page_and_ranked_by_their_last_value(
    client: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_PAGE", 2)
    shown = lines(capsys)
    assert [row.split()[1] for row in shown] == ["seed=3", "seed=2", "seed=1", "seed=0"]
    assert [row.split()[2] for row in shown] == ["7.000", "8.000", "9.000", "10.000"]


def test_filters_choose_runs(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines(capsys, parent="p1")) == 2
    assert len(lines(capsys, status="any")) == 5
    assert len(lines(capsys, dataset="synthetic", recipe="quick", where="params.seed = '2'")) == 1
    experiment = client.get_experiment_by_name("pwc_exp")
    (run,) = client.search_runs([experiment.experiment_id], "params.seed = '1'")
    client.set_tag(run.info.run_id, "best", "true")
    assert lines(capsys, best=True)[0].split()[1] == "seed=1"


def test_it_is_written_as_markdown(client: Any, root: Path) -> None:
    show(LeaderboardConfig(out=["new/board.md", "board.md"]))
    assert "| rank | run |" in (root / "new/board.md").read_text()
    assert "±" in (root / "board.md").read_text()


@pytest.mark.parametrize(
    ("choices", "error", "reason"),
    [
        ({"where": "params.seed = = 2"}, ConfigError, "does not understand"),
        ({"where": "nonsense"}, ConfigError, "does not understand"),
        ({"recipe": "other"}, MissingInputError, r"no run in .*\.recipe = 'other' "),
        ({"tracking": SearchConfig(experiment="x")}, MissingInputError, "one of .*pwc_exp"),
        ({"outputs": "nowhere"}, MissingInputError, "nowhere/mlflow/mlflow.db: no such file"),
        ({"tracking": SearchConfig(uri="http://a:b@127.0.0.1:9")}, BusyError, "does not answer"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    client: Any, root: Path, choices: dict[str, Any], error: Any, reason: str
) -> None:
    with pytest.raises(error, match=reason) as told:
        show(LeaderboardConfig(**choices))
    assert "a:b@" not in str(told.value)
    assert not (root / "nowhere").exists()


def test_one_file_needs_no_list(configure: Callable[..., Any]) -> None:
    assert configure("leaderboard", "out=a.md").out == ["a.md"]
    assert configure("leaderboard", "out=[a.md,b.md]").out == ["a.md", "b.md"]
    assert configure("leaderboard").out == []
    with pytest.raises(ConfigError, match=r"out must name files that end in \.md"):
        configure("leaderboard", "out=board.html")
