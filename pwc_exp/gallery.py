"""The samples that are worth a look: the worst and the best, and no more of them in memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Tiles = dict[str, np.ndarray]  # caption -> [h, w, 3] uint8 RGB


class Shown(NamedTuple):
    """A sample that is drawn."""

    aepe: float  # px
    number: int  # in its source
    id: str
    tiles: Tiles


class Gallery:
    """Keeps the pictures of the `count` worst and the `count` best of all samples it is shown.

    A sample is drawn when it is among them, so that most of thousands are never drawn.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._worst: list[Shown] = []
        self._best: list[Shown] = []

    def offer(self, aepe: float, number: int, sample_id: str, draw: Callable[[], Tiles]) -> None:
        """Considers a sample; one without a valid pixel, whose AEPE is NaN, is none to show."""
        if np.isnan(aepe) or not self._count:
            return
        among_worst = len(self._worst) < self._count or aepe > self._worst[-1].aepe
        among_best = len(self._best) < self._count or aepe < self._best[-1].aepe
        if not (among_worst or among_best):
            return
        shown = Shown(aepe, number, sample_id, draw())
        if among_worst:
            self._worst = sorted([*self._worst, shown], key=lambda s: (-s.aepe, s.number))
            del self._worst[self._count :]
        if among_best:
            self._best = sorted([*self._best, shown], key=lambda s: (s.aepe, s.number))
            del self._best[self._count :]

    @property
    def worst(self) -> list[Shown]:
        """The worst first."""
        return self._worst

    @property
    def best(self) -> list[Shown]:
        """The best first; none that is among the worst, where there are few samples."""
        worst = {shown.number for shown in self._worst}
        return [shown for shown in self._best if shown.number not in worst]
