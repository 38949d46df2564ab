"""The files of each pair: names, contents, and whether they exist already.

    <out>/<name>.flo, <name>_flow.png, ...    the results
    <out>/<name>.json                         their record, written last
    <out>/<title>_flow.mp4, ...               videos of all pairs, likewise with a record

Letters: H height, W width.
"""

import json
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pwc_exp import __version__, storage
from pwc_exp.config.commands import Direction, Output, PredictConfig
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
from pwc_exp.flow.colour import flow_to_colour, legend, to_bytes
from pwc_exp.flow.warp import backward_warp, confidence, occlusion
from pwc_exp.prediction.sources import Pair, Source
from pwc_exp.prediction.video import VideoWriter

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
WRITERS: dict[str, Callable[..., None]] = {  # {suffix: (path, flow, valid=None) -> None}
    ".flo": write_flo,
    ".npy": write_npy,
    ".png": write_kitti_png,
    ".flo5": write_flo5,
    ".pfm": write_pfm,
}
VIDEOS = {Output.flow_video: "_flow.mp4", Output.side_by_side: "_side_by_side.mp4"}
SCALED = {Output.picture, Output.arrows, *VIDEOS}  # by a speed that is the same for all pairs
EXACT = (Output.flo, Output.npy, Output.flo5, Output.pfm)  # of these a flow can be read back
# They compare the flow with that of the swapped frames.
COMPARING = {Output.warped, Output.occlusion, Output.confidence}
FRAME_RATE = 24  # of a video that is made of images
ARROWS = 40  # along the longer side of a picture
HIDDEN = np.array([255, 0, 255])  # the colour that is mixed into hidden pixels, half and half
_RECORD = ".json"


class Outputs:
    """The results of pairs, below one folder; results that were made otherwise are made again.

    made_with: the record of the weights, and the settings.
    """

    def __init__(self, config: PredictConfig, out: Path, made_with: Mapping[str, Any]) -> None:
        self.out = out
        self.kinds = [kind for kind in dict.fromkeys(config.kinds) if kind in TAILS]
        self._config = config
        self._made_with = made_with
        one = [config.direction is Direction.backward]
        self.backward = [False, True] if config.direction is Direction.both else one
        compares = not COMPARING.isdisjoint(self.kinds)
        self.needed = [False, True] if compares else self.backward  # flows: forward, backward

    def check_names(self, source: Source) -> None:
        """Refuses results that would replace a frame, or each other, where names are known."""
        results: set[Path] = set()
        for name, backward in product(source.names, self.backward):
            for path in self._paths(name, backward, source.inputs):
                if path in results:
                    raise ConfigError(f"frames: two pairs would both have the result {path}")
                results.add(path)

    def exist(self, pair: Pair) -> bool:
        """Whether all results of a pair exist, as they would be made now."""
        return not self.kinds or all(self._record(pair, backward) for backward in self.backward)

    def stored_flow(self, pair: Pair) -> np.ndarray | None:
        """The flow of the first direction, [H, W, 2], if a file of the results holds it exactly."""
        kind = next((kind for kind in EXACT if kind in self.kinds), None)
        if kind is None or not self.exist(pair):
            return None
        return read_flow(self._path(pair.name, self.backward[0], TAILS[kind]))[0]

    def max_speed(self, pair: Pair) -> float | None:
        """The speed of full colour that existing results of a pair were drawn with."""
        return self._record(pair, self.backward[0]).get("max_speed")

    def write(
        self,
        pair: Pair,
        flows: Mapping[bool, np.ndarray],
        *,
        network: Mapping[str, Any],
        max_speed: float | None,
    ) -> list[Path]:
        """Writes all results of a pair, for each direction the record last; returns their paths.

        Args:
            flows: {whether it is the backward flow: [H, W, 2], in pixels}.
            network: how the frames went through the network, for the record.
            max_speed: of full colour, in pixels, where an output needs it.
        """
        written: list[Path] = []
        inputs = [file.resolve() for file in pair.files]
        for backward in self.backward if self.kinds else []:
            *paths, record = self._paths(pair.name, backward, inputs)
            for kind, path in zip(self.kinds, paths, strict=True):
                storage.make_folder(path.parent)
                if TAILS[kind] in WRITERS:
                    WRITERS[TAILS[kind]](path, flows[backward])
                else:
                    write_image(path, self._picture(kind, pair, flows, backward, max_speed or 1.0))
            frame, other = pair.frames(backward=backward)
            height, width = flows[backward].shape[:2]
            content = {
                "flow": {
                    "direction": str(Direction.backward if backward else Direction.forward),
                    "from": frame.title,
                    "to": other.title,
                    "unit": "pixels of the frame",
                    "components": ["x, right", "y, down"],
                    "height": height,
                    "width": width,
                },
                "max_speed": max_speed,
                "network": network,
                **self._made_with,
                "frames": [pair.frame1.title, pair.frame2.title],
                "files": {kind: path.name for kind, path in zip(self.kinds, paths, strict=True)},
            }
            _write_record(record, content)
            written += [*paths, record]
        return written

    def _path(self, name: str, backward: bool, tail: str) -> Path:
        return self.out / f"{name}{'_backward' * backward}{tail}"

    def _paths(self, name: str, backward: bool, inputs: Collection[Path]) -> list[Path]:
        """The paths of a pair's results, none of which may be one of `inputs`; the record last."""
        tails = [*(TAILS[kind] for kind in self.kinds), _RECORD]
        paths = [self._path(name, backward, tail) for tail in tails]
        for path in paths:
            if path.resolve() in inputs:
                raise ConfigError(f"out: {path} is one of the frames; choose another folder")
        return paths

    def _record(self, pair: Pair, backward: bool) -> dict[str, Any]:
        """The record of existing results; {} if they must be made."""
        made_with = {**self._made_with, "frames": [pair.frame1.title, pair.frame2.title]}
        path = self._path(pair.name, backward, _RECORD)
        return _read_record(path, made_with, self.kinds, pair.files)

    def _picture(
        self,
        kind: Output,
        pair: Pair,
        flows: Mapping[bool, np.ndarray],
        backward: bool,
        max_speed: float,
    ) -> np.ndarray:
        flow, (frame, other) = flows[backward], pair.frames(backward=backward)
        if kind is Output.picture:
            return coloured(flow, max_speed=max_speed, wheel=self._config.legend)
        if kind is Output.arrows:
            return with_arrows(frame.pixels, flow, max_speed=max_speed)
        if min(flow.shape[:2]) < 2:
            raise DataError("occlusion, confidence and warped need frames of at least 2 x 2 pixels")
        compare = confidence if kind is Output.confidence else occlusion
        relative, absolute = self._config.occlusion_relative, self._config.occlusion_absolute
        both = flow[None], flows[not backward][None]
        values = np.asarray(compare(*both, relative=relative, absolute=absolute))[0]
        if kind is Output.warped:
            return warped(other.pixels, flow, values)
        return to_bytes(values[..., None])


