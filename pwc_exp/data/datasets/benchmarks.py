"""Public data sets: Chairs, Things, Sintel, Spring, KITTI, HD1K, Middlebury and TartanAir.

The training pairs have ground truth. The test pairs of benchmarks have none: their servers keep it.
"""

import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, one_of, one_or_both, sequence
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError


def flyingchairs(root: Path) -> list[Sample]:
    """FlyingChairs pairs with the official split, where its file is there; a scene is a pair."""
    data = root / "data"
    tree = Tree(root, "data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo")
    tree.require(data)
    split_of = _chairs_splits(root)
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


def _chairs_splits(root: Path) -> Callable[[str], str | None]:
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


def flyingchairs2(root: Path, *, direction: str) -> list[Sample]:
    """FlyingChairs2 pairs, `forward`, `backward` or `both`, with the split of the folders.

    A scene is a pair, in both directions.
    """
    numbers = {"forward": ("0", "1"), "backward": ("1", "0")}  # of frame 1 and frame 2
    directions = one_or_both("direction", direction, tuple(numbers))
    tree = Tree(
        root,
        "train/0000000-img_0.png, train/0000000-img_1.png, train/0000000-flow_01.flo, "
        "the same in val",
    )
    splits = [split for split in ("train", "val") if split in tree.folders(root)]
    if not splits:
        raise tree.wrong_root()
    samples = []
    for split, way in product(splits, directions):
        folder, (one, other) = root / split, numbers[way]
        frame1, frame2, flow = f"-img_{one}.png", f"-img_{other}.png", f"-flow_{one}{other}.flo"
        samples += [
            Sample(
                id=f"{split}/{name}/flow_{one}{other}",
                scene=f"{split}/{name}",
                frame1=folder / f"{name}{frame1}",
                frame2=folder / f"{name}{frame2}",
                flow=folder / f"{name}{flow}",
                split=split,
            )
            for name in tree.stems(folder, frame1) | tree.stems(folder, flow)
        ]
    return tree.complete(samples)


UNUSED_LIST = (
    "all_unused_files.txt"  # frames that the authors of FlyingThings3D advise to leave out
)

_THINGS_FIRST = (
    "frames_{name}pass/TRAIN/A/0000/left/0006.png, "
    "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm (the subset: "
    "train/image_{name}/left/0000000.png, train/flow/left/into_future/0000000.flo)"
)
_THINGS_SPLITS = {"TRAIN": "train", "TEST": "val"}
_UNUSED_LINE = re.compile(r"((?:TRAIN|TEST)/[A-Z]/[0-9]+)/(?:left|right)/([0-9]+)\.[a-z]+")

# Of one direction: the folder, how the names of flow files begin, the step to frame 2.
_Way = tuple[str, str, int]
_WAYS: dict[str, _Way] = {
    "forward": ("into_future", "OpticalFlowIntoFuture_", 1),
    "backward": ("into_past", "OpticalFlowIntoPast_", -1),
}
_Choice = tuple[str, str, _Way]  # one rendering of one camera, in one direction


def flyingthings3d(root: Path, *, render_pass: str, camera: str, direction: str) -> list[Sample]:
    """FlyingThings3D pairs, whole or subset as the folders tell; TRAIN is train, TEST is val.

    All passes, cameras and directions of a scene share its name.

    Args:
        render_pass: `clean`, `final` or `both`.
        camera: `left`, `right` or `both`.
        direction: `forward`, `backward` or `both`.
    """
    passes = one_or_both("render_pass", render_pass, ("clean", "final"))
    cameras = one_or_both("camera", camera, ("left", "right"))
    directions = one_or_both("direction", direction, tuple(_WAYS))
    choices = [(name, side, _WAYS[way]) for name, side, way in product(passes, cameras, directions)]
    tree = Tree(root, _THINGS_FIRST.format(name=passes[0]))
    if any((root / split / f"image_{passes[0]}").is_dir() for split in ("train", "val")):
        return tree.complete(_things_subset(tree, choices))
    tree.require(root / "optical_flow", *(root / f"frames_{name}pass" for name in passes))
    return tree.complete(_things(tree, choices))


def _things(tree: Tree, choices: list[_Choice]) -> Iterator[Sample]:
    splits = [name for name in _THINGS_SPLITS if name in tree.folders(tree.root / "optical_flow")]
    unused = _unused_frames(tree.root)
    tops = {f"frames_{render_pass}pass" for render_pass, *_ in choices} | {"optical_flow"}
    for name in splits:
        scenes = {  # of which there are frames or flow: TRAIN/A/0000
            f"{name}/{letter}/{scene}"
            for top in tops
            for letter in tree.folders(tree.root / top / name)
            for scene in tree.folders(tree.root / top / name / letter)
        }
        for scene, choice in product(scenes, choices):
            for sample in _things_scene(tree, scene, choice, unused):
                # With flow for one of them alone, scenes are split: an empty side is of no use.
                yield sample._replace(split=_THINGS_SPLITS[name] if len(splits) > 1 else None)


