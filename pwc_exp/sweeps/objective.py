"""By what children are compared: the last value of a metric, or the time that it took."""

import math
from typing import NamedTuple

from pwc_exp.config.sweeps import SECONDS
from pwc_exp.sweeps.outcome import Outcome


class Objective(NamedTuple):
    """key: of a run's journal, or `seconds`."""

    key: str
    lower_is_better: bool = True

    @property
    def label(self) -> str:
        """Its name with its unit, where that is known."""
        return f"{self.key}, {self.unit}" if self.unit else self.key

    @property
    def unit(self) -> str:
        """Of its values; empty where it is not known."""
        if self.key == SECONDS:
            return "s"
        return "px" if self.key.endswith("/aepe") else ""

    def value(self, outcome: Outcome) -> float:
        """Of a child; NaN where there is none."""
        if self.key == SECONDS:
            return outcome.seconds
        return outcome.values.get(self.key, math.nan)

    def text(self, outcome: Outcome) -> str:
        """Of a child, with its unit."""
        return f"{self.value(outcome):.4g} {self.unit}".rstrip()
