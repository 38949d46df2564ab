import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from optuna.trial import TrialState

from pwc_exp.config.sweeps import OptunaConfig, Sampler
from pwc_exp.errors import ConfigError, MissingExtraError, ResumeError
from pwc_exp.tuning import JOURNAL, open_search
from pwc_exp.tuning.space import parse
from pwc_exp.tuning.study import Proposal, Search

MakeSearch = Callable[..., Search]
SPACE = {"schedule.peak": "tag(log, interval(1e-4, 1e-2))", "augment.hue": "interval(0, 90)"}
SMALL = {"model": "tiny,sm", "batch_size": "range(2, 8, step=2)"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost with the power only is not what these tests are about."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Search]:
    """(params, jobs, steps, **knobs) -> a search in the same folder each time."""

    def opened(
        params: dict[str, str] | None = None, jobs: int = 1, steps: int = 100, **knobs: Any
    ) -> Search:
        config = OptunaConfig(params=params or SPACE, **knobs)
        space = parse(config.params)
        return open_search(tmp_path, "sweep/now", space, config, jobs=jobs, steps=steps)

    return opened


def asked(search: Search) -> Proposal:
    proposal = search.ask()
    assert proposal is not None
    return proposal


def distance(values: dict[str, str]) -> float:
    """Least at schedule.peak=1e-3, augment.hue=30."""
    peak, hue = float(values["schedule.peak"]), float(values["augment.hue"])
    return (math.log10(peak) + 3) ** 2 + ((hue - 30) / 45) ** 2


def try_some(search: Search, trials: int) -> list[float]:
    reached = []
    for _ in range(trials):
        proposal = asked(search)
        reached.append(distance(proposal.values))
        search.tell(proposal.number, {"val/aepe": reached[-1]})
    return reached


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_what_is_proposed_gets_better(sampler: str, search: MakeSearch) -> None:
    reached = try_some(search(sampler=sampler), 35)
    assert median(reached[-10:]) < 0.3 < median(reached[:5])


def test_the_best_trial_is_found_again(search: MakeSearch) -> None:
    first = search(sampler="random")
    reached = try_some(first, 4)
    again = search(sampler="random")
    best = again.best()
    assert best is not None and best == first.best()
    assert best.objectives == {"val/aepe": min(reached)}
    assert distance(best.values) == min(reached)
    assert again.finished == 4 and again.running() == []


def test_nothing_is_best_before_a_trial_is_complete(search: MakeSearch) -> None:
    made = search()
    made.fail(asked(made).number)
    assert made.best() is None and made.front() == []


@pytest.mark.parametrize("sampler", Sampler)
def test_the_same_seed_proposes_the_same(sampler: Sampler, tmp_path: Path) -> None:
    config = OptunaConfig(params={"a": "interval(0, 1)", "b": "interval(0, 1)"}, sampler=sampler)
    proposals = []
    for name in "12":
        made = open_search(tmp_path, name, parse(config.params), config, jobs=1, steps=1)
        for number in range(7):
            proposals.append(asked(made))
            made.tell(number, {"val/aepe": float(proposals[-1].values["a"])})
    assert proposals[:7] == proposals[7:]


def test_a_search_that_goes_on_does_not_draw_again_what_it_drew(search: MakeSearch) -> None:
    drawn = [asked(search(sampler="random")).values["augment.hue"] for _ in range(4)]
    assert len(set(drawn)) == 4


def test_what_was_being_tried_is_given_back_with_its_number_and_values(search: MakeSearch) -> None:
    made = search(sampler="random")
    proposals = [asked(made), asked(made), asked(made)]
    made.tell(proposals[1].number, {"val/aepe": 1.0})
    again = search(sampler="random")
    assert again.running() == [proposals[0], proposals[2]]
    again.tell(proposals[0].number, {"val/aepe": 2.0})
    assert again.running() == [proposals[2]]
    assert again.finished == 2


def test_a_trial_that_got_half_of_its_values_gets_the_others(
    search: MakeSearch, tmp_path: Path
) -> None:
    complete = asked(search())
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if b"param_name" in line]
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[: places[-1]]))
    (running,) = search().running()
    assert running.number == complete.number
    assert running.values["schedule.peak"] == complete.values["schedule.peak"]
    assert 0 <= float(running.values["augment.hue"]) <= 90
    assert search().running() == [running]


def test_half_a_line_at_the_end_is_cut_off(search: MakeSearch, tmp_path: Path) -> None:
    made = search()
    try_some(made, 2)
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":6,"worker')
    again = search()
    assert again.finished == 2
    try_some(again, 1)
    assert search().finished == 3


def test_no_values_are_tried_twice_and_a_small_space_comes_to_its_end(search: MakeSearch) -> None:
    made = search(SMALL, startup_trials=2)
    seen = []
    while (proposal := made.ask()) is not None:
        seen.append(tuple(proposal.values.values()))
        made.tell(proposal.number, {"val/aepe": float(len(seen))})
    assert sorted(seen) == [(m, b) for m in ("sm", "tiny") for b in ("2", "4", "6")]
    assert made.finished == 6
    assert search(SMALL).ask() is None and search(SMALL).finished == 6


def test_what_runs_now_is_not_proposed_a_second_time(search: MakeSearch) -> None:
    made = search(SMALL, sampler="random", jobs=6)
    proposals = [asked(made) for _ in range(6)]
    assert len({tuple(proposal.values.values()) for proposal in proposals}) == 6
    assert made.ask() is None
    assert search(SMALL).running() == proposals


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_a_failure_that_no_sampler_learns_from(
    value: float, search: MakeSearch
) -> None:
    made = search(startup_trials=1)
    try_some(made, 3)
    number = asked(made).number
    made.tell(number, {"val/aepe": value})
    assert made.study.trials[number].state == TrialState.FAIL
    assert made.finished == 4
    try_some(made, 2)
    assert made.best() == search().best()


