"""What runs children, whichever it is."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pwc_exp.sweeps.children import Child


class Ended(NamedTuple):
    """A child that nothing runs any more. reason: why, if its folder does not tell; else empty."""

    child: Child
    reason: str


# (children, what is told of each that starts) -> the children that have ended. A child is taken
# only when it can start.
Launch = Callable[[Iterator[Child], Callable[[Child], None]], Iterator[Ended]]


class Launcher(NamedTuple):
    """launch: runs children. at_once: how many at a time; None: all that there are."""

    launch: Launch
    at_once: int | None
