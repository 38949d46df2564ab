"""What a study proposes, stops, remembers and draws."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import TrialState
from PIL import Image

from pwc_exp.config.sweeps import OptunaConfig, Sampler
from pwc_exp.errors import ConfigError, ResumeError
from pwc_exp.sweeps.search import JOURNAL, best_trials, draw, end, open_study, report

OpenStudy = Callable[..., Study]
SPACE = {
    "schedule.peak": FloatDistribution(1e-4, 1e-2, log=True),
    "model": CategoricalDistribution(("tiny", "sm")),
    "batch_size": IntDistribution(2, 2),
    "augment.hue": FloatDistribution(0, 90),
}
TWO = {"objectives": ["val/aepe", "seconds"]}
GOOD, BAD = [3.0, 2.0, 1.0], [9.0, 9.0, 9.0]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost with the power only is not what these tests are about."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def opened(tmp_path: Path) -> OpenStudy:
    """(**settings) -> the study of a sweep, in the same folder each time."""

    def call(name: str = "sweep/now", steps: int = 100, **settings: Any) -> Study:
        return open_study(tmp_path, name, OptunaConfig(**settings), jobs=1, steps=steps)

    return call


def ask(study: Study) -> int:
    return study.ask(SPACE).number


def try_values(study: Study, *reached: float) -> None:
    for value in reached:
        values = [value**power for power, _ in enumerate(study.directions, start=1)]
        end(study, ask(study), TrialState.COMPLETE, values)


def run_until_stopped(study: Study, values: list[float]) -> int:
    """Steps that a trial with these values at steps 10, 20, … makes."""
    number = ask(study)
    for step, value in enumerate(values, start=1):
        if report(study, number, 10 * step, value):
            end(study, number, TrialState.PRUNED)
            return 10 * step
    end(study, number, TrialState.COMPLETE, values[-1:])
    return 10 * len(values)


def running(study: Study) -> list[int]:
    return [trial.number for trial in study.get_trials(states=[TrialState.RUNNING])]


@pytest.mark.parametrize("sampler", Sampler)
def test_the_same_seed_proposes_the_same_and_a_continued_search_repeats_no_draws(
    sampler: Sampler, opened: OpenStudy
) -> None:
    proposals: dict[str, list[float]] = {"1": [], "2": []}
    for name, hues in proposals.items():
        study = opened(name, sampler=sampler)
        for _ in range(7):
            trial = study.ask(SPACE)
            hues.append(trial.params["augment.hue"])
            end(study, trial.number, TrialState.COMPLETE, hues[-1:])
    assert proposals["1"] == proposals["2"]
    restarted = [opened("3", sampler=sampler).ask(SPACE).params["augment.hue"] for _ in range(4)]
    assert len(set(restarted)) == 4


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/optuna.db"])
def test_a_study_that_is_opened_again_knows_its_trials(
    storage: str | None, opened: OpenStudy, tmp_path: Path
) -> None:
    place = storage and storage.format(tmp_path)
    study = opened(storage=place)
    params = [study.ask(SPACE).params for _ in range(4)]
    assert best_trials(study) == []
    end(study, 1, TrialState.COMPLETE, [2.0])
    end(study, 3, TrialState.COMPLETE, [1.0])
    again = opened(storage=place)
    assert [trial.params for trial in again.trials] == params
    assert (running(again), best_trials(again)) == ([0, 2], [3])
    end(again, 0, TrialState.COMPLETE, [0.5])
    assert (running(again), best_trials(opened(storage=place))) == ([2], [0])
    assert (tmp_path / JOURNAL).exists() == (storage is None)


def test_what_a_crash_leaves_in_the_journal_is_removed(opened: OpenStudy, tmp_path: Path) -> None:
    try_values(opened(), 2.0, 1.0)
    (tmp_path / f"{JOURNAL}.lock").touch()
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":6,"worker')
    try_values(opened(), 3.0)
    assert [trial.value for trial in opened().trials] == [2.0, 1.0, 3.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_a_failure(value: float, opened: OpenStudy) -> None:
    study = opened(startup_trials=1)
    try_values(study, 3.0, 2.0, value, 1.0)
    assert study.trials[2].state == TrialState.FAIL
    assert best_trials(study) == [3]


def test_median_stops_what_is_worse_than_half_of_the_others(opened: OpenStudy) -> None:
    study = opened(pruner="median", startup_trials=2, warmup_steps=15)
    steps = [run_until_stopped(study, values) for values in (BAD, GOOD, GOOD, BAD)]
    assert steps == [30, 30, 30, 20]


def test_hyperband_stops_what_is_not_of_the_best_share(opened: OpenStudy) -> None:
    study = opened(pruner="hyperband", steps=30, reduction_factor=2)
    steps = [run_until_stopped(study, values) for values in [GOOD] * 4 + [BAD] * 8]
    assert min(steps[4:]) < 30


def test_points_that_are_told_again_after_a_kill_count_once(opened: OpenStudy) -> None:
    study = opened(pruner="median", startup_trials=1)
    run_until_stopped(study, GOOD)
    number = ask(study)
    assert not report(study, number, 0, 99.0)  # before any training
    assert not report(study, number, 10, 2.0)
    assert not report(study, number, 20, 5.0)  # its best so far is good enough
    again = opened(pruner="median", startup_trials=1)
    assert not report(again, number, 10, 99.0)
    assert again.trials[number].intermediate_values == {10: 2.0, 20: 5.0}
    assert report(again, number, 30, 5.0)


def test_the_best_is_the_greatest_if_asked_for_and_a_front_of_several_objectives(
    opened: OpenStudy,
) -> None:
    study = opened("1", objectives=["val/wauc"], maximize=["val/wauc"])
    try_values(study, 1.0, 3.0, 2.0)
    assert best_trials(study) == [1]
    study = opened("2", **TWO)
    for values in [(2.0, 2.0), (1.0, 9.0), (3.0, 1.0), (3.0, 3.0)]:
        number = ask(study)
        assert not report(study, number, 10, values[0])
        end(study, number, TrialState.COMPLETE, values)
    assert best_trials(opened("2", **TWO)) == [1, 0, 2]


@pytest.mark.parametrize("changed", [TWO, {"maximize": ["val/aepe"]}])
def test_other_objectives_are_another_search(changed: dict[str, Any], opened: OpenStudy) -> None:
    ask(opened())
    with pytest.raises(ResumeError, match="objectives"):
        opened(**changed)


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/x.db", "mysql://me:secret@x/y", "x"])
def test_a_storage_that_cannot_be_opened_is_one_line_without_a_password(
    url: str, opened: OpenStudy
) -> None:
    with pytest.raises(ConfigError, match="storage") as refusal:
        opened(storage=url)
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)


def test_a_search_with_a_pruner_is_drawn(opened: OpenStudy) -> None:
    study = opened(pruner="median", startup_trials=3, steps=20)
    for values in ([3.0, 3.0], [2.0, 2.0], [1.0, 1.0], [9.0, 9.0], [1.5, 1.5]):
        run_until_stopped(study, values)
    report(study, ask(study), 10, 1.0)
    pictures, notes = draw(study, ["val/aepe"])
    assert set(pictures) == {"history", "values", "importance", "curves"} and notes == []
    for png in pictures.values():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG" and picture.width > 500
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10  # not blank


def test_two_objectives_have_a_picture_of_their_front_and_no_curves(opened: OpenStudy) -> None:
    study = opened(**TWO)
    try_values(study, 3.0, 2.0, 0.1, 9.0, 1.5)
    pictures, notes = draw(study, TWO["objectives"])
    names, keys = ("history", "values", "importance"), ("val_aepe", "seconds")
    assert set(pictures) == {*(f"{name} {key}" for name in names for key in keys), "front"}
    assert notes == []


@pytest.mark.parametrize("values", [(), (1.0, math.nan, 3.0), (1.0, 1.0, 1.0, 1.0, 1.0)])
def test_importance_needs_some_trials_and_different_values(
    values: tuple[float, ...], opened: OpenStudy
) -> None:
    study = opened()
    try_values(study, *values)
    pictures, notes = draw(study, ["val/aepe"])
    assert set(pictures) == ({"history", "values"} if values else set())
    assert "not drawn" in notes[0]
