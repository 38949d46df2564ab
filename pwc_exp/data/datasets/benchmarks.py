"""Benchmarks: MPI-Sintel, Spring, KITTI, HD1K, Middlebury and TartanAir.

The training pairs have ground truth. The test pairs have none: their servers keep it.
"""

from collections.abc import Iterator
from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, one_of, one_or_both, pair_starts
from pwc_exp.data.sample import Sample

_SPRING_STEPS = {"forward": ("FW", 1), "backward": ("BW", -1)}


def sintel(root: Path, *, render_pass: str) -> list[Sample]:
    """MPI-Sintel training pairs of the pass `clean`, `final` or `both`.

    The ids of `both` begin with the pass; the two pairs of one flow share a scene.
    """
    passes = one_or_both("render_pass", render_pass, ("clean", "final"))
    training = root / "training"
    tree = Tree(
        root, f"training/{passes[0]}/alley_1/frame_0001.png, training/flow/alley_1/frame_0001.flo"
    )
    for name in passes:
        tree.require(training / name)
    folders = [training / name for name in (*passes, "flow")]
    scenes = sorted({scene for folder in folders for scene in tree.folders(folder)})
    return tree.complete(
        sample
        for name in passes
        for scene in scenes
        for sample in _sintel_scene(tree, name, scene, f"{name}/" if len(passes) > 1 else "")
    )


def _sintel_scene(tree: Tree, render_pass: str, scene: str, prefix: str) -> list[Sample]:
    frames, flows, invalid, occlusions = (
        tree.root / "training" / name / scene
        for name in (render_pass, "flow", "invalid", "occlusions")
    )
    starts = pair_starts(
        tree.numbers(frames, "frame_", ".png"), tree.numbers(flows, "frame_", ".flo"), step=1
    )
    samples = []
    for number in starts:
        name = f"frame_{number:04d}"
        mask, hidden = invalid / f"{name}.png", occlusions / f"{name}.png"
        samples.append(
            Sample(
                id=f"{prefix}{scene}/{name}",
                scene=scene,
                frame1=frames / f"{name}.png",
                frame2=frames / f"frame_{number + 1:04d}.png",
                flow=flows / f"{name}.flo",
                invalid=mask if tree.has(mask) else None,
                occlusion=hidden if tree.has(hidden) else None,
            )
        )
    return samples


def spring(root: Path, *, camera: str, direction: str) -> list[Sample]:
    """Spring training pairs: camera `left`, `right` or `both`, `forward`, `backward` or `both`.

    The flow files have twice the rows and columns of the frames, and values in pixels of the
    frames. Cameras and directions share a scene.
    """
    cameras = one_or_both("camera", camera, ("left", "right"))
    directions = one_or_both("direction", direction, tuple(_SPRING_STEPS))
    flow = f"flow_{_SPRING_STEPS[directions[0]][0]}_{cameras[0]}"
    first = f"train/0001/frame_{cameras[0]}/frame_{cameras[0]}_0001.png, train/0001/{flow}/..."
    tree = Tree(root, first)
    tree.require(root / "train")
    return tree.complete(
        sample
        for scene in tree.folders(root / "train")
        for side in cameras
        for way in directions
        for sample in _spring_scene(tree, scene, side, way)
    )


def _spring_scene(tree: Tree, scene: str, camera: str, direction: str) -> list[Sample]:
    letters, step = _SPRING_STEPS[direction]
    frame, flow = f"frame_{camera}", f"flow_{letters}_{camera}"
    frames, flows = (tree.root / "train" / scene / name for name in (frame, flow))
    starts = pair_starts(
        tree.numbers(frames, f"{frame}_", ".png"),
        tree.numbers(flows, f"{flow}_", ".flo5"),
        step=step,
    )
    return [
        Sample(
            id=f"{scene}/{flow}/{number:04d}",
            scene=scene,
            frame1=frames / f"{frame}_{number:04d}.png",
            frame2=frames / f"{frame}_{number + step:04d}.png",
            flow=flows / f"{flow}_{number:04d}.flo5",
            flow_stride=2,
        )
        for number in starts
    ]


KITTI_2012_FRAMES = ("colored_0", "image_0")  # 2015 has image_2


def kitti(root: Path, *, truth: str) -> list[Sample]:
    """KITTI 2012 or 2015 training pairs with the ground truth `noc` or `occ`; a scene is a pair."""
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
    """The folder of frames in training/ or testing/: 2012, colour or grey, or 2015."""
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


def middlebury(root: Path) -> list[Sample]:
    """The pairs of Middlebury "other" with public ground truth; a scene is a pair."""
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
        for scene in tree.folders(flows)  # other-data also has scenes without public ground truth
    )


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
