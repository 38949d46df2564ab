"""The shapes that data takes on its way from disk to a training step; train and val splits.

Letters: B batch, H height, W width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

import tensorflow as tf

from pwc_exp.errors import UserError

_T = TypeVar("_T")


class Sample(NamedTuple):
    """One pair on disk, nothing decoded."""

    id: str  # unique within the data set, '/'-separated, no suffix: alley_1/frame_0001
    scene: str  # samples of one scene are never in both train and val
    frame1: Path
    frame2: Path
    flow: Path | None  # None: no ground truth, only to predict
    valid: Path | None = None  # mask (image or .npy): zero where the flow is not to be used
    invalid: Path | None = None  # mask (image or .npy): nonzero where the flow is not to be used
    flow_stride: int = 1  # every so many-th row and column of the flow file belongs to a pixel
    split: str | None = None  # train or val where the data set itself says so
    # What only an evaluation reads, see `read_annotations`.
    occlusion: Path | None = None  # mask: nonzero where hidden in frame2
    visible: Path | None = None  # flow file that is valid only where visible in both frames
    objects: Path | None = None  # mask: nonzero on objects that move by themselves


class Example(NamedTuple):
    """One decoded pair."""

    frame1: tf.Tensor  # [H, W, 3] float32 RGB in [0, 1]
    frame2: tf.Tensor  # [H, W, 3]
    flow: tf.Tensor  # [H, W, 2] float32, pixels, (x, y) from frame1 to frame2; 0 where not valid
    valid: tf.Tensor  # [H, W] float32, 1 where the flow is known, else 0


class Batch(NamedTuple):
    """B decoded pairs of one size."""

    frame1: tf.Tensor  # [B, H, W, 3]
    frame2: tf.Tensor  # [B, H, W, 3]
    flow: tf.Tensor  # [B, H, W, 2]
    valid: tf.Tensor  # [B, H, W]
    index: tf.Tensor  # [B] int64, position of each pair in its source: source.ids[index] names it


class Part(NamedTuple):
    """A range of a source's examples that is shuffled on its own."""

    size: int  # examples
    weight: float  # how many are drawn from it, relative to the other parts


class Source(Protocol):
    """Something with examples 0 .. size-1."""

    name: str
    size: int
    ids: Sequence[str]
    digest: str  # hexadecimal; two sources with one digest have the same examples
    parts: Sequence[Part]  # one after the other, they make up all examples

    def example(self, index: tf.Tensor) -> Example:
        """Example `index` (scalar int64); usable inside a tf.data map."""
        ...

    def failure(self, index: int) -> UserError | None:
        """Why example `index` cannot be read; TensorFlow's own error names no file."""
        ...


class Sources(NamedTuple):
    """Where the examples of a run come from.

    validation: of the data sets that are validated on beside `val`, by the prefix of their metrics.
    """

    train: Source
    val: Source
    validation: Mapping[str, Source] = MappingProxyType({})


def take_split(samples: Sequence[Sample], split: str, *, val_share: float) -> list[Sample]:
    """The samples of `train`, `val` or `all`: as the data set says, else `val_share` of the scenes.

    A scene is placed by a hash of its name alone, so that further scenes do not move it; only
    where that would leave a side empty is one scene moved. A single scene is on both sides.
    """
    scenes = {sample.scene for sample in samples}
    if split == "all":
        return list(samples)
    if any(sample.split for sample in samples):
        held_out = {sample.scene for sample in samples if sample.split == "val"}
    elif len(scenes) < 2:
        return list(samples)
    else:
        ordered = sorted(scenes, key=_place)
        count = sum(_place(scene) < val_share for scene in ordered)
        held_out = set(ordered[: min(max(count, 1), len(ordered) - 1)])
    return [sample for sample in samples if (sample.scene in held_out) == (split == "val")]


def _place(scene: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(scene.encode()).digest()[:6]) / 2**48


def spread(items: Sequence[_T], limit: int | None) -> Sequence[_T]:
    """At most `limit` of the items, evenly spread over them; all of them without a limit."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]
