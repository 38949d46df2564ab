"""Frames and videos of one grey level each."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pwc_exp.data.formats.images import write_image

HEIGHT, WIDTH = 30, 46
RATE = Fraction(30000, 1001)


def grey(path: Path, level: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A frame of one grey level; the flow of two is the difference of their levels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((*size, 3), level, np.uint8))
    return path


def write_video(path: Path, levels: list[int]) -> Path:
    """A video of grey frames, 34 x 62."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if path.suffix == ".mp4" else "ffv1", rate=RATE)
        stream.width, stream.height = 62, 34
        stream.pix_fmt = "yuv420p" if path.suffix == ".mp4" else "bgr0"
        for level in levels:
            pixels = np.full((34, 62, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def about(path: Path) -> tuple[int, Fraction | None]:
    """How many frames a video has, and how many per second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.frames, stream.average_rate
