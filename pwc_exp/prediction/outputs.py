"""The files of each pair: names, contents, and whether they exist already.

    <out>/<name>.flo, <name>_flow.png, ...    the results of a pair
    <out>/<title>_flow.mp4, ...               videos of all pairs, written with PyAV
    <out>/predict.jsonl                       what made them, and a line for each that is complete

Letters: H height, W width.
"""

import json
import math
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from pwc_exp import __version__, storage
from pwc_exp.config.commands import Direction, Output, PredictConfig
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import WRITERS, read_flow
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.flow.colour import flow_to_colour, legend, to_bytes
from pwc_exp.flow.warp import backward_warp, confidence, occlusion
from pwc_exp.prediction.sources import Pair, Source

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
EXACT = (Output.flo, Output.npy, Output.flo5, Output.pfm)  # of these a flow can be read back
# They compare the flow with that of the swapped frames.
COMPARING = {Output.warped, Output.occlusion, Output.confidence}
FRAME_RATE = 24  # of a video that is made of images
ARROWS = 40  # along the longer side of a picture
HIDDEN = np.array([255, 0, 255])  # the colour that is mixed into hidden pixels, half and half
# Of videos, in the order of preference. H.264 plays everywhere; FFmpeg may have been built without
# x264.
_ENCODERS = ("libx264", "libopenh264", "mpeg4")
_QUALITY = {"libx264": {"crf": "18", "preset": "medium"}}
_BITS_PER_PIXEL = 0.25  # for the other encoders, which have no constant quality


