"""By what children are compared: the last value of a metric, or the time that it took."""

import math
from typing import NamedTuple

from pwc_exp.commands.sweeping import SECONDS
from pwc_exp.config import BEST_KEY
from pwc_exp.sweeps.outcome import Outcome

_UNITS = {BEST_KEY: "px", SECONDS: "s"}


class Objective(NamedTuple):
    """key: of a run's journal, or `seconds`."""

    key: str = BEST_KEY
    lower_is_better: bool = True

    @property
    def label(self) -> str:
        """Its name with its unit, where that is known."""
        return f"{self.key}, {_UNITS[self.key]}" if self.key in _UNITS else self.key

    def value(self, outcome: Outcome) -> float:
        """Of a child; NaN where there is none."""
        if self.key == SECONDS:
            return outcome.seconds
        return outcome.values.get(self.key, math.nan)

    def text(self, outcome: Outcome) -> str:
        """Of a child, with its unit."""
        return f"{self.value(outcome):.4g} {_UNITS.get(self.key, '')}".rstrip()
