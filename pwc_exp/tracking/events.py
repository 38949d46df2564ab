"""What is sent to the stores, and what a store is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Point(NamedTuple):
    """Values of a step. `time`: when they were written, in milliseconds since 1970."""

    step: int
    time: int
    values: Mapping[str, float]


class Picture(NamedTuple):
    """An image of a step. `pixels`: [H, W, 3] uint8 RGB."""

    step: int
    time: int
    key: str
    pixels: np.ndarray


class Artifact(NamedTuple):
    """A file, or a folder's content, to be copied into `folder`, over what is there."""

    path: Path
    folder: str

    @property
    def destination(self) -> str:
        """Where it lies in the store."""
        if self.path.is_dir():
            return self.folder
        return f"{self.folder}/{self.path.name}" if self.folder else self.path.name


class Text(NamedTuple):
    """A text file."""

    name: str
    text: str


class Tag(NamedTuple):
    """What is said about a run, over what was said under that name."""

    name: str
    value: str


class Dataset(NamedTuple):
    """The data that a run reads. `context`: what for; `sizes`: samples of each split."""

    name: str
    digest: str
    sizes: Mapping[str, int]
    context: str


Item = Picture | Artifact | Text | Tag | Dataset
Event = Point | Item


class Store(Protocol):
    """A place that shows runs. Its methods are called from one thread and may fail in any way."""

    def send_points(self, points: Sequence[Point]) -> None:
        """Stores `points`; sending one again changes nothing."""

    def send_item(self, item: Item) -> None:
        """Stores an item, if this store has a place for its kind."""

    def close(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED."""
