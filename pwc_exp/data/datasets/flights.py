"""Flights of a simulated drone: TartanAir. A scene is an environment."""

from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, pair_starts
from pwc_exp.data.sample import Sample


def tartanair(root: Path) -> list[Sample]:
    """TartanAir pairs of the left camera, the only one with flow.

    The masks are needed: the flow is that of the camera alone, wrong on whatever moves by itself.
    """
    tree = Tree(
        root,
        "abandonedfactory/Easy/P000/image_left/000000_left.png, "
        "abandonedfactory/Easy/P000/flow/000000_000001_flow.npy and 000000_000001_mask.npy",
    )
    flights = [
        (environment, f"{environment}/{level}/{flight}")
        for environment in tree.folders(root)
        for level in ("Easy", "Hard")
        for flight in tree.folders(root / environment / level)
    ]
    if not flights:
        raise tree.wrong_root()
    return tree.complete(
        sample for environment, place in flights for sample in _flight(tree, environment, place)
    )


def _flight(tree: Tree, environment: str, place: str) -> list[Sample]:
    frames, flows = (tree.root / place / name for name in ("image_left", "flow"))
    pairs = (pair.partition("_")[0] for pair in tree.stems(flows, "_flow.npy"))
    starts = pair_starts(
        tree.numbers(frames, "", "_left.png"), {int(n) for n in pairs if n.isdecimal()}, step=1
    )
    samples = []
    for number in starts:
        pair = f"{number:06d}_{number + 1:06d}"
        samples.append(
            Sample(
                id=f"{place}/{number:06d}",
                scene=environment,
                frame1=frames / f"{number:06d}_left.png",
                frame2=frames / f"{number + 1:06d}_left.png",
                flow=flows / f"{pair}_flow.npy",
                invalid=flows / f"{pair}_mask.npy",
            )
        )
    return samples
