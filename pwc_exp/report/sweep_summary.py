"""What is reported about a sweep: its children, groups of seeds, and their order."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pwc_exp.report.pages import interval

_FINISHED = "FINISHED"
_LAST = ("RUNNING", "WAITING", "PRUNED", "KILLED", "FAILED")  # children without a rank, in order


@dataclass(frozen=True, kw_only=True)
class ChildRow:
    """A child run, as its folder records it."""

    number: int
    name: str
    values: Mapping[str, str]  # settings that differ between children, as Hydra writes them
    status: str  # FINISHED, FAILED, KILLED, PRUNED, RUNNING or WAITING
    aepe: float  # px, the objective; nan: none
    lower: float = math.nan  # of the 95 % interval
    upper: float = math.nan
    seconds: float  # of training steps
    wall: float = math.nan  # seconds from start to end
    steps: int  # done
    reason: str = ""  # why it did not finish, one line
    folder: str
    curve: Sequence[tuple[float, float]] = ()  # (step, objective)

    @property
    def interval(self) -> str:
        """As text; empty where there is none."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper)
        return interval((self.lower, self.upper)) if known else ""


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Children with the same settings but different seeds."""

    name: str  # the settings that differ, without the seed
    count: int
    mean: float
    deviation: float  # n - 1; nan for one child
    best: float


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What the page and the tables are made of."""

    title: str
    command: str  # that repeats the sweep
    children: Sequence[ChildRow]
    objective: str = "val/aepe, px"  # name, unit
    lower_is_better: bool = True
    best: int | None = None  # the number of the best child
    groups: Sequence[SeedGroup] = ()
    notes: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # caption -> PNG
    fronts: Sequence[int] = ()  # numbers of the children on the Pareto front
    objectives: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # if several

    @property
    def ranked(self) -> list[ChildRow]:
        """The children that finished with a value, and the best one, best first."""
        sign = 1 if self.lower_is_better else -1
        found = [child for child in self.children if self._has_rank(child)]
        return sorted(found, key=lambda c: (c.number != self.best, sign * c.aepe, c.number))

    @property
    def unranked(self) -> list[ChildRow]:
        """The others, failed ones last."""
        found = [child for child in self.children if not self._has_rank(child)]
        places = {status: place for place, status in enumerate(_LAST)}
        return sorted(found, key=lambda child: (places.get(child.status, 0), child.number))

    @property
    def short_settings(self) -> dict[str, str]:
        """{setting that differs: its last part, where that is unambiguous}, as first met."""
        settings = list(dict.fromkeys(name for child in self.children for name in child.values))
        last = {name: name.rpartition(".")[2] for name in settings}
        counts = Counter(last.values())
        return {name: part if counts[part] == 1 else name for name, part in last.items()}

    def short_name(self, child: ChildRow) -> str:
        """Its values, each with the short name of its setting."""
        names = self.short_settings
        return " ".join(f"{names[k]}={value}" for k, value in child.values.items()) or child.name

    def _has_rank(self, child: ChildRow) -> bool:
        counts = child.status == _FINISHED or child.number == self.best
        return counts and math.isfinite(child.aepe)
