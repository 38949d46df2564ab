"""What is told of a sweep: its children, groups of seeds, and their order."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pwc_exp.report.page import number

_FINISHED = "FINISHED"
_LAST = ("RUNNING", "WAITING", "PRUNED", "KILLED", "FAILED")  # children without a rank, in order


@dataclass(frozen=True, kw_only=True)
class ChildRow:
    """A child, as its folder tells."""

    number: int
    name: str
    values: Mapping[str, str]  # knobs that differ between children, as Hydra writes them
    status: str  # FINISHED, FAILED, KILLED, PRUNED, RUNNING or WAITING
    aepe: float  # px, the objective; nan: none
    lower: float = math.nan  # of the 95 % interval
    upper: float = math.nan
    seconds: float  # of training steps
    steps: int  # made
    reason: str = ""  # why it did not finish, one line
    folder: str
    curve: Sequence[tuple[float, float]] = ()  # (step, objective)

    @property
    def interval(self) -> str:
        """As text; empty where there is none."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper)
        return f"{number(self.lower)} to {number(self.upper)}" if known else ""


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Children alike but for their seed."""

    name: str  # the keys that differ, without the seed
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
    def knobs(self) -> list[str]:
        """The keys that differ, in the order in which they are met."""
        return list(dict.fromkeys(knob for child in self.children for knob in child.values))

    @property
    def short_knobs(self) -> dict[str, str]:
        """{key: its last part, where that tells it from the others}."""
        last = {knob: knob.rpartition(".")[2] for knob in self.knobs}
        counts = Counter(last.values())
        return {knob: part if counts[part] == 1 else knob for knob, part in last.items()}

    def short_name(self, child: ChildRow) -> str:
        """Its values, each with the last part of its key."""
        keys = self.short_knobs
        return " ".join(f"{keys[k]}={value}" for k, value in child.values.items()) or child.name

    def _has_rank(self, child: ChildRow) -> bool:
        counts = child.status == _FINISHED or child.number == self.best
        return counts and math.isfinite(child.aepe)