class Record:
    """`predict.jsonl` in the folder of the results: what made them, and which are complete.

    Its first line has the weights and the settings; a line for each result follows when all files
    of the result are written. With other weights or settings, or to overwrite, it begins anew, and
    so do the results.
    """

    def __init__(
        self, out: Path, weights: Mapping[str, Any], settings: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        self._path = out / "predict.jsonl"
        flow = "from the first frame to the second, in pixels of the frame; x right, y down"
        made_with = {"weights": weights, "settings": settings}
        self._header = {"pwc_exp": __version__, "flow": flow, **made_with}
        header, *results = _read_lines(self._path) or [{}]
        same_weights = header.get("weights", {}).get("sha256") == weights["sha256"]
        self._continues = same_weights and header.get("settings") == settings and not overwrite
        self._results = {line["name"]: line for line in results if self._continues}

    def begin(self) -> None:
        """Makes the folder and the record; to be called before any result is written."""
        storage.make_folder(self._path.parent)
        if not self._continues:
            storage.write_file(self._path, f"{json.dumps(self._header)}\n".encode())

    def finished(
        self, name: str, files: Collection[Path], *, made_of: Any, inputs: Collection[Path]
    ) -> dict[str, Any]:
        """The line of a result that need not be made again; {} if it must be.

        All `files` must exist, be made of the same, and be no older than the files `inputs`. Of a
        stream there are none: whether its frames are the same is not known.
        """
        line = self._results.get(name, {})
        complete = {self._name(file) for file in files} <= set(line.get("files", []))
        try:
            changed = max((file.stat().st_mtime_ns for file in inputs), default=math.inf)
            complete &= all(file.stat().st_mtime_ns >= changed for file in files)
        except OSError:  # one is missing
            complete = False
        return line if complete and line.get("made_of") == made_of else {}

    def add(self, name: str, files: Collection[Path], *, made_of: Any, **more: Any) -> None:
        """Notes that all files of a result are written."""
        names = [self._name(file) for file in files]
        line = {"name": name, "made_of": made_of, "files": names, **more}
        storage.append_line(self._path, json.dumps(line))

    def _name(self, file: Path) -> str:
        return file.relative_to(self._path.parent).as_posix()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; a power failure may have left a part of one."""
    lines = []
    with suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    return lines


class Outputs:
    """The results of pairs, below one folder."""

    def __init__(self, config: PredictConfig, out: Path, record: Record) -> None:
        self.out = out
        self.kinds = [kind for kind in dict.fromkeys(config.kinds) if kind in TAILS]
        self._config = config
        self._record = record
        one = [config.direction is Direction.backward]
        self.backward = [False, True] if config.direction is Direction.both else one
        compares = not COMPARING.isdisjoint(self.kinds)
        self.needed = [False, True] if compares else self.backward  # flows: forward, backward

    def check_names(self, source: Source) -> None:
        """Refuses results that would replace a frame, or each other, where names are known."""
        results: set[Path] = set()
        for name in source.names:
            for path in self._paths(name, source.inputs).values():
                if path in results:
                    raise ConfigError(f"frames: two pairs would both have the result {path}")
                results.add(path)

    def finished(self, pair: Pair) -> dict[str, Any]:
        """The record of a pair whose results exist as they would be made now; {} of others."""
        files = self._paths(pair.name).values()
        return self._record.finished(pair.name, files, made_of=str(pair), inputs=pair.files)

    def stored_flow(self, pair: Pair) -> np.ndarray | None:
        """The flow of the first direction, [H, W, 2], if a file of the results holds it exactly."""
        kind = next((kind for kind in EXACT if kind in self.kinds), None)
        if kind is None or not self.finished(pair):
            return None
        return read_flow(self._paths(pair.name)[self.backward[0], kind])[0]

    def write(
        self,
        pair: Pair,
        flows: Mapping[bool, np.ndarray],
        *,
        network: Mapping[str, Any],
        max_speed: float | None,
    ) -> list[Path]:
        """Writes all results of a pair and notes it; returns their paths.

        Args:
            flows: {whether it is the backward flow: [H, W, 2], in pixels}.
            network: how the frames went through the network, for the record.
            max_speed: of full colour, in pixels, where an output needs it.
        """
        paths = self._paths(pair.name, [file.resolve() for file in pair.files])
        for (backward, kind), path in paths.items():
            storage.make_folder(path.parent)
            if TAILS[kind] in WRITERS:
                WRITERS[TAILS[kind]](path, flows[backward])
            else:
                write_image(path, self._picture(kind, pair, flows, backward, max_speed or 1.0))
        if paths:
            more = {"size": pair.size, "network": network, "max_speed": max_speed}
            self._record.add(pair.name, paths.values(), made_of=str(pair), **more)
        return list(paths.values())

    def _paths(self, name: str, inputs: Collection[Path] = ()) -> dict[tuple[bool, Output], Path]:
        """The paths of a pair's results, none of which may be one of `inputs`."""
        paths = {
            (backward, kind): self.out / f"{name}{'_backward' * backward}{TAILS[kind]}"
            for backward, kind in product(self.backward, self.kinds)
        }
        for path in paths.values() if inputs else ():
            if path.resolve() in inputs:
                raise ConfigError(f"out: {path} is one of the frames; choose another folder")
        return paths

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


class Video:
    """An MP4 of the flow of all pairs, which replaces what is at `path` when it is finished."""

    def __init__(
        self, kind: Output, path: Path, *, rate: Fraction, wheel: bool, made_of: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.made_of = {**made_of, "frame_rate": str(rate)}
        self._beside = kind is Output.side_by_side
        self._rate = rate
        self._wheel = wheel
        self._size: tuple[int, int] | None = None  # (height, width) of the first picture
        self._temporary = path.with_name(f".tmp-{path.name}.{secrets.token_hex(4)}")
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: np.ndarray, flow: np.ndarray, *, max_speed: float) -> None:
        """Appends a frame, [H, W, 3] RGB in [0, 1], and its flow, [H, W, 2] in pixels."""
        picture = coloured(flow, max_speed=max_speed, wheel=self._wheel)
        self._encode(np.hstack([to_bytes(frame), picture]) if self._beside else picture)

    def add_gap(self) -> None:
        """Appends black where a pair has no flow, so that the rest stays in time."""
        if self._size is not None:
            self._encode(np.zeros((*self._size, 3), np.uint8))

    def finish(self) -> bool:
        """Completes the file; false if nothing was added, and there is none."""
        if self._size is None:
            return False
        self._container.mux(self._stream.encode(None))
        self._container.close()
        storage.sync_file(self._temporary)
        storage.rename(self._temporary, self.path)
        return True

    def discard(self) -> None:
        """Removes what was written, unless it is finished."""
        if self._container is not None:
            with suppress(Exception):
                self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _encode(self, picture: np.ndarray) -> None:
        """Appends [H, W, 3] uint8 RGB; odd sizes get their last row or column twice."""
        import av

        height, width = picture.shape[:2]
        if self._size is None:
            self._open(height, width)
        if (height, width) != self._size:
            raise DataError(
                f"{self.path}: pictures of a video must be of one size, (height, width) "
                f"{self._size}. Received: {(height, width)}"
            )
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def _open(self, height: int, width: int) -> None:
        import av

        self._size = (height, width)
        self._container = av.open(str(self._temporary), "w", format="mp4")
        encoder = next(name for name in _ENCODERS if name in av.codecs_available)
        self._stream = self._container.add_stream(encoder, rate=self._rate)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _QUALITY.get(encoder, {})
        if encoder not in _QUALITY:
            self._stream.bit_rate = int(_BITS_PER_PIXEL * height * width * self._rate)


def videos_to_make(config: PredictConfig, source: Source, out: Path, record: Record) -> list[Video]:
    """The videos that the configuration names, but for those that exist as they would be made."""
    rate = source.frame_rate or Fraction(FRAME_RATE)
    if config.frame_rate:
        rate = Fraction(config.frame_rate).limit_denominator(1001)
    videos = []
    for kind in [kind for kind in VIDEOS if kind in config.kinds]:
        path = out / f"{source.title}{VIDEOS[kind]}"
        if path.resolve() in source.inputs:
            raise ConfigError(f"out: {path} is the input; choose another folder")
        of = {"frames": source.title, "pairs": source.total, "direction": str(config.direction)}
        video = Video(kind, path, rate=rate, wheel=config.legend, made_of=of)
        if not record.finished(path.name, [path], made_of=video.made_of, inputs=source.inputs):
            videos.append(video)
    return videos


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
