"""Which samples train and which validate. No scene is ever on both sides."""

import hashlib
from collections.abc import Sequence

from pwc_exp.data.sample import Sample


def take_split(samples: Sequence[Sample], split: str, *, val_share: float) -> list[Sample]:
    """The samples of `train`, `val` or `all`."""
    if split == "all":
        return list(samples)
    train, val = split_samples(samples, val_share=val_share)
    return {"train": train, "val": val}[split]


def split_samples(
    samples: Sequence[Sample], *, val_share: float
) -> tuple[list[Sample], list[Sample]]:
    """Splits into train and val: as the data set says, else about `val_share` of the scenes.

    A scene is placed by a hash of its name alone, so that further scenes do not move it; only
    where that would leave a side empty is one scene moved. A single scene is on both sides.
    """
    scenes = {sample.scene for sample in samples}
    if any(sample.split for sample in samples):
        held_out = {sample.scene for sample in samples if sample.split == "val"}
    elif len(scenes) < 2:
        return list(samples), list(samples)
    else:
        held_out = _held_out_scenes(scenes, val_share)
    train = [sample for sample in samples if sample.scene not in held_out]
    val = [sample for sample in samples if sample.scene in held_out]
    return train, val


def _held_out_scenes(scenes: set[str], val_share: float) -> set[str]:
    ordered = sorted(scenes, key=_place)
    count = sum(_place(scene) < val_share for scene in ordered)
    return set(ordered[: min(max(count, 1), len(ordered) - 1)])


def _place(scene: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(scene.encode()).digest()[:6]) / 2**48
