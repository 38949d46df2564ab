"""FlyingThings3D: the whole data set, its copy at half the size, and the authors' subset."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pwc_exp.data.datasets.layout import Tree, one_or_both, pair_starts
from pwc_exp.data.formats.headers import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError

UNUSED_LIST = "all_unused_files.txt"

_FIRST = (
    "frames_{name}pass/TRAIN/A/0000/left/0006.png, "
    "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm (the subset: "
    "train/image_{name}/left/0000000.png, train/flow/left/into_future/0000000.flo)"
)
_SPLITS = {"TRAIN": "train", "TEST": "val"}
_UNUSED_LINE = re.compile(r"((?:TRAIN|TEST)/[A-Z]/[0-9]+)/(?:left|right)/([0-9]+)\.[a-z]+")


class _Direction(NamedTuple):
    folder: str
    flow: str  # how the names of the flow files begin
    step: int  # from frame 1 to frame 2


_DIRECTIONS = {
    "forward": _Direction("into_future", "OpticalFlowIntoFuture_", 1),
    "backward": _Direction("into_past", "OpticalFlowIntoPast_", -1),
}


class _Choice(NamedTuple):
    """One rendering of one camera, in one direction."""

    render_pass: str
    camera: str
    direction: _Direction


def flyingthings3d(root: Path, *, render_pass: str, camera: str, direction: str) -> list[Sample]:
    """FlyingThings3D pairs, whole or subset as the folders tell; TRAIN is train, TEST is val.

    Args:
        render_pass: `clean`, `final` or `both`.
        camera: `left`, `right` or `both`.
        direction: `forward`, `backward` or `both`.

    All passes, cameras and directions of a scene share its name.
    """
    passes = one_or_both("render_pass", render_pass, ("clean", "final"))
    cameras = one_or_both("camera", camera, ("left", "right"))
    directions = one_or_both("direction", direction, tuple(_DIRECTIONS))
    choices = [
        _Choice(name, side, _DIRECTIONS[way])
        for name in passes
        for side in cameras
        for way in directions
    ]
    tree = Tree(root, _FIRST.format(name=passes[0]))
    if any((root / split / f"image_{passes[0]}").is_dir() for split in ("train", "val")):
        return tree.complete(_subset(tree, choices))
    for name in passes:
        tree.require(root / f"frames_{name}pass")
    tree.require(root / "optical_flow")
    return tree.complete(_whole(tree, choices))


def _whole(tree: Tree, choices: list[_Choice]) -> Iterator[Sample]:
    flow_splits = [name for name in _SPLITS if name in tree.folders(tree.root / "optical_flow")]
    unused = _unused_frames(tree.root)
    tops = [*{f"frames_{choice.render_pass}pass" for choice in choices}, "optical_flow"]
    for name in flow_splits:
        # With flow for one of them alone, scenes are split: a side without pairs is of no use.
        split = _SPLITS[name] if len(flow_splits) > 1 else None
        for place in _scenes(tree, tops, name):
            for choice in choices:
                yield from _scene(tree, place, choice, unused, split)


def _scenes(tree: Tree, tops: list[str], split: str) -> set[str]:
    """Scenes of which there are frames or flow: TRAIN/A/0000."""
    return {
        f"{split}/{letter}/{scene}"
        for top in tops
        for letter in tree.folders(tree.root / top / split)
        for scene in tree.folders(tree.root / top / split / letter)
    }


def _scene(
    tree: Tree, place: str, choice: _Choice, unused: set[tuple[str, int]], split: str | None
) -> Iterator[Sample]:
    render_pass, camera, (into, flow_name, step) = choice
    frames = tree.root / f"frames_{render_pass}pass" / place / camera
    flows = tree.root / "optical_flow" / place / into / camera
    endings = [f"_{camera[0].upper()}{suffix}" for suffix in (".pfm", ".flo")]  # half size: .flo
    ending = next((e for e in endings if tree.numbers(flows, flow_name, e)), endings[0])
    _refuse_webp(tree, frames)
    starts = pair_starts(
        tree.numbers(frames, "", ".png"),
        tree.numbers(flows, flow_name, ending),
        step=step,
        edge_flows=True,
    )
    for number in starts:
        if (place, number) in unused or (place, number + step) in unused:
            continue
        yield Sample(
            id=f"{place}/{render_pass}/{camera}/{into}/{number:04d}",
            scene=place,
            frame1=frames / f"{number:04d}.png",
            frame2=frames / f"{number + step:04d}.png",
            flow=flows / f"{flow_name}{number:04d}{ending}",
            split=split,
        )


def _subset(tree: Tree, choices: list[_Choice]) -> Iterator[Sample]:
    for split in ("train", "val"):
        folder = tree.root / split
        pairs = {
            camera: _subset_pairs(tree, folder / "flow" / camera)
            for camera in {choice.camera for choice in choices}
        }
        scenes = _runs(split, set[int]().union(*pairs.values()))
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
    future, past = (tree.numbers(flows / d.folder, "", ".flo") for d in _DIRECTIONS.values())
    return {number for number in future if number + 1 in past}


def _runs(split: str, pairs: Iterable[int]) -> dict[int, str]:
    """Number of a pair -> name of its unbroken run of pairs."""
    names: dict[int, str] = {}
    for number in sorted(pairs):
        names[number] = names.get(number - 1, f"{split}/{number:07d}")
    return names


def _refuse_webp(tree: Tree, folder: Path) -> None:
    if tree.names(folder, ".webp") and not tree.names(folder, ".png"):
        raise DataError(f"Frames must be PNG, a download of its own. Received WebP: {folder}.")


def _unused_frames(root: Path) -> set[tuple[str, int]]:
    """Scene and number of the frames that the authors advise to leave out, of either camera."""
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
