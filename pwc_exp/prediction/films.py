"""The videos that are made of all pairs together: the flow, and the flow beside the frame.

Letters: H height, W width.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from pwc_exp.config.commands import Output
from pwc_exp.errors import ConfigError
from pwc_exp.prediction.clips import ClipWriter
from pwc_exp.prediction.drawing import coloured, side_by_side
from pwc_exp.prediction.records import intact, read_record, same, write_record
from pwc_exp.prediction.results import VIDEOS


class Films:
    """Videos that appear when `finish` is called; without it, nothing is left of them.

    One that is there, intact and made as it would be now, is not made again.

    Args:
        out: their folder.
        outputs: which of them, among other outputs.
        title: what their names begin with.
        frame_rate: pictures per second.
        wheel: whether pictures get a colour wheel.
        replaced: files that must not be replaced, resolved.
        origin: what decides their content: weights, settings, frames.
        overwrite: make them again in any case.
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
        origin: Mapping[str, Any],
        overwrite: bool,
    ) -> None:
        self.paths: list[Path] = []
        self._wheel = wheel
        self._origin = {"frame_rate": str(frame_rate), **origin}
        self._writers: dict[Output, ClipWriter] = {}
        for kind, path in ((kind, out / f"{title}{VIDEOS[kind]}") for kind in VIDEOS):
            if kind not in outputs or (not overwrite and self._is_there(kind, path)):
                continue
            if path.resolve() in replaced:
                raise ConfigError(f"out: {path} is the input; choose another folder")
            self._writers[kind] = ClipWriter(path, frame_rate=frame_rate)

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

    def finish(self, *, gaps: bool, max_speed: float | None) -> None:
        """Completes the videos; one without a picture is not written.

        Args:
            gaps: some pairs have no flow; so there is no record, and the videos are made again.
            max_speed: the speed of full colour, in pixels.
        """
        for kind, writer in self._writers.items():
            if not writer.finish():
                continue
            self.paths.append(writer.path)
            if not gaps:
                content = {"max_speed": max_speed, **self._origin}
                write_record(_record(writer.path), content, {kind.value: writer.path})

    def _is_there(self, kind: Output, path: Path) -> bool:
        record = read_record(_record(path))
        same_rate = record.get("frame_rate") == self._origin["frame_rate"]
        return same_rate and same(record, self._origin) and intact(record, path.parent, {kind})

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


def _record(path: Path) -> Path:
    return path.with_suffix(".json")
