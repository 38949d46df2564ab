"""Scenes of a laboratory: Middlebury."""

from pathlib import Path

from pwc_exp.data.datasets.layout import Tree
from pwc_exp.data.sample import Sample


def middlebury(root: Path) -> list[Sample]:
    """The pairs of Middlebury "other" with public truth; a scene is a pair."""
    frames, flows = root / "other-data", root / "other-gt-flow"
    tree = Tree(root, "other-data/Dimetrodon/frame10.png, other-gt-flow/Dimetrodon/flow10.flo")
    tree.require(flows)
    return tree.complete(
        Sample(
            id=scene,
            scene=scene,
            frame1=frames / scene / "frame10.png",
            frame2=frames / scene / "frame11.png",
            flow=flows / scene / "flow10.flo",
        )
        for scene in tree.folders(flows)  # other-data also has scenes without public truth
    )
