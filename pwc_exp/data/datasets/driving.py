"""Roads with measured, sparse truth: KITTI and HD1K."""

from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, one_of, pair_starts
from pwc_exp.data.sample import Sample

KITTI_2012_FRAMES = ("colored_0", "image_0")  # 2015 has image_2


def kitti(root: Path, *, truth: str) -> list[Sample]:
    """KITTI 2012 or 2015 training pairs with the truth `noc` or `occ`; a scene is a pair."""
    one_of("truth", truth, ("noc", "occ"))
    training = root / "training"
    frames = training / kitti_frames(training)
    flows = training / f"flow_{truth}"
    first = f"training/image_2/000000_10.png (2012: colored_0), training/flow_{truth}/000000_10.png"
    tree = Tree(root, first)
    tree.require(frames)

    def beside(folder: str, pair: str) -> Path | None:
        path = training / folder / f"{pair}_10.png"
        return path if tree.has(path) else None

    return tree.complete(
        Sample(
            id=f"{pair}_10",
            scene=f"{pair}_10",
            frame1=frames / f"{pair}_10.png",
            frame2=frames / f"{pair}_11.png",
            flow=flows / f"{pair}_10.png",
            visible=beside("flow_noc", pair) if truth == "occ" else None,
            objects=beside("obj_map", pair),
        )
        for pair in tree.stems(frames, "_10.png") | tree.stems(flows, "_10.png")
    )


def kitti_frames(split: Path) -> str:
    """The folder of frames in training/ or testing/: it tells 2012, colour or grey, from 2015."""
    colour, grey = KITTI_2012_FRAMES
    names = (colour, "image_2", grey)
    return next((name for name in names if (split / name).is_dir()), "image_2")


def hd1k(root: Path) -> list[Sample]:
    """HD1K pairs of consecutive frames; a scene is a sequence."""
    frames, flows = root / "hd1k_input" / "image_2", root / "hd1k_flow_gt" / "flow_occ"
    tree = Tree(root, "hd1k_input/image_2/000000_0010.png, hd1k_flow_gt/flow_occ/000000_0010.png")
    tree.require(frames)
    names = tree.stems(frames, ".png") | tree.stems(flows, ".png")
    sequences = {name.partition("_")[0] for name in names}
    return tree.complete(
        Sample(
            id=f"{sequence}_{number:04d}",
            scene=sequence,
            frame1=frames / f"{sequence}_{number:04d}.png",
            frame2=frames / f"{sequence}_{number + 1:04d}.png",
            flow=flows / f"{sequence}_{number:04d}.png",
        )
        for sequence in sequences
        for number in pair_starts(
            tree.numbers(frames, f"{sequence}_", ".png"),
            tree.numbers(flows, f"{sequence}_", ".png"),
            step=1,
            edge_flows=True,
        )
    )
