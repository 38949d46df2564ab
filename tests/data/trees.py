"""Layouts of the data sets as trees of empty files, and what the indexes must find in them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pwc_exp.data.datasets import benchmarks as datasets
from pwc_exp.data.sample import Sample


@dataclass(frozen=True)
class Tree:
    """The files of a small data set, and facts about its index."""

    files: list[str]
    index: Callable[[Path], list[Sample]]
    a_file: str  # of exactly one pair
    count: int
    first: str  # id
    last: str


def chairs2_files() -> list[str]:
    return [
        f"{split}/000000{number}-{part}"
        for split, numbers in (("train", (0, 2)), ("val", (1,)))
        for number in numbers
        for part in ("img_0.png", "img_1.png", "flow_01.flo", "flow_10.flo", "occ_01.png")
    ]


def things_files(suffix: str = ".pfm", splits: tuple[str, ...] = ("TRAIN", "TEST")) -> list[str]:
    """Two scenes of three frames each; the first and last have flow out of the scene, too."""
    places = [f"{split}/{place}" for split in splits for place in ("A/0000", "B/0001")]
    cameras = (("left", "L"), ("right", "R"))
    numbers = ("0006", "0007", "0008")
    frames = [
        f"frames_{name}pass/{place}/{camera}/{number}.png"
        for name in ("clean", "final")
        for place in places
        for camera, _ in cameras
        for number in numbers
    ]
    flows = [
        f"optical_flow/{place}/into_{way.lower()}/{camera}/OpticalFlowInto{way}_{number}_{letter}"
        for place in places
        for camera, letter in cameras
        for way in ("Future", "Past")
        for number in numbers
    ]
    return frames + [flow + suffix for flow in flows]


def subset_files() -> list[str]:
    """Scenes of frames 0-2, 3-4 (no gap before), 6-7 (5 was left out); in val, 0-1."""
    scenes = [("train", (0, 1, 2)), ("train", (3, 4)), ("train", (6, 7)), ("val", (0, 1))]
    files = []
    for split, numbers in scenes:
        for camera in ("left", "right"):
            flow = f"{split}/flow/{camera}"
            files += [
                f"{split}/image_{name}/{camera}/{number:07d}.png"
                for name in ("clean", "final")
                for number in numbers
            ]
            files += [f"{flow}/into_future/{number:07d}.flo" for number in numbers[:-1]]
            files += [f"{flow}/into_past/{number:07d}.flo" for number in numbers[1:]]
    # Frame 7 leads to a frame that was left out.
    return [*files, "train/flow/left/into_future/0000007.flo"]


def spring_files() -> list[str]:
    return [
        name
        for scene, numbers in (("0002", (1, 2, 3)), ("0010", (1, 2)))
        for camera in ("left", "right")
        for name in (
            *(f"train/{scene}/frame_{camera}/frame_{camera}_{n:04d}.png" for n in numbers),
            *(
                f"train/{scene}/flow_FW_{camera}/flow_FW_{camera}_{n:04d}.flo5"
                for n in numbers[:-1]
            ),
            *(f"train/{scene}/flow_BW_{camera}/flow_BW_{camera}_{n:04d}.flo5" for n in numbers[1:]),
        )
    ] + ["test/0003/frame_left/frame_left_0001.png"]


def tartanair_files() -> list[str]:
    return [
        f"{place}/{name}"
        for place in ("ocean/Hard/P000", "ocean/Easy/P001", "abandonedfactory/Easy/P000")
        for name in (
            *(f"image_left/00000{number}_left.png" for number in range(3)),
            *(f"image_right/00000{number}_right.png" for number in range(3)),
            *(
                f"flow/00000{n}_00000{n + 1}_{part}.npy"
                for n in (0, 1)
                for part in ("flow", "mask")
            ),
            "pose_left.txt",
        )
    ]


def things(
    render_pass: str = "clean", camera: str = "left", direction: str = "forward"
) -> Callable[[Path], list[Sample]]:
    return lambda root: datasets.flyingthings3d(
        root, render_pass=render_pass, camera=camera, direction=direction
    )


TREES = {
    "sintel": Tree(
        [
            *(f"training/{name}/b_1/frame_000{number}.png" for number in (3, 1, 2, 4)
              for name in ("clean", "final")),
            *(f"training/flow/b_1/frame_000{number}.flo" for number in (3, 1, 2)),
            *(f"training/{name}/a_2/frame_00{number}.png" for number in ("09", "10")
              for name in ("clean", "final")),
            "training/flow/a_2/frame_0009.flo",
            "training/invalid/a_2/frame_0009.png",
        ],
        lambda root: datasets.sintel(root, render_pass="clean"),
        "training/flow/b_1/frame_0002.flo",
        4,
        "a_2/frame_0009",
        "b_1/frame_0003",
    ),
    "kitti": Tree(
        [
            *(f"training/image_2/00000{pair}_{number}.png" for pair in (1, 0)
              for number in (10, 11, 12)),
            *(f"training/flow_{truth}/00000{pair}_10.png" for pair in (1, 0)
              for truth in ("noc", "occ")),
            "testing/image_2/000000_10.png",
            "testing/image_2/000000_11.png",
        ],
        lambda root: datasets.kitti(root, truth="noc"),
        "training/flow_noc/000001_10.png",
        2,
        "000000_10",
        "000001_10",
    ),
    "hd1k": Tree(
        [
            *(f"hd1k_{folder}/000001_00{number}.png" for number in (10, 11, 12)
              for folder in ("input/image_2", "flow_gt/flow_occ")),
            *(f"hd1k_{folder}/000000_00{number}.png" for number in (21, 22)
              for folder in ("input/image_2", "flow_gt/flow_occ")),
            "hd1k_challenge/image_2/000000_0010.png",
        ],
        datasets.hd1k,
        "hd1k_input/image_2/000001_0012.png",
        3,
        "000000_0021",
        "000001_0011",
    ),
    "flyingchairs": Tree(
        [f"data/0000{pair}_{part}" for pair in (3, 1, 2)
         for part in ("img1.ppm", "img2.ppm", "flow.flo")],
        datasets.flyingchairs,
        "data/00001_img2.ppm",
        3,
        "00001",
        "00003",
    ),
    "flyingchairs2": Tree(
        chairs2_files(),
        lambda root: datasets.flyingchairs2(root, direction="forward"),
        "train/0000002-flow_01.flo",
        3,
        "train/0000000/flow_01",
        "val/0000001/flow_01",
    ),
    "flyingthings3d": Tree(
        things_files(),
        things(),
        "frames_cleanpass/TEST/B/0001/left/0008.png",
        8,
        "TEST/A/0000/clean/left/into_future/0006",
        "TRAIN/B/0001/clean/left/into_future/0007",
    ),
    "flyingthings3d_halfres": Tree(
        things_files(".flo"),
        things(),
        "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.flo",
        8,
        "TEST/A/0000/clean/left/into_future/0006",
        "TRAIN/B/0001/clean/left/into_future/0007",
    ),
    "flyingthings3d, subset": Tree(
        subset_files(),
        things(),
        "train/image_clean/left/0000000.png",
        5,
        "train/clean/left/into_future/0000000",
        "val/clean/left/into_future/0000000",
    ),
    "middlebury": Tree(
        [
            *(f"other-data/{scene}/frame{number}.png" for scene in ("Venus", "Urban2", "Walking")
              for number in (10, 11)),
            "other-gt-flow/Venus/flow10.flo",
            "other-gt-flow/Urban2/flow10.flo",
        ],
        datasets.middlebury,
        "other-data/Urban2/frame11.png",
        2,
        "Urban2",
        "Venus",
    ),
    "spring": Tree(
        spring_files(),
        lambda root: datasets.spring(root, camera="left", direction="forward"),
        "train/0002/frame_left/frame_left_0003.png",
        3,
        "0002/flow_FW_left/0001",
        "0010/flow_FW_left/0001",
    ),
    "tartanair": Tree(
        tartanair_files(),
        datasets.tartanair,
        "abandonedfactory/Easy/P000/flow/000001_000002_mask.npy",
        6,
        "abandonedfactory/Easy/P000/000000",
        "ocean/Hard/P000/000001",
    ),
}  # fmt: skip


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
