"""A search that is killed again and again. As a program: python test_killed_search.py <folder>.

It logs to `said.txt` what it has done, after the fact: what is there must not be lost.
"""

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from pwc_exp import storage
from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.sweeps.search import end, open_study, report
from pwc_exp.sweeps.space import Distribution

KILLS = 3
SAID = "said.txt"


SPACE: dict[str, Distribution] = {
    "a": FloatDistribution(0, 1),
    "b": FloatDistribution(0, 1),
    "model": CategoricalDistribution(("tiny", "sm")),
}


def open_search(folder: Path) -> Study:
    config = OptunaConfig(pruner=Pruner.median, startup_trials=3)
    return open_study(folder, "sweep", config, jobs=1, steps=40)


def running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(states=[TrialState.RUNNING])


def search_until_killed(folder: Path) -> None:
    study = open_search(folder)

    def say(*words: object) -> None:
        storage.append_line(folder / SAID, " ".join(map(str, words)))

    def attempt(word: str, trial: Trial | FrozenTrial) -> None:
        number, value = trial.number, float(trial.params["a"])
        say(word, number, *(trial.params[key] for key in SPACE))
        for step in range(10, 50, 10):
            if report(study, number, step, value + 1 / step):
                end(study, number, TrialState.PRUNED)
                return say("pruned", number)
        end(study, number, TrialState.COMPLETE, [value])
        return say("told", number, repr(value))

    for trial in running(study):
        if len(trial.params) < len(SPACE):  # killed before it had all its values
            study.tell(trial.number, state=TrialState.FAIL)
        else:
            attempt("again", trial)
    while True:
        attempt("asked", study.ask(dict(SPACE)))


def lines_said(folder: Path) -> list[list[str]]:
    path = folder / SAID
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def kill_amid(folder: Path, lines: int, wait: float) -> None:
    """Searches until so many lines more are logged, and `wait` seconds longer."""
    before = len(lines_said(folder))
    process = subprocess.Popen([sys.executable, __file__, str(folder)])
    while len(lines_said(folder)) < before + lines:
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.01)
    time.sleep(wait)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_killed_search_loses_no_trial_and_doubles_none(tmp_path: Path) -> None:
    for kill in range(KILLS):
        kill_amid(tmp_path, lines=3, wait=0.02 * kill)
    study = open_search(tmp_path)
    said: defaultdict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for word, told, *rest in lines_said(tmp_path):
        said[word].append((int(told), rest))
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert len(said["told"]) >= KILLS
    for number, (value,) in said["told"]:
        assert trials[number].state == TrialState.COMPLETE
        assert trials[number].value == float(value)
    for number, _ in said["pruned"]:
        assert trials[number].state == TrialState.PRUNED
    asked = dict(said["asked"])
    for number, values in said["asked"] + said["again"]:
        params = trials[number].params
        assert values == [repr(params["a"]), repr(params["b"]), params["model"]]
        assert asked.get(number, values) == values
    assert len(asked) == len(said["asked"])  # no number was given out twice
    assert len(running(study)) <= 1
    finished = sum(trial.state.is_finished() for trial in trials)
    assert finished + len(running(study)) == len(trials)


if __name__ == "__main__":
    search_until_killed(Path(sys.argv[1]))
