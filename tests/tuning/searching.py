"""A process that searches until it is killed: python searching.py <folder>.

What it has done is told in `said.txt`, each line after the fact: what stands there must not be
lost.
"""

import sys
from pathlib import Path

from pwc_exp import durable
from pwc_exp.commands.sweeping import OptunaConfig
from pwc_exp.tuning import open_search
from pwc_exp.tuning.space import parse
from pwc_exp.tuning.study import Search

PARAMS = {"a": "interval(0, 1)", "b": "interval(0, 1)", "model": "tiny,sm"}
SAID = "said.txt"


def open_here(folder: Path) -> Search:
    config = OptunaConfig(params=PARAMS, pruner="median", startup_trials=3)
    return open_search(folder, "sweep", parse(PARAMS), config, jobs=1, steps=40)


def go_on(folder: Path) -> None:
    search = open_here(folder)

    def say(*words: object) -> None:
        durable.append_line(folder / SAID, " ".join(map(str, words)))

    for proposal in search.running():
        say("again", proposal.number, *proposal.values.values())
        _try(search, proposal.number, float(proposal.values["a"]), say)
    while proposal := search.ask():
        say("asked", proposal.number, *proposal.values.values())
        _try(search, proposal.number, float(proposal.values["a"]), say)


def _try(search, number, value, say) -> None:  # type: ignore[no-untyped-def]
    for step in range(10, 50, 10):
        if search.report(number, step, value + 1 / step):
            search.prune(number)
            say("pruned", number)
            return
    search.tell(number, {"val/aepe": value})
    say("told", number, repr(value))


if __name__ == "__main__":
    go_on(Path(sys.argv[1]))