def _things_scene(
    tree: Tree, scene: str, choice: _Choice, unused: set[tuple[str, int]]
) -> Iterator[Sample]:
    render_pass, camera, (into, flow_name, step) = choice
    frames = tree.root / f"frames_{render_pass}pass" / scene / camera
    flows = tree.root / "optical_flow" / scene / into / camera
    _refuse_webp(tree, frames)
    names = [f"{flow_name}{{}}_{camera[0].upper()}{end}" for end in (".pfm", ".flo")]
    name = next((name for name in names if tree.numbers(flows, name)), names[0])  # .flo: half size
    for sample in sequence(tree, frames, "{}.png", flows, name, step=step, edge_flows=True):
        number = int(sample.id)
        if (scene, number) not in unused and (scene, number + step) not in unused:
            yield sample._replace(
                id=f"{scene}/{render_pass}/{camera}/{into}/{sample.id}", scene=scene
            )


def _things_subset(tree: Tree, choices: list[_Choice]) -> Iterator[Sample]:
    for split in ("train", "val"):
        folder = tree.root / split
        pairs = {camera: _subset_pairs(tree, folder / "flow" / camera) for _, camera, _ in choices}
        scenes: dict[int, str] = {}  # first frame of a pair -> name of its unbroken run of pairs
        for number in sorted(set[int]().union(*pairs.values())):
            scenes[number] = scenes.get(number - 1, f"{split}/{number:07d}")
        for render_pass, camera, (into, _, step) in choices:
            frames = folder / f"image_{render_pass}" / camera
            _refuse_webp(tree, frames)
            for earlier in pairs[camera]:
                number = earlier if step > 0 else earlier + 1
                yield Sample(
                    id=f"{split}/{render_pass}/{camera}/{into}/{number:07d}",
                    scene=scenes[earlier],
                    frame1=frames / f"{number:07d}.png",
                    frame2=frames / f"{number + step:07d}.png",
                    flow=folder / "flow" / camera / into / f"{number:07d}.flo",
                    split=split,
                )


def _subset_pairs(tree: Tree, flows: Path) -> set[int]:
    """Numbers n with flow from n to n + 1 and back.

    Frames are numbered through all scenes, so that n and n + 1 need not be of one scene. Where they
    are not, or where the authors left out one of them, at least one of the two flows is absent.
    """
    future, past = (tree.numbers(flows / into, "{}.flo") for into, _, _ in _WAYS.values())
    return {number for number in future if number + 1 in past}


def _refuse_webp(tree: Tree, folder: Path) -> None:
    if tree.names(folder, ".webp") and not tree.names(folder, ".png"):
        raise DataError(f"Frames must be PNG, a download of its own. Received WebP: {folder}.")


def _unused_frames(root: Path) -> set[tuple[str, int]]:
    """Scene and number of the frames to leave out, of either camera."""
    paths = (root / UNUSED_LIST, root / "frames_cleanpass" / UNUSED_LIST)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return set()
    unused = set()
    for count, line in enumerate(read_bytes(path).decode(errors="replace").splitlines(), 1):
        match = _UNUSED_LINE.fullmatch(line.strip())
        if match:
            unused.add((match[1], int(match[2])))
        elif line.strip():
            raise DataError(
                f"Expected lines like TRAIN/A/0004/left/0010.png in {path}. "
                f"Received, in line {count}: {line.strip()[:80]}."
            )
    return unused


def sintel(root: Path, *, render_pass: str) -> list[Sample]:
    """MPI-Sintel training pairs of the pass `clean`, `final` or `both`.

    The ids of `both` begin with the pass; the two pairs of one flow share a scene.
    """
    passes = one_or_both("render_pass", render_pass, ("clean", "final"))
    training = root / "training"
    tree = Tree(
        root, f"training/{passes[0]}/alley_1/frame_0001.png, training/flow/alley_1/frame_0001.flo"
    )
    tree.require(*(training / name for name in passes))
    scenes = {scene for name in (*passes, "flow") for scene in tree.folders(training / name)}
    samples = []
    for name, scene in product(passes, scenes):
        frames, flows = training / name / scene, training / "flow" / scene
        for sample in sequence(tree, frames, "frame_{}.png", flows, "frame_{}.flo"):
            frame = f"{scene}/frame_{sample.id}"
            masks = [training / folder / f"{frame}.png" for folder in ("invalid", "occlusions")]
            invalid, occlusion = (mask if tree.has(mask) else None for mask in masks)
            samples.append(
                sample._replace(
                    id=f"{name}/{frame}" if len(passes) > 1 else frame,
                    scene=scene,
                    invalid=invalid,
                    occlusion=occlusion,
                )
            )
    return tree.complete(samples)


def sintel_test(root: Path) -> list[Sample]:
    """MPI-Sintel's test pairs of both passes; ids begin with the pass, as in `sintel`."""
    tree = Tree(root, "test/clean/ambush_1/frame_0001.png")
    passes = [root / "test" / name for name in ("clean", "final")]
    tree.require(*passes)
    return tree.complete(
        sample._replace(id=f"{folder.name}/{scene}/frame_{sample.id}", scene=scene)
        for folder in passes
        for scene in tree.folders(folder)
        for sample in sequence(tree, folder / scene, "frame_{}.png")
    )


