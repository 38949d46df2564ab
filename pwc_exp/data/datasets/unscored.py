"""Test splits of benchmarks: pairs without a truth, for their servers."""

from collections.abc import Iterator
from pathlib import Path

from pwc_exp.data.datasets.driving import kitti_frames
from pwc_exp.data.datasets.layout import Tree, pair_starts
from pwc_exp.data.sample import Sample


def sintel_test(root: Path) -> list[Sample]:
    """MPI-Sintel's test pairs of both passes; ids begin with the pass, as in `sintel`."""
    tree = Tree(root, "test/clean/ambush_1/frame_0001.png")
    passes = ("clean", "final")
    for name in passes:
        tree.require(root / "test" / name)
    return tree.complete(
        sample
        for name in passes
        for scene in tree.folders(root / "test" / name)
        for sample in _sequence(tree, f"test/{name}/{scene}", "frame_", f"{name}/{scene}/frame_")
    )


def kitti_test(root: Path) -> list[Sample]:
    """KITTI 2012's or 2015's test pairs; ids as in `kitti`."""
    testing = root / "testing"
    frames = testing / kitti_frames(testing)
    tree = Tree(root, "testing/image_2/000000_10.png (2012: colored_0)")
    tree.require(frames)
    return tree.complete(
        Sample(
            id=f"{pair}_10",
            scene=f"{pair}_10",
            frame1=frames / f"{pair}_10.png",
            frame2=frames / f"{pair}_11.png",
            flow=None,
        )
        for pair in tree.stems(frames, "_10.png")
    )


def spring_test(root: Path) -> list[Sample]:
    """Spring's test pairs of both cameras, forward and backward; ids as in `spring`."""
    tree = Tree(root, "test/0003/frame_left/frame_left_0001.png")
    tree.require(root / "test")
    return tree.complete(
        sample
        for scene in tree.folders(root / "test")
        for camera in ("left", "right")
        for letters, step in (("FW", 1), ("BW", -1))
        for sample in _sequence(
            tree,
            f"test/{scene}/frame_{camera}",
            f"frame_{camera}_",
            f"{scene}/flow_{letters}_{camera}/",
            step=step,
        )
    )


def _sequence(tree: Tree, folder: str, prefix: str, ids: str, *, step: int = 1) -> Iterator[Sample]:
    frames = tree.root / folder
    for number in pair_starts(tree.numbers(frames, prefix, ".png"), set(), step=step):
        yield Sample(
            id=f"{ids}{number:04d}",
            scene=folder,
            frame1=frames / f"{prefix}{number:04d}.png",
            frame2=frames / f"{prefix}{number + step:04d}.png",
            flow=None,
        )
