"""Videos, read and written with PyAV, a binding of FFmpeg.

Letters: H height, W width.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pwc_exp import storage
from pwc_exp.errors import DataError

# In the order of preference. H.264 plays everywhere; FFmpeg may have been built without x264.
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_QUALITY = {"libx264": {"crf": "18", "preset": "medium"}}
_BITS_PER_PIXEL = 0.25  # for the other encoders, which have no constant quality


def read_header(path: Path) -> tuple[int | None, Fraction | None]:
    """How many frames a video has, and how many per second, by its header, which may be wrong."""
    with _opened(path, str(path)) as (_, stream):
        return stream.frames or None, stream.average_rate


def read_video(source: Path | BinaryIO, title: str) -> Iterator[np.ndarray]:
    """The frames of a video in the order in which they are shown, [H, W, 3] uint8 RGB.

    Pixels are taken as they are stored: a rotation that the file asks for is not applied.

    Raises:
        DataError: it is not a video, or damaged from some frame on, after the frames before it.
    """
    with _opened(source, title) as (container, stream):
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


def sample_video(path: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of consecutive frames at `count` places spread over a video."""
    for number in range(count):
        with _opened(path, str(path)) as (container, stream):
            length = int((stream.duration or 0) * number / count)
            container.seek((stream.start_time or 0) + length, stream=stream)
            frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))
            first, second = next(frames, None), next(frames, None)
            if first is not None and second is not None:
                yield first, second


class VideoWriter:
    """An MP4 that appears under its name, and replaces what is there, when it is complete."""

    def __init__(self, path: Path, *, frame_rate: Fraction) -> None:
        self.path = path
        self.size: tuple[int, int] | None = None  # (height, width), that of the first picture
        self._frame_rate = frame_rate
        self._temporary = path.with_name(f".tmp-{path.name}.{secrets.token_hex(4)}")
        self._container: Any = None
        self._stream: Any = None

    def add(self, picture: np.ndarray) -> None:
        """Appends a picture, [H, W, 3] uint8 RGB; odd sizes get their last row or column twice."""
        import av

        if self.size is None:
            self._begin(*picture.shape[:2])
        if picture.shape[:2] != self.size:
            raise DataError(
                f"{self.path}: pictures of a video must be of one size, (height, width) "
                f"{self.size}. Received: {picture.shape[:2]}"
            )
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> bool:
        """Completes the file; false if nothing was added, and there is none."""
        if self._container is None:
            return False
        self._container.mux(self._stream.encode(None))
        self._container.close()
        storage.sync_file(self._temporary)
        storage.rename(self._temporary, self.path)
        return True

    def discard(self) -> None:
        """Removes what was written, unless it is complete."""
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _begin(self, height: int, width: int) -> None:
        import av

        storage.make_folder(self.path.parent)
        self.size = (height, width)
        self._container = av.open(str(self._temporary), "w", format="mp4")
        encoder = next(name for name in _ENCODERS if name in av.codecs_available)
        self._stream = self._container.add_stream(encoder, rate=self._frame_rate)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _QUALITY.get(encoder, {})
        if encoder not in _QUALITY:
            self._stream.bit_rate = int(_BITS_PER_PIXEL * height * width * self._frame_rate)


@contextmanager
def _opened(source: Path | BinaryIO, title: str) -> Iterator[tuple[Any, Any]]:
    """Gives the container and its first video stream; FFmpeg's complaints become one line."""
    import av.error

    try:
        with av.open(str(source) if isinstance(source, Path) else source) as container:
            if not container.streams.video:
                raise DataError(f"{title}: not a video, it has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{title}: not a video that can be decoded; {reason}") from error