_SPRING_STEPS = {"forward": ("FW", 1), "backward": ("BW", -1)}


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
    train = root / "train"
    tree.require(train)
    samples = []
    for scene, side, way in product(tree.folders(train), cameras, directions):
        letters, step = _SPRING_STEPS[way]
        frame, flow = f"frame_{side}", f"flow_{letters}_{side}"
        samples += [
            sample._replace(id=f"{scene}/{flow}/{sample.id}", scene=scene, flow_stride=2)
            for sample in sequence(
                tree,
                train / scene / frame,
                f"{frame}_{{}}.png",
                train / scene / flow,
                f"{flow}_{{}}.flo5",
                step=step,
            )
        ]
    return tree.complete(samples)


def spring_test(root: Path) -> list[Sample]:
    """Spring's test pairs of both cameras, forward and backward; ids as in `spring`."""
    tree = Tree(root, "test/0003/frame_left/frame_left_0001.png")
    tree.require(root / "test")
    return tree.complete(
        sample._replace(id=f"{scene}/flow_{letters}_{camera}/{sample.id}", scene=scene)
        for scene in tree.folders(root / "test")
        for camera in ("left", "right")
        for letters, step in _SPRING_STEPS.values()
        for sample in sequence(
            tree,
            root / "test" / scene / f"frame_{camera}",
            f"frame_{camera}_{{}}.png",
            step=step,
        )
    )


KITTI_2012_FRAMES = ("colored_0", "image_0")  # 2015 has image_2


def kitti(root: Path, *, truth: str) -> list[Sample]:
    """KITTI 2012 or 2015 training pairs with the ground truth `noc` or `occ`; a scene is a pair."""
    one_of("truth", truth, ("noc", "occ"))
    training = root / "training"
    frames, flows = training / kitti_frames(training), training / f"flow_{truth}"
    first = f"training/image_2/000000_10.png (2012: colored_0), training/flow_{truth}/000000_10.png"
    tree = Tree(root, first)
    tree.require(frames)

    def beside(folder: str, pair: str) -> Path | None:
        path = training / folder / f"{pair}_10.png"
        return path if tree.has(path) else None

    return tree.complete(
        _kitti_pair(frames, pair)._replace(
            flow=flows / f"{pair}_10.png",
            visible=beside("flow_noc", pair) if truth == "occ" else None,
            objects=beside("obj_map", pair),
        )
        for pair in tree.stems(frames, "_10.png") | tree.stems(flows, "_10.png")
    )


def kitti_test(root: Path) -> list[Sample]:
    """KITTI 2012's or 2015's test pairs; ids as in `kitti`."""
    frames = root / "testing" / kitti_frames(root / "testing")
    tree = Tree(root, "testing/image_2/000000_10.png (2012: colored_0)")
    tree.require(frames)
    return tree.complete(_kitti_pair(frames, pair) for pair in tree.stems(frames, "_10.png"))


def kitti_frames(split: Path) -> str:
    """The folder of frames in training/ or testing/: 2012, colour or grey, or 2015."""
    colour, grey = KITTI_2012_FRAMES
    names = (colour, "image_2", grey)
    return next((name for name in names if (split / name).is_dir()), "image_2")


def _kitti_pair(frames: Path, pair: str) -> Sample:
    name = f"{pair}_10"
    return Sample(name, name, frames / f"{name}.png", frames / f"{pair}_11.png", flow=None)


def hd1k(root: Path) -> list[Sample]:
    """HD1K pairs of consecutive frames; a scene is a sequence."""
    frames, flows = root / "hd1k_input" / "image_2", root / "hd1k_flow_gt" / "flow_occ"
    tree = Tree(root, "hd1k_input/image_2/000000_0010.png, hd1k_flow_gt/flow_occ/000000_0010.png")
    tree.require(frames)
    names = tree.stems(frames, ".png") | tree.stems(flows, ".png")
    return tree.complete(
        sample._replace(id=f"{scene}_{sample.id}", scene=scene)
        for scene in {name.partition("_")[0] for name in names}
        for sample in sequence(
            tree, frames, f"{scene}_{{}}.png", flows, f"{scene}_{{}}.png", edge_flows=True
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
    """TartanAir pairs of the left camera, the only one with flow; a scene is an environment.

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
    samples = []
    for environment, place in flights:
        frames, flows = root / place / "image_left", root / place / "flow"
        pairs = (pair.partition("_")[0] for pair in tree.stems(flows, "_flow.npy"))
        known = {int(number) for number in pairs if number.isdecimal()}
        numbers = tree.numbers(frames, "{}_left.png") | known | {number + 1 for number in known}
        samples += [
            Sample(
                id=f"{place}/{number:06d}",
                scene=environment,
                frame1=frames / f"{number:06d}_left.png",
                frame2=frames / f"{number + 1:06d}_left.png",
                flow=flows / f"{number:06d}_{number + 1:06d}_flow.npy",
                invalid=flows / f"{number:06d}_{number + 1:06d}_mask.npy",
            )
            for number in sorted(numbers)[:-1]
        ]
    return tree.complete(samples)
