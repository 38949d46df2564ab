"""Small data sets in the layouts of those that presets train on, of generated scenes."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.build import build_kind
from pwc_exp.config.data import SceneConfig
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_kitti_png
from pwc_exp.data.sample import Example
from pwc_exp.data.synthetic import SyntheticSource

SIZE = (64, 96)


def scenes(count: int) -> list[Example]:
    settings = SceneConfig(
        layers=2,
        concave=0.0,
        thin=0.0,
        edge=1.0,
        tint=0.0,
        speed_shares=[0.5, 0.4, 0.1],
        speed_bounds=[0.01, 0.04, 0.1],
        coherence=0.0,
        max_rotation=3.0,
        max_zoom=0.05,
        max_shear=0.0,
        max_perspective=0.0,
        bending=0.0,
        film_share=0.0,
    )
    source = SyntheticSource(
        seed=7,
        size=count,
        frame_size=SIZE,
        textures=None,
        kinds={"all": (build_kind(settings), 1.0)},
        occluded=True,
    )
    return list(tf.data.Dataset.range(count).map(source.example))


def pixels(frame: tf.Tensor) -> np.ndarray:
    array: np.ndarray = (frame.numpy() * 255).round().astype(np.uint8)
    return array


def write_chairs(root: Path, count: int) -> Path:
    """PPM and .flo; the last pair is val."""
    data = root / "data"
    data.mkdir(parents=True)
    for number, scene in enumerate(scenes(count), start=1):
        for name, frame in (("img1", scene.frame1), ("img2", scene.frame2)):
            head = f"P6\n{SIZE[1]} {SIZE[0]}\n255\n".encode()
            (data / f"{number:05d}_{name}.ppm").write_bytes(head + pixels(frame).tobytes())
        write_flo(data / f"{number:05d}_flow.flo", scene.flow.numpy())
    codes = ["1"] * (count - 1) + ["2"]
    (root / "FlyingChairs_train_val.txt").write_text("\n".join(codes))
    return root


def write_things_halfres(root: Path, count: int) -> Path:
    """`count` scenes of two frames in TRAIN, and one in TEST."""
    for number, scene in enumerate(scenes(count + 1)):
        place = f"{'TEST' if number == count else 'TRAIN'}/A/{number:04d}"
        for frame_number, frame in ((6, scene.frame1), (7, scene.frame2)):
            path = root / f"frames_cleanpass/{place}/left/{frame_number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, pixels(frame))
        flow = root / f"optical_flow/{place}/into_future/left/OpticalFlowIntoFuture_0006_L.flo"
        flow.parent.mkdir(parents=True)
        write_flo(flow, scene.flow.numpy())
    return root


def write_sintel(root: Path, count: int) -> Path:
    """`count` scenes of two frames, the same in both passes."""
    for number, scene in enumerate(scenes(count)):
        for frame_number, frame in enumerate((scene.frame1, scene.frame2), start=1):
            for render_pass in ("clean", "final"):
                place = root / f"training/{render_pass}/scene_{number}"
                place.mkdir(parents=True, exist_ok=True)
                write_image(place / f"frame_{frame_number:04d}.png", pixels(frame))
        flow = root / f"training/flow/scene_{number}/frame_0001.flo"
        flow.parent.mkdir(parents=True)
        write_flo(flow, scene.flow.numpy())
    return root


def write_kitti(root: Path, count: int) -> Path:
    """Truth at every other pixel."""
    folders = {name: root / f"training/{name}" for name in ("image_2", "flow_occ", "flow_noc")}
    _write_sparse(folders.pop("image_2"), list(folders.values()), count, "{:06d}_{}.png", (10, 11))
    return root


def write_hd1k(root: Path, count: int) -> Path:
    """Sequences of two frames; truth at every other pixel."""
    frames, flow = root / "hd1k_input/image_2", root / "hd1k_flow_gt/flow_occ"
    _write_sparse(frames, [flow], count, "{:06d}_{:04d}.png", (10, 11))
    return root


def _write_sparse(
    frames: Path, flows: list[Path], count: int, name: str, numbers: tuple[int, int]
) -> None:
    for folder in (frames, *flows):
        folder.mkdir(parents=True)
    valid = np.indices(SIZE).sum(0) % 2
    for index, scene in enumerate(scenes(count)):
        for number, frame in zip(numbers, (scene.frame1, scene.frame2), strict=True):
            write_image(frames / name.format(index, number), pixels(frame))
        for folder in flows:
            write_kitti_png(folder / name.format(index, numbers[0]), scene.flow.numpy(), valid)
