"""The files of each pair: how they are named, written, and known to be there already.

Letters: H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pwc_exp import storage
from pwc_exp.config.commands import Direction, Output
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import (
    read_flow,
    write_flo,
    write_flo5,
    write_kitti_png,
    write_npy,
    write_pfm,
)
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.flow.consistency import confidence, occlusion
from pwc_exp.prediction.drawing import coloured, warped, with_arrows
from pwc_exp.prediction.records import COMPONENTS, intact, read_record, same, write_record
from pwc_exp.prediction.sources import Frame, Pair, Source

TAILS = {
    Output.flo: ".flo",
    Output.npy: ".npy",
    Output.kitti: ".png",
    Output.flo5: ".flo5",
    Output.pfm: ".pfm",
    Output.picture: "_flow.png",
    Output.arrows: "_arrows.png",
    Output.warped: "_warped.png",
    Output.occlusion: "_occlusion.png",
    Output.confidence: "_confidence.png",
}
VIDEOS = {Output.flow_video: "_flow.mp4", Output.side_by_side: "_side_by_side.mp4"}
SCALED = {Output.picture, Output.arrows, *VIDEOS}  # by a speed that is the same for all pairs
# They compare the flow with that of the swapped frames.
COMPARING = {Output.warped, Output.occlusion, Output.confidence}
_EXACT = (Output.flo, Output.npy, Output.flo5, Output.pfm)  # of these a flow can be read back
_RECORD = ".json"


class Estimated(NamedTuple):
    """A flow and what belongs to it."""

    pair: Pair
    direction: Direction  # forward or backward
    flow: np.ndarray  # [H, W, 2], in pixels
    opposite: np.ndarray | None  # the flow of the swapped frames, where an output needs it
    account: Mapping[str, Any]  # how the frames went through the network

    @property
    def frame(self) -> Frame:
        """The frame whose pixels the flow moves."""
        return self.pair.frame2 if self.direction is Direction.backward else self.pair.frame1

    @property
    def other(self) -> Frame:
        """The frame that the flow leads to."""
        return self.pair.frame1 if self.direction is Direction.backward else self.pair.frame2


class Results:
    """The results of pairs, below one folder.

    Args:
        out: the folder.
        outputs: kinds of results; those of all pairs together are left to others.
        direction: which flows.
        relative, absolute: of the bound of `occlusion`.
        wheel: whether pictures get a colour wheel.
        settings, weights: for the records; results made otherwise are made again.
    """

    def __init__(
        self,
        out: Path,
        outputs: Sequence[Output],
        *,
        direction: Direction,
        relative: float,
        absolute: float,
        wheel: bool,
        settings: Mapping[str, Any],
        weights: Mapping[str, Any],
    ) -> None:
        self.out = out
        self.kinds = [kind for kind in dict.fromkeys(outputs) if kind in TAILS]
        both = (Direction.forward, Direction.backward)
        self.directions = both if direction is Direction.both else (direction,)
        self.compares = not COMPARING.isdisjoint(self.kinds)
        self._bound = {"relative": relative, "absolute": absolute}
        self._wheel = wheel
        self._settings = settings
        self._weights = weights

    def check_names(self, source: Source) -> None:
        """Refuses results that would replace a frame, or each other, where names are known."""
        results: set[Path] = set()
        for name in source.names:
            for path in self._paths(name):
                if path.resolve() in source.inputs:
                    raise ConfigError(f"out: {path} is one of the frames; choose another folder")
                if path in results:
                    raise ConfigError(f"frames: two pairs would both have the result {path}")
                results.add(path)

    def done(self, pair: Pair) -> bool:
        """Whether all results of a pair are there, intact, and made as they would be now."""
        return not self.kinds or all(
            self._known(pair, direction) is not None for direction in self.directions
        )

    def stored_flow(self, pair: Pair) -> np.ndarray | None:
        """The flow of the first direction, [H, W, 2], if a file that is intact holds it exactly."""
        kind = next((kind for kind in _EXACT if kind in self.kinds), None)
        if kind is None or not self.done(pair):
            return None
        return read_flow(self._path(pair.name, self.directions[0], TAILS[kind]))[0]

    def max_speed(self, pair: Pair) -> float | None:
        """The speed of full colour that the results of a pair were drawn with, if any were."""
        record = self._known(pair, self.directions[0]) or {}
        speed = record.get("max_speed")
        return float(speed) if speed else None

    def write(self, estimated: Estimated, *, max_speed: float | None) -> list[Path]:
        """Writes all results of one flow, and their record last; returns their paths."""
        if not self.kinds:
            return []
        pair, direction = estimated.pair, estimated.direction
        self._refuse_replacing(pair)
        draw = _Drawing(estimated, self._bound, max_speed, self._wheel)
        paths = {kind: self._path(pair.name, direction, TAILS[kind]) for kind in self.kinds}
        for kind, path in paths.items():
            storage.make_folder(path.parent)
            draw.write(kind, path)
        record = self._path(pair.name, direction, _RECORD)
        content = self._content(estimated, max_speed)
        write_record(record, content, {kind.value: path for kind, path in paths.items()})
        return [*paths.values(), record]

    def _content(self, estimated: Estimated, max_speed: float | None) -> dict[str, Any]:
        height, width = estimated.flow.shape[:2]
        return {
            "flow": {
                "direction": estimated.direction.value,
                "from": estimated.frame.title,
                "to": estimated.other.title,
                "unit": "pixels of the frame",
                "components": COMPONENTS,
                "height": height,
                "width": width,
            },
            "max_speed": max_speed,
            "network": dict(estimated.account),
            **self._origin(estimated.pair),
        }

    def _origin(self, pair: Pair) -> dict[str, Any]:
        """What decides the content of all results of a pair."""
        frames = [
            {"title": frame.title, "identity": frame.identity}
            for frame in (pair.frame1, pair.frame2)
        ]
        return {"weights": self._weights, "settings": self._settings, "frames": frames}

    def _known(self, pair: Pair, direction: Direction) -> dict[str, Any] | None:
        """The record of results that need not be made again."""
        path = self._path(pair.name, direction, _RECORD)
        record = read_record(path)
        kinds = {kind.value for kind in self.kinds}
        valid = same(record, self._origin(pair)) and intact(record, path.parent, kinds)
        return record if valid else None

    def _path(self, name: str, direction: Direction, tail: str) -> Path:
        middle = "_backward" if direction is Direction.backward else ""
        return self.out / f"{name}{middle}{tail}"

    def _paths(self, name: str) -> list[Path]:
        return [
            self._path(name, direction, tail)
            for direction in self.directions
            for tail in (*(TAILS[kind] for kind in self.kinds), _RECORD)
        ]

    def _refuse_replacing(self, pair: Pair) -> None:
        frames = {Path(frame.title).resolve() for frame in (pair.frame1, pair.frame2)}
        for path in self._paths(pair.name):
            if path.resolve() in frames:
                raise ConfigError(f"out: {path} is one of the frames; choose another folder")


class _Drawing:
    """Writes one result of a flow."""

    def __init__(
        self,
        estimated: Estimated,
        bound: Mapping[str, float],
        max_speed: float | None,
        wheel: bool,
    ) -> None:
        self.estimated = estimated
        self.bound = bound
        self.max_speed = max_speed
        self.wheel = wheel

    def write(self, kind: Output, path: Path) -> None:
        flow = self.estimated.flow
        writers: dict[Output, Callable[[Path, np.ndarray], None]] = {
            Output.flo: write_flo,
            Output.npy: write_npy,
            Output.kitti: write_kitti_png,
            Output.flo5: write_flo5,
            Output.pfm: write_pfm,
        }
        if kind in writers:
            writers[kind](path, flow)
            return
        frame, other = self.estimated.frame, self.estimated.other
        match kind:
            case Output.picture:
                picture = coloured(flow, max_speed=self.max_speed or 1.0, wheel=self.wheel)
            case Output.arrows:
                picture = with_arrows(frame.pixels, flow, max_speed=self.max_speed or 1.0)
            case Output.warped:
                picture = warped(other.pixels, flow, self._compared(occlusion))
            case Output.occlusion:
                picture = _grey(self._compared(occlusion))
            case Output.confidence:
                picture = _grey(self._compared(confidence))
            case _:
                raise ValueError(f"not a result of one pair: {kind}")
        write_image(path, picture)

    def _compared(self, function: Callable[..., Any]) -> np.ndarray:
        """A map [H, W] from the flow and its opposite."""
        flow, opposite = self.estimated.flow, self.estimated.opposite
        if opposite is None:
            raise ValueError("the opposite flow is needed")
        if min(flow.shape[:2]) < 2:
            raise DataError("occlusion, confidence and warped need frames of at least 2 x 2 pixels")
        return np.asarray(function(flow[None], opposite[None], **self.bound))[0]


def _grey(values: np.ndarray) -> np.ndarray:
    return (255 * values[..., None]).round().astype(np.uint8)
