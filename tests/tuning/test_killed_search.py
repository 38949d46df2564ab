import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from optuna.trial import TrialState
from searching import SAID, open_here

KILLS = 3


def lines_said(folder: Path) -> list[list[str]]:
    path = folder / SAID
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def kill_amid(folder: Path, lines: int, wait: float) -> None:
    """Searches until so many lines more are said, and `wait` seconds longer."""
    before = len(lines_said(folder))
    program = Path(__file__).with_name("searching.py")
    process = subprocess.Popen([sys.executable, str(program), str(folder)])
    while len(lines_said(folder)) < before + lines:
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.01)
    time.sleep(wait)
    process.kill()
    process.wait()


def test_a_killed_search_loses_no_trial_and_doubles_none(tmp_path: Path) -> None:
    for kill in range(KILLS):
        kill_amid(tmp_path, lines=3, wait=0.02 * kill)
    search = open_here(tmp_path)
    said: defaultdict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for word, told, *rest in lines_said(tmp_path):
        said[word].append((int(told), rest))
    trials = search.study.trials
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
    assert {trial.state for trial in trials} <= {
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.RUNNING,
    }
    assert not list(tmp_path.glob("*.lock*"))
