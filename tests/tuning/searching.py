"""A process that searches until it is killed: python searching.py <folder>.

What it has done is told in `said.txt`, each line after the fact: what stands there must not be
lost.
"""

import sys
from pathlib import Path

from pwc_exp import storage
from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.tuning import open_search
from pwc_exp.tuning.space import parse
from pwc_exp.tuning.study import Proposal, Search

PARAMS = {"a": "interval(0, 1)", "b": "interval(0, 1)", "model": "tiny,sm"}
SAID = "said.txt"


def open_here(folder: Path) -> Search:
    config = OptunaConfig(params=PARAMS, pruner=Pruner.median, startup_trials=3)
    return open_search(folder, "sweep", parse(PARAMS), config, jobs=1, steps=40)


def go_on(folder: Path) -> None:
    search = open_here(folder)

    def say(*words: object) -> None:
        storage.append_line(folder / SAID, " ".join(map(str, words)))

    def attempt(word: str, proposal: Proposal) -> None:
        say(word, proposal.number, *proposal.values.values())
        value = float(proposal.values["a"])
        for step in range(10, 50, 10):
            if search.report(proposal.number, step, value + 1 / step):
                search.prune(proposal.number)
                return say("pruned", proposal.number)
        search.tell(proposal.number, {"val/aepe": value})
        return say("told", proposal.number, repr(value))

    for running in search.running():
        attempt("again", running)
    while proposal := search.ask():
        attempt("asked", proposal)


if __name__ == "__main__":
    go_on(Path(sys.argv[1]))