class Videos:
    """Videos that appear when `finish` is called; without that, nothing is left of them.

    An existing video that would be made as before is not made again.
    made_with: the record of the weights, and the settings.
    """

    def __init__(
        self, config: PredictConfig, out: Path, source: Source, made_with: Mapping[str, Any]
    ) -> None:
        self.paths: list[Path] = []
        self._wheel = config.legend
        rate = source.frame_rate or Fraction(FRAME_RATE)
        if config.frame_rate:
            rate = Fraction(config.frame_rate).limit_denominator(1001)
        settings = {**made_with["settings"], "direction": config.direction.value}
        about = {"frame_rate": str(rate), "frames": source.title}
        self._made_with = {**about, **made_with, "settings": settings}
        self._writers: dict[Output, VideoWriter] = {}
        for kind in [kind for kind in VIDEOS if kind in config.kinds]:
            path = out / f"{source.title}{VIDEOS[kind]}"
            if path.resolve() in source.inputs:
                raise ConfigError(f"out: {path} is the input; choose another folder")
            record = path.with_suffix(_RECORD)
            if config.overwrite or not _read_record(record, self._made_with, [kind], source.inputs):
                self._writers[kind] = VideoWriter(path, frame_rate=rate)

    @property
    def wanted(self) -> bool:
        """Whether any video is to be made."""
        return bool(self._writers)

    def add(self, frame: np.ndarray, flow: np.ndarray, *, max_speed: float) -> None:
        """Appends a frame, [H, W, 3] RGB in [0, 1], and its flow, [H, W, 2] in pixels."""
        picture = coloured(flow, max_speed=max_speed, wheel=self._wheel)
        for kind, writer in self._writers.items():
            if kind is Output.side_by_side:
                writer.add(np.concatenate([to_bytes(frame), picture], axis=1))
            else:
                writer.add(picture)

    def add_gap(self) -> None:
        """Appends black where a pair has no flow, so that the rest stays in time."""
        for writer in self._writers.values():
            if writer.size is not None:
                writer.add(np.zeros((*writer.size, 3), np.uint8))

    def finish(self, *, gaps: bool, max_speed: float | None) -> None:
        """Completes the videos; one without a picture is not written.

        gaps: some pairs have no flow; then there is no record, and the videos are made again.
        """
        for kind, writer in self._writers.items():
            if not writer.finish():
                continue
            self.paths.append(writer.path)
            if not gaps:
                files = {kind: writer.path.name}
                content = {"max_speed": max_speed, **self._made_with, "files": files}
                _write_record(writer.path.with_suffix(_RECORD), content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.discard()


def _write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the record of results, after them: where it exists, they are complete."""
    record = {"pwc_exp": __version__, **content}
    storage.write_file(path, (json.dumps(record, indent=2) + "\n").encode())


def _read_record(
    path: Path, made_with: Mapping[str, Any], kinds: Collection[str], inputs: Collection[Path]
) -> dict[str, Any]:
    """The record of results that need not be made again; {} if they must be.

    All `kinds` must exist and be made with the same settings and weights, and `inputs` must not be
    newer; of a stream there are none, and it is not known whether the frames are the same.
    """
    try:
        record = json.loads(path.read_bytes())
        written = path.stat().st_mtime_ns
        same = (
            bool(inputs)
            and all(file.stat().st_mtime_ns <= written for file in inputs)
            and all(path.with_name(record["files"][kind]).is_file() for kind in kinds)
            and record["weights"]["sha256"] == made_with["weights"]["sha256"]
            and all(record[key] == made_with[key] for key in made_with.keys() - {"weights"})
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return record if same else {}


def coloured(flow: np.ndarray, *, max_speed: float, wheel: bool) -> np.ndarray:
    """`flow`, [H, W, 2] in pixels, in Middlebury's colours: [H, W, 3] uint8.

    max_speed: of full colour, in pixels; faster motion is darker. wheel: draw the colour wheel into
    the lower right corner, labelled with that speed.
    """
    picture = flow_to_colour(flow, max_speed=max_speed)
    side = min(picture.shape[:2]) // 4
    if not wheel or side < 24:  # too small to read
        return picture
    canvas = PIL.Image.fromarray(picture)
    height, width = picture.shape[:2]
    text = max(10, side // 6)
    corner = (width - side - 4, height - side - text - 8)
    draw = PIL.ImageDraw.Draw(canvas)
    draw.rectangle((corner[0] - 4, corner[1] - 4, width, height), fill="white")
    canvas.paste(PIL.Image.fromarray(legend(side)), corner)
    place = (width - side // 2 - 4, height - 4)
    font = PIL.ImageFont.load_default(text)
    draw.text(place, f"{max_speed:.4g} px", fill="black", font=font, anchor="ms")
    return np.asarray(canvas)


def with_arrows(frame: np.ndarray, flow: np.ndarray, *, max_speed: float) -> np.ndarray:
    """Arrows on a darkened frame; each begins at the pixel whose motion it shows: [H, W, 3] uint8.

    frame: [H, W, 3] RGB in [0, 1]; flow: [H, W, 2] in pixels. If an arrow of `max_speed`, in
    pixels, would not reach the next one, all arrows are lengthened by a whole factor.
    """
    height, width = flow.shape[:2]
    step = max(8, -(-max(height, width) // ARROWS))
    canvas = PIL.Image.fromarray(to_bytes(0.6 * frame))
    draw = PIL.ImageDraw.Draw(canvas)
    line = max(1, step // 10)
    factor = max(1, round(step / max_speed))
    for y, x in product(range(step // 2, height, step), range(step // 2, width, step)):
        start, motion = np.array([x, y]), factor * flow[y, x]
        length = float(np.hypot(*motion))
        if not np.isfinite(length) or length < 1:
            draw.point((x, y), fill="yellow")
            continue
        tip, along = start + motion, motion / length
        head = min(0.4 * length, step / 3)
        across = np.array([-along[1], along[0]])
        draw.line([*start, *tip], fill="yellow", width=line)
        for side in (-0.6, 0.6):
            draw.line([*tip, *(tip - head * (along + side * across))], fill="yellow", width=line)
    return np.asarray(canvas)


def warped(other: np.ndarray, flow: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The other frame sampled where the flow points: a correct flow makes it look like this frame.

    Pixels that are hidden in the other frame are tinted: without that, whatever hides them would
    be seen twice.

    other: [H, W, 3] RGB in [0, 1], the frame that the flow leads to; flow: [H, W, 2] in pixels;
    hidden: [H, W], 1 where a pixel is hidden in the other frame. Returns [H, W, 3] uint8.
    """
    sampled = to_bytes(np.asarray(backward_warp(other[None], flow[None], border="edge"))[0])
    tinted = (0.5 * sampled + 0.5 * HIDDEN).round()
    return np.where(hidden[..., None] > 0, tinted, sampled).astype(np.uint8)
