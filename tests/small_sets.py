"""Small data sets in the layouts of FlyingChairs and FlyingThings3DHalfRes, of generated scenes."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo
from pwc_exp.data.sample import Example
from pwc_exp.data.scenes.synthetic import SyntheticSource

SIZE = (64, 96)


def scenes(count: int) -> list[Example]:
    source = SyntheticSource(
        seed=7,
        size=count,
        frame_size=SIZE,
        layers=2,
        concave=0.0,
        thin=0.0,
        edge=1.0,
        tint=0.0,
        textures=None,
        speed_shares=[0.5, 0.4, 0.1],
        speed_bounds=[0.01, 0.04, 0.1],
        coherence=0.0,
        max_rotation=3.0,
        max_zoom=0.05,
        max_shear=0.0,
        max_perspective=0.0,
        bending=0.0,
        max_strain=0.0,
        film_share=0.0,
        fog=0.0,
        shutter=0.0,
        defocus=0.0,
        noise=0.0,
        flicker=0.0,
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
