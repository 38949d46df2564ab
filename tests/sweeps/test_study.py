"""The search space in Hydra's grammar, and what a study proposes, stops and remembers."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from PIL import Image

from pwc_exp.config import composition
from pwc_exp.config.schema import VARIANTS, flatten
from pwc_exp.config.sweeps import OptunaConfig, Pruner, Sampler
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError, ResumeError
from pwc_exp.sweeps.study import (
    JOURNAL,
    Distribution,
    Search,
    distribution,
    draw,
    first_values,
    value_text,
)

MakeSearch = Callable[..., Search]
SPACE = {"schedule.peak": "tag(log, interval(1e-4, 1e-2))", "augment.hue": "interval(0, 90)"}
PRESET = "experiment=tune-quickstart"


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost with the power only is not what these tests are about."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def part(text: str, key: str = "key") -> Distribution:
    return distribution(key, OverridesParser.create().parse_override(f"{key}={text}"))


@pytest.fixture
def search(tmp_path: Path) -> MakeSearch:
    """(params, jobs, steps, **settings) -> a search in the same folder each time."""

    def opened(
        params: dict[str, str] | None = None, jobs: int = 1, steps: int = 100, **settings: Any
    ) -> Search:
        space = {key: part(text, key) for key, text in (params or SPACE).items()}
        config = OptunaConfig(**settings)
        return Search(tmp_path, "sweep/now", space, config, jobs=jobs, steps=steps)

    return opened


def read_by_hydra(text: str) -> object:
    return OverridesParser.create().parse_override(f"key={text}").value()


def values_of(text: str) -> list[str]:
    """All values of a range, in Hydra's grammar."""
    each = part(text)
    assert isinstance(each, FloatDistribution | IntDistribution) and each.step
    count = round((each.high - each.low) / each.step) + 1
    return [value_text(each, each.low + n * each.step) for n in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0, 0.1)", FloatDistribution(0.0, 0.1)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", IntDistribution(1, 8)),
        ("int(tag(log, interval(1, 8)))", IntDistribution(1, 8, log=True)),
        ("range(2, 17, step=2)", IntDistribution(2, 16, step=2)),
        ("range(3)", IntDistribution(0, 2)),
        ("range(0.1, 0.5, step=0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("range(0, 1, step=0.3)", FloatDistribution(0, 0.9, step=0.3)),
        ("tiny,sm", CategoricalDistribution(("tiny", "sm"))),
        ("choice(tiny, sm)", CategoricalDistribution(("tiny", "sm"))),
        ("'a, b',\"it's\",[1,2]", CategoricalDistribution(("'a, b'", '"it\'s"', "[1,2]"))),
        ("null,0.99", CategoricalDistribution(("null", "0.99"))),
    ],
)
def test_the_grammar_of_hydras_sweeps_describes_a_space(text: str, expected: object) -> None:
    assert part(text) == expected


def test_a_range_has_the_values_of_hydras_own_sweeps() -> None:
    for text in ("range(2, 17, step=2)", "range(5)", "range(1, 2)", "range(3, 12, 3)"):
        override = OverridesParser.create().parse_override(f"key={text}")
        assert values_of(text) == list(override.sweep_string_iterator())
    assert values_of("range(0.1, 0.8, step=0.1)") == [f"0.{n}" for n in range(1, 8)]


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e-05, 1.5e300, 2.0, math.nextafter(1e16, 0)])
def test_a_number_comes_back_with_all_its_bits(number: float) -> None:
    assert read_by_hydra(value_text(FloatDistribution(0.0, 1e301), number)) == number


