"""The videos that are made of all pairs together: the flow, and the flow beside the frame.

Letters: H height, W width.
"""

from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pwc_exp.commands.prediction import Output
from pwc_exp.errors import ConfigError
from pwc_exp.prediction.clips import ClipWriter
from pwc_exp.prediction.drawing import coloured, side_by_side
from pwc_exp.prediction.results import VIDEOS


class Films:
    """Videos that appear when `finish` is called; without it, nothing is left of them.

    Args:
        out: their folder.
        outputs: which of them, among other outputs.
        title: what their names begin with.
        frame_rate: pictures per second.
        wheel: whether pictures get a colour wheel.
        replaced: files that must not be replaced, resolved.
    """

    def __init__(
        self,
        out: Path,
        outputs: Sequence[Output],
        *,
        title: str,
        frame_rate: Fraction,
        wheel: bool,
        replaced: Collection[Path],
    ) -> None:
        self.paths: list[Path] = []
        self._wheel = wheel
        self._writers = {
            kind: ClipWriter(out / f"{title}{tail}", frame_rate=frame_rate)
            for kind, tail in VIDEOS.items()
            if kind in outputs
        }
        for writer in self._writers.values():
            if writer.path.resolve() in replaced:
                raise ConfigError(f"out: {writer.path} is the input; choose another folder")

    @property
    def wanted(self) -> bool:
        """Whether any video is to be made."""
        return bool(self._writers)

    def add(self, frame: np.ndarray, flow: np.ndarray, *, max_speed: float) -> None:
        """Appends a frame, [H, W, 3] RGB in [0, 1], and its flow, [H, W, 2] in pixels."""
        picture = coloured(flow, max_speed=max_speed, wheel=self._wheel)
        for kind, writer in self._writers.items():
            writer.add(side_by_side(frame, picture) if kind is Output.side_by_side else picture)

    def add_gap(self) -> None:
        """Appends black, where a pair has no flow: what follows stays in time."""
        for writer in self._writers.values():
            if writer.size is not None:
                writer.add(np.zeros((*writer.size, 3), np.uint8))

    def finish(self) -> None:
        """Completes the videos; one without a picture is not written."""
        self.paths = [writer.path for writer in self._writers.values() if writer.finish()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.discard()
