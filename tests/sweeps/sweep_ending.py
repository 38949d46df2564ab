"""How a command ended."""

from collections.abc import Callable
from typing import NamedTuple


class Ending(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ending]