def test_a_choice_keeps_its_type_and_its_quotes() -> None:
    values = "'1', 1, 1e-5, true, 'true', 'a,b', x y, [1,'2'], 'it\\'s', ''"
    expected = ["1", 1, 1e-5, True, "true", "a,b", "x y", [1, "2"], "it's", ""]
    for text in (f"choice({values})", values):
        each = part(text)
        assert isinstance(each, CategoricalDistribution)
        assert [read_by_hydra(str(choice)) for choice in each.choices] == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("interval(1, 1)", "low to high"),
        ("interval(2, 1)", "low to high"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("range(1, 4, step=0)", "positive step"),
        ("range(4, 1, step=-1)", "positive step"),
        ("range(4, 1)", "positive step"),
        ("a,b,a", "different"),
        ("glob(*)", "no pattern"),
        ("shuffle(a, b)", "not shuffled"),
        ("shuffle(range(3))", "not shuffled"),
        ("tag(fast, interval(0, 1))", "unknown tag"),
        ("tag(log, range(1, 4))", "unknown tag"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line_that_names_the_key(
    value: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=r"^augment\.hue") as refusal:
        part(value, "augment.hue")
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ConfigError, match=r"hydra\.job\.name.*Hydra's own"):
        part("a,b", "hydra.job.name")


def preset(*overrides: str) -> OptunaConfig:
    composition.register()
    conf = str(composition.data_dir("conf"))
    with initialize_config_dir(config_dir=conf, version_base="1.3"):
        values = compose("train", [PRESET, *overrides], return_hydra_config=True)
    config = OmegaConf.to_object(values.hydra.sweeper)
    assert isinstance(config, OptunaConfig)
    return config


def test_the_preset_describes_a_search_and_a_run() -> None:
    config = preset("hydra.sweeper.trials=3")
    assert (config.trials, config.pruner) == (3, Pruner.median)
    assert {key: part(text) for key, text in config.params.items()} == {
        "schedule.peak": FloatDistribution(3e-4, 1e-2, log=True),
        "augment.geometry_probability": FloatDistribution(0.0, 1.0),
        "augment.eraser_probability": FloatDistribution(0.0, 1.0),
    }
    run = composition.check(composition.compose_command("train", [PRESET]).values, "train")
    assert isinstance(run, TrainConfig)
    assert run.data.crop == [128, 128]  # as the quickstart's


def test_what_is_proposed_is_a_configuration_with_these_values(search: MakeSearch) -> None:
    more = {"loss": "multiscale,robust", "batch_size": "range(2, 9, step=2)"}
    made = search(preset().params | more)
    names = {schema: name for name, schema in VARIANTS["loss"].items()}
    for proposed in [first_values(made.space), made.ask()[1], made.ask()[1]]:
        overrides = [PRESET, *(f"{key}={text}" for key, text in proposed.items())]
        run = composition.check(composition.compose_command("train", overrides).values, "train")
        assert isinstance(run, TrainConfig)
        values = {**flatten(run), "loss": names[type(run.loss)]}
        for key, text in proposed.items():
            assert str(values[key]) == text


def complete(search: Search, number: int, *values: float) -> None:
    search.end(number, TrialState.COMPLETE, values)


def try_some(search: Search, *reached: float) -> None:
    for value in reached:
        complete(search, search.ask()[0], value)


@pytest.mark.parametrize("sampler", Sampler)
def test_the_same_seed_proposes_the_same_and_a_continued_search_repeats_no_draws(
    sampler: Sampler, tmp_path: Path, search: MakeSearch
) -> None:
    space = {"a": part("interval(0, 1)"), "b": part("interval(0, 1)")}
    config = OptunaConfig(sampler=sampler)
    proposals = []
    for name in "12":
        made = Search(tmp_path, name, space, config, jobs=1, steps=1)
        for number in range(7):
            proposals.append(made.ask())
            complete(made, number, float(proposals[-1][1]["a"]))
    assert proposals[:7] == proposals[7:]
    assert len({search(sampler=sampler).ask()[1]["augment.hue"] for _ in range(4)}) == 4


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/optuna.db"])
def test_a_search_that_is_opened_again_knows_its_trials(
    storage: str | None, search: MakeSearch, tmp_path: Path
) -> None:
    place = storage and storage.format(tmp_path)
    made = search(storage=place)
    proposals = [made.ask() for _ in range(4)]
    assert made.front() == []
    complete(made, proposals[1][0], 2.0)
    complete(made, proposals[3][0], 1.0)
    again = search(storage=place)
    assert again.running() == [proposals[0], proposals[2]]
    assert again.front() == [3]
    again.end(proposals[3][0], TrialState.FAIL)  # which has ended
    complete(again, proposals[0][0], 0.5)
    assert search(storage=place).front() == [0]
    assert (again.finished, again.running()) == (3, [proposals[2]])
    assert (tmp_path / JOURNAL).exists() == (storage is None)


def test_a_trial_that_got_half_of_its_values_has_failed(search: MakeSearch, tmp_path: Path) -> None:
    search().ask()
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if b"param_name" in line]
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[: places[-1]]))
    assert search().running() == []
    assert search().ask()[0] == 1


def test_what_a_crash_leaves_in_the_journal_is_removed(search: MakeSearch, tmp_path: Path) -> None:
    try_some(search(), 2.0, 1.0)
    (tmp_path / f"{JOURNAL}.lock").touch()
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":6,"worker')
    again = search()
    assert again.finished == 2
    try_some(again, 3.0)
    assert search().finished == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_a_failure(value: float, search: MakeSearch) -> None:
    made = search(startup_trials=1)
    try_some(made, 3.0, 2.0, value, 1.0)
    assert made.study.trials[2].state == TrialState.FAIL
    assert (made.finished, search().front()) == (4, [3])


def run_until_stopped(search: Search, values: list[float]) -> int:
    """Steps that a trial with these values at steps 10, 20, … makes."""
    number = search.ask()[0]
    for step, value in enumerate(values, start=1):
        if search.report(number, 10 * step, value):
            search.end(number, TrialState.PRUNED)
            return 10 * step
    complete(search, number, values[-1])
    return 10 * len(values)


GOOD, BAD = [3.0, 2.0, 1.0], [9.0, 9.0, 9.0]


