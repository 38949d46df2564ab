"""FlyingChairs and FlyingChairs2. A scene is a pair."""

from collections.abc import Callable
from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, one_or_both
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError

_CHAIRS2_FRAMES = {"forward": "01", "backward": "10"}  # numbers of frame 1 and frame 2


def flyingchairs(root: Path) -> list[Sample]:
    """FlyingChairs pairs with the official split, where its file is there."""
    data = root / "data"
    tree = Tree(root, "data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo")
    tree.require(data)
    split_of = _official_splits(root)
    return tree.complete(
        Sample(
            id=name,
            scene=name,
            frame1=data / f"{name}_img1.ppm",
            frame2=data / f"{name}_img2.ppm",
            flow=data / f"{name}_flow.flo",
            split=split_of(name),
        )
        for name in tree.stems(data, "_img1.ppm") | tree.stems(data, "_flow.flo")
    )


def flyingchairs2(root: Path, *, direction: str) -> list[Sample]:
    """FlyingChairs2 pairs, `forward`, `backward` or `both`, with the split of the folders.

    The two directions of a pair share a scene.
    """
    directions = one_or_both("direction", direction, tuple(_CHAIRS2_FRAMES))
    tree = Tree(
        root,
        "train/0000000-img_0.png, train/0000000-img_1.png, train/0000000-flow_01.flo, "
        "the same in val",
    )
    splits = [split for split in ("train", "val") if split in tree.folders(root)]
    if not splits:
        raise tree.wrong_root()
    return tree.complete(
        sample
        for split in splits
        for way in directions
        for sample in _chairs2(tree, split, _CHAIRS2_FRAMES[way])
    )


def _chairs2(tree: Tree, split: str, frames: str) -> list[Sample]:
    folder = tree.root / split
    suffix1, suffix2 = (f"-img_{frame}.png" for frame in frames)
    flow_suffix = f"-flow_{frames}.flo"
    return [
        Sample(
            id=f"{split}/{name}/flow_{frames}",
            scene=f"{split}/{name}",
            frame1=folder / f"{name}{suffix1}",
            frame2=folder / f"{name}{suffix2}",
            flow=folder / f"{name}{flow_suffix}",
            split=split,
        )
        for name in tree.stems(folder, suffix1) | tree.stems(folder, flow_suffix)
    ]


def _official_splits(root: Path) -> Callable[[str], str | None]:
    """Pair name -> official split; line n of the file holds 1 (train) or 2 (val) for pair n."""
    name = "FlyingChairs_train_val.txt"
    path = next((p for p in (root / name, root / "data" / name) if p.is_file()), None)
    if path is None:
        return lambda _: None
    codes = read_bytes(path).split()  # also strips the \r of Windows
    if not set(codes) <= {b"1", b"2"}:
        raise DataError(f"Expected only 1 (train) and 2 (val) in {path}.")

    def split_of(pair: str) -> str:
        if not (pair.isdecimal() and 1 <= int(pair) <= len(codes)):
            raise DataError(f"Expected a line for pair {pair} in {path}, which has {len(codes)}.")
        return {b"1": "train", b"2": "val"}[codes[int(pair) - 1]]

    return split_of
