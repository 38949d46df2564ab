"""The configuration of the leaderboard."""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from pwc_exp.checks import check, check_positive
from pwc_exp.groups.tracking import SearchConfig

FORMATS = (".md", ".html")


class Order(StrEnum):
    """Which value is the best."""

    lowest = auto()
    highest = auto()


class Seeds(StrEnum):
    """Whether runs that differ in nothing but `seed` are one row."""

    group = auto()
    single = auto()


class Ended(StrEnum):
    """Which runs are looked at."""

    finished = auto()
    any = auto()


@dataclass(kw_only=True)
class LeaderboardConfig:
    """Runs by their values in MLflow."""

    tracking: SearchConfig = field(default_factory=SearchConfig)
    outputs: str = "outputs"  # folder of all runs, in whose mlflow/ the SQLite file lies
    metric: str = "val/aepe"  # any that the runs have; a run's value is its last one
    order: Order = Order.lowest  # which value is first
    dataset: str | None = None  # only runs trained on it, as their tag says
    recipe: str | None = None  # only runs of this `name`
    parent: str | None = None  # only children of this sweep, such as quickstart/2026-11-26_21-00-00
    best: bool = False  # only the best run of each sweep
    where: str | None = None  # further conditions, in MLflow's language: params.seed = '1'
    status: Ended = Ended.finished  # any: also runs that failed, were stopped or are running
    seeds: Seeds = Seeds.group  # group: runs alike but for their seed are a row, mean ± deviation
    top: int = 20  # rows
    out: Any = None  # file to write it to as well, .md or .html; or several: [board.md,board.html]

    def __post_init__(self) -> None:
        check_positive("", self, "top")
        self.out = [self.out] if isinstance(self.out, str) else list(self.out or [])
        for name in self.out:
            known = Path(str(name)).suffix in FORMATS
            check(known, "out", f"must name files that end in {' or '.join(FORMATS)}", name)
        for key in ("dataset", "recipe", "parent"):
            value = getattr(self, key) or ""
            check("'" not in value, key, "must have no quotation mark", value)