def test_median_stops_what_is_worse_than_half_of_the_others(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=2, warmup_steps=15)
    assert [run_until_stopped(made, values) for values in (BAD, GOOD)] == [30, 30]
    assert [run_until_stopped(made, values) for values in (GOOD, BAD)] == [30, 20]
    assert made.finished == 4


def test_what_is_maximized_is_best_when_it_is_greatest(search: MakeSearch) -> None:
    made = search(objectives=["val/wauc"], maximize=["val/wauc"])
    try_some(made, 1.0, 3.0, 2.0)
    assert made.front() == [1]


def test_hyperband_stops_what_is_not_of_the_best_share(search: MakeSearch) -> None:
    made = search(pruner="hyperband", steps=30, reduction_factor=2)
    steps = [run_until_stopped(made, values) for values in [GOOD] * 4 + [BAD] * 8]
    assert min(steps[4:]) < 30
    assert made.finished == 12


def test_points_that_are_told_again_after_a_kill_count_once(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=1)
    run_until_stopped(made, GOOD)
    number = made.ask()[0]
    assert not made.report(number, 10, 2.0)
    assert not made.report(number, 20, 5.0)  # its best so far is good enough
    again = search(pruner="median", startup_trials=1)
    assert not again.report(number, 10, 99.0)
    assert again.study.trials[number].intermediate_values == {10: 2.0, 20: 5.0}
    assert again.report(number, 30, 5.0)


def test_the_start_of_a_run_and_the_end_of_a_trial_say_nothing(search: MakeSearch) -> None:
    made = search(pruner="median", startup_trials=0)
    number = made.ask()[0]
    assert not made.report(number, 0, 99.0)
    made.end(number, TrialState.FAIL)
    assert not made.report(number, 10, 99.0)
    assert made.study.trials[number].intermediate_values == {}


def test_several_objectives_have_a_front(search: MakeSearch) -> None:
    made = search(objectives=["val/aepe", "seconds"])
    for aepe, seconds in [(2.0, 2.0), (1.0, 9.0), (3.0, 1.0), (3.0, 3.0)]:
        number = made.ask()[0]
        assert not made.report(number, 10, aepe)
        complete(made, number, aepe, seconds)
    assert search(objectives=["val/aepe", "seconds"]).front() == [1, 0, 2]


@pytest.mark.parametrize(
    "changed", [{"objectives": ["val/aepe", "seconds"]}, {"maximize": ["val/aepe"]}]
)
def test_other_objectives_are_another_search(changed: dict[str, Any], search: MakeSearch) -> None:
    search().ask()
    with pytest.raises(ResumeError, match="objectives"):
        search(**changed)


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "mysql://me:secret@x/y", "x"])
def test_a_storage_that_cannot_be_opened_is_one_line_without_a_password(
    url: str, search: MakeSearch
) -> None:
    with pytest.raises(ConfigError, match="storage") as refusal:
        search(storage=url)
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)


DRAWN = {
    "schedule.peak": "tag(log, interval(1e-4, 1e-2))",
    "model": "tiny,sm",
    "batch_size": "range(2, 3)",
    "augment.hue": "interval(0, 90)",
}
KEYS = ("val_aepe", "seconds")


def try_each(search: Search, *values: float) -> None:
    for value in values:
        number = search.ask()[0]
        for step in (10, 20):
            if search.report(number, step, value + 1 / step):
                search.end(number, TrialState.PRUNED)
                break
        else:
            complete(search, number, *(value**n for n, _ in enumerate(search.objectives, 1)))


def test_a_search_with_a_pruner_is_drawn(search: MakeSearch) -> None:
    made = search(DRAWN, pruner=Pruner.median, startup_trials=3, steps=20)
    try_each(made, 3.0, 2.0, 1.0, 9.0, 1.5)
    made.report(made.ask()[0], 10, 1.0)
    pictures, notes = draw(made)
    assert set(pictures) == {"history", "values", "importance", "curves"} and notes == []
    for png in pictures.values():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG" and picture.width > 500
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10  # not blank


def test_two_objectives_have_a_picture_of_their_front_and_no_curves(search: MakeSearch) -> None:
    made = search(DRAWN, objectives=["val/aepe", "seconds"])
    try_each(made, 3.0, 2.0, 0.1, 9.0, 1.5)
    pictures, notes = draw(made)
    each = {f"{name} {key}" for name in ("history", "values", "importance") for key in KEYS}
    assert set(pictures) == {*each, "front"} and notes == []


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, math.nan, 3.0), (1.0, 1.0, 1.0, 1.0, 1.0)])
def test_importance_needs_some_trials_and_different_values(
    values: tuple[float, ...], search: MakeSearch
) -> None:
    made = search(DRAWN)
    try_each(made, *values)
    pictures, notes = draw(made)
    assert set(pictures) == ({"history", "values", "curves"} if values else set())
    assert "not drawn" in notes[0]
