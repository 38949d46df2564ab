"""Test splits of a few frames, and estimates for them in the layouts of the benchmarks."""

from pathlib import Path

import numpy as np

from pwc_exp.prediction.outputs import WRITERS

HEIGHT, WIDTH = 32, 48
FRAMES = {
    "sintel": [
        f"test/{name}/{scene}/frame_{number:04d}.png"
        for name in ("clean", "final")
        for scene in ("PERTURBED_shaman_1", "wall")
        for number in (1, 2, 3)
    ],
    "kitti2012": [f"testing/colored_0/00000{n}_1{k}.png" for n in (0, 1) for k in (0, 1)],
    "kitti2015": [f"testing/image_2/00000{n}_1{k}.png" for n in (0, 1) for k in (0, 1)],
    "spring": [
        f"test/0003/frame_{side}/frame_{side}_{number:04d}.png"
        for side in ("left", "right")
        for number in (1, 2)
    ],
}
# As the instructions of each benchmark ask; of the test trees above.
LAYOUTS = {
    "sintel": [
        f"{name}/{scene}/frame_{number:04d}.flo"
        for name in ("clean", "final")
        for scene in ("PERTURBED_shaman_1", "wall")
        for number in (1, 2)
    ],
    "kitti2012": ["000000_10.png", "000001_10.png"],
    "kitti2015": ["flow/000000_10.png", "flow/000001_10.png"],
    "spring": [
        "0003/flow_BW_left/flow_BW_left_0002.flo5",
        "0003/flow_BW_right/flow_BW_right_0002.flo5",
        "0003/flow_FW_left/flow_FW_left_0001.flo5",
        "0003/flow_FW_right/flow_FW_right_0001.flo5",
    ],
}


def flow_of(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 2), (number + 0.5, -0.25), np.float32)


def write_bundle(folder: Path, name: str) -> Path:
    """Estimates in the layout of a benchmark, each with a flow of its own."""
    for number, file in enumerate(LAYOUTS[name]):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](path, flow_of(number))
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