def test_a_trial_ends_once(search: MakeSearch) -> None:
    made = search()
    number = asked(made).number
    made.tell(number, {"val/aepe": 1.0})
    made.fail(number)
    made.prune(number)
    best = search().best()
    assert best is not None and best.number == number


def run_until_stopped(search: Search, values: list[float]) -> int:
    """Steps that a trial with these values at steps 10, 20, … makes."""
    number = asked(search).number
    for step, value in enumerate(values, start=1):
        if search.report(number, 10 * step, value):
            search.prune(number)
            return 10 * step
    search.tell(number, {"val/aepe": values[-1]})
    return 10 * len(values)


GOOD, BAD = [3.0, 2.0, 1.0], [9.0, 9.0, 9.0]


def test_median_stops_what_is_worse_than_half_of_the_others(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=2, warmup_steps=15)
    assert [run_until_stopped(made, values) for values in (BAD, GOOD)] == [30, 30]
    assert [run_until_stopped(made, values) for values in (GOOD, BAD)] == [30, 20]
    assert made.finished == 4


def test_hyperband_stops_what_is_not_of_the_best_share(search: MakeSearch) -> None:
    made = search(pruner="hyperband", steps=30, reduction_factor=2)
    steps = [run_until_stopped(made, values) for values in [GOOD] * 4 + [BAD] * 8]
    assert min(steps[4:]) < 30
    assert made.finished == 12


def test_without_a_pruner_no_trial_is_stopped(search: MakeSearch) -> None:
    made = search(startup_trials=0)
    assert [run_until_stopped(made, values) for values in (GOOD, GOOD, BAD)] == [30, 30, 30]


def test_points_that_are_told_again_after_a_kill_count_once(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=1)
    run_until_stopped(made, GOOD)
    number = asked(made).number
    assert not made.report(number, 10, 2.0)
    assert not made.report(number, 20, 5.0)  # its best so far is good enough
    again = search(pruner="median", startup_trials=1)
    assert not again.report(number, 10, 99.0)
    assert again.study.trials[number].intermediate_values == {10: 2.0, 20: 5.0}
    assert again.report(number, 30, 5.0)


def test_the_start_of_a_run_and_the_end_of_a_trial_say_nothing(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=0)
    number = asked(made).number
    assert not made.report(number, 0, 99.0)
    made.fail(number)
    assert not made.report(number, 10, 99.0)
    assert made.study.trials[number].intermediate_values == {}


def test_several_objectives_have_a_front(search: MakeSearch) -> None:
    made = search(objectives=["val/aepe", "seconds"])
    numbers = []
    for aepe, seconds in [(2.0, 2.0), (1.0, 9.0), (3.0, 1.0), (3.0, 3.0)]:
        numbers.append(asked(made).number)
        assert not made.report(numbers[-1], 10, aepe)
        made.tell(numbers[-1], {"seconds": seconds, "val/aepe": aepe})
    front = search(objectives=["val/aepe", "seconds"]).front()
    assert [result.number for result in front] == [1, 0, 2]
    assert front[0].objectives == {"val/aepe": 1.0, "seconds": 9.0}
    assert made.best() == front[0]


def test_what_is_to_be_great_is_best_when_it_is_greatest(search: MakeSearch) -> None:
    knobs = {"objectives": ["val/wauc"], "maximize": ["val/wauc"]}
    made = search(**knobs)
    for value in (1.0, 3.0, 2.0):
        made.tell(asked(made).number, {"val/wauc": value})
    best = search(**knobs).best()
    assert best is not None and best.objectives == {"val/wauc": 3.0}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"params": {"schedule.peak": "interval(0, 1)"}}, "schedule.peak"),
        ({"params": {"augment.hue": "interval(0, 90)"}}, "schedule.peak"),
        ({"objectives": ["val/aepe", "seconds"]}, "objectives"),
        ({"maximize": ["val/aepe"]}, "objectives"),
    ],
)
def test_a_search_of_something_else_does_not_go_on(
    changed: dict[str, Any], key: str, search: MakeSearch
) -> None:
    asked(search())
    with pytest.raises(ResumeError, match=key):
        search(**changed)


@pytest.mark.parametrize("params", [{"model": "tiny,sm"}, {"augment.hue": "interval(0, 1)"}])
def test_cmaes_refuses_choices_and_a_single_key(params: dict[str, str], search: MakeSearch) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(params))}"):
        search(params, sampler="cmaes")


def test_hyperband_cannot_look_after_the_end(search: MakeSearch) -> None:
    with pytest.raises(ConfigError, match="min_resource.*at most the 100 steps"):
        search(pruner="hyperband", min_resource=101)


def test_a_search_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="params"):
        open_search(tmp_path, "sweep", parse({}, ["steps=4"]), OptunaConfig(), jobs=1, steps=4)
    assert not list(tmp_path.iterdir())


def test_a_database_remembers_too(search: MakeSearch, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/optuna.db"
    reached = try_some(search(storage=storage), 2)
    proposal = asked(search(storage=storage))
    again = search(storage=storage)
    assert again.running() == [proposal]
    best = again.best()
    assert best is not None and best.objectives["val/aepe"] == min(reached)
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "mysql://me:secret@x/y", "x"])
def test_a_storage_that_cannot_be_opened_is_one_line_without_a_password(
    url: str, search: MakeSearch
) -> None:
    with pytest.raises(ConfigError, match="storage") as refusal:
        search(storage=url)
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)


def test_without_optuna_one_line_names_the_extra(
    search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pwc_exp\[tune\]"):
        search()
