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
from optuna.trial import TrialState

from pwc_exp import storage
from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.sweeps.study import Distribution, Proposal, Search

KILLS = 3
SAID = "said.txt"


def open_search(folder: Path) -> Search:
    space: dict[str, Distribution] = {
        "a": FloatDistribution(0, 1),
        "b": FloatDistribution(0, 1),
        "model": CategoricalDistribution(("tiny", "sm")),
    }
    config = OptunaConfig(pruner=Pruner.median, startup_trials=3)
    return Search(folder, "sweep", space, config, jobs=1, steps=40)


def search_until_killed(folder: Path) -> None:
    search = open_search(folder)

    def say(*words: object) -> None:
        storage.append_line(folder / SAID, " ".join(map(str, words)))

    def attempt(word: str, proposal: Proposal) -> None:
        number, values = proposal
        say(word, number, *values.values())
        value = float(values["a"])
        for step in range(10, 50, 10):
            if search.report(number, step, value + 1 / step):
                search.end(number, TrialState.PRUNED)
                return say("pruned", number)
        search.end(number, TrialState.COMPLETE, [value])
        return say("told", number, repr(value))

    for running in search.running():
        attempt("again", running)
    while True:
        attempt("asked", search.ask())


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
    search = open_search(tmp_path)
    said: defaultdict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for word, told, *rest in lines_said(tmp_path):
        said[word].append((int(told), rest))
    trials = search.trials
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
    assert len(search.running()) <= 1
    assert search.finished + len(search.running()) == len(trials)


if __name__ == "__main__":
    search_until_killed(Path(sys.argv[1]))
