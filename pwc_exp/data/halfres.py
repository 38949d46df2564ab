"""FlyingThings3D at half its size: frames of 270 x 480, and half the motion.

The tree keeps its layout and its names, but for .flo in the place of .pfm. Each file is written
whole (storage.write_file): what exists is complete, so that a later call makes what is missing.
"""

import itertools
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.contrib.concurrent import thread_map

from pwc_exp import storage
from pwc_exp.data.datasets.benchmarks import UNUSED_LIST
from pwc_exp.data.formats.headers import Size, read_bytes
from pwc_exp.data.formats.images import inspect_frame, read_frame, write_image
from pwc_exp.data.formats.io import read_flow, write_flo
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError

_PASSES = ("frames_cleanpass", "frames_finalpass")
_SCENE = r"(?P<scene>(TRAIN|TEST)/[ABC]/\d{4})"
_FRAME = re.compile(rf"({'|'.join(_PASSES)})/{_SCENE}/(left|right)/\d{{4}}\.png")
_FLOW = re.compile(
    rf"optical_flow/{_SCENE}/into_(future|past)/(?P<side>left|right)/"
    r"OpticalFlowInto(Future|Past)_(?P<number>\d{4})_[LR]\.pfm"
)
_UNFINISHED = "UNFINISHED.txt"


class Summary(NamedTuple):
    """What was found and what became of it."""

    frames: int
    flows: int
    ignored: int  # files among them whose names are not of the layout
    made: int
    kept: int  # files that existed
    failures: list[UserError]  # in the order of the inputs; none of these has an output


class _Input(NamedTuple):
    """One file at full size. Sorted by scene, frames first: a flow finds its frame in memory."""

    scene: str
    path: Path
    frames: tuple[Path, ...] = ()  # for a flow: those whose size it must have


def halve(root: Path, out: Path, *, workers: int) -> Summary:
    """Makes the half-size tree `out` from the FlyingThings3D tree `root`, or what it lacks.

    Until everything is made, a file in `out` says so. An input that is refused does not stop the
    others; an output that cannot be written does. Of two processes, the second one waits.
    """
    if out.resolve() == root.resolve():
        raise OutputError(f"The half-size tree needs a folder of its own. Received: {out}.")
    inputs, ignored = _find(root)

    def output(item: _Input) -> Path:
        path = out / item.path.relative_to(root)
        return path.with_suffix(".flo") if item.frames else path

    def attempt(item: _Input) -> UserError | None:
        try:
            storage.make_folder(output(item).parent)
            _halve_file(item, output(item))
        except OutputError:
            raise
        except UserError as error:
            return error
        return None

    storage.make_folder(out)
    with storage.lock(out / ".lock", wait=True):
        mark = out / _UNFINISHED
        text = f"The conversion of {root} to half size is not finished.\n"
        storage.write_file(mark, text.encode())
        _copy_lists(root, out)
        missing = [item for item in inputs if not output(item).exists()]
        for parent in {output(item).parent for item in missing}:
            storage.remove_leftovers(parent)
        bar = {"desc": "halfres", "unit": "file", "disable": None}
        results = thread_map(attempt, missing, max_workers=workers, **bar)
        failures = [result for result in results if result is not None]
        if not failures:
            mark.unlink()
    flows = sum(bool(item.frames) for item in inputs)
    return Summary(
        frames=len(inputs) - flows,
        flows=flows,
        ignored=ignored,
        made=len(missing) - len(failures),
        kept=len(inputs) - len(missing),
        failures=failures,
    )


def _copy_lists(root: Path, out: Path) -> None:
    for place in (".", *_PASSES):
        if (root / place / UNUSED_LIST).is_file():
            storage.make_folder(out / place)
            storage.write_file(out / place / UNUSED_LIST, read_bytes(root / place / UNUSED_LIST))


def check_finished(root: Path) -> None:
    """Refuses a half-size tree that lacks files; every other folder passes."""
    if (root / _UNFINISHED).exists():
        raise DataError(f"{root} is not complete: its conversion to half size was interrupted.")


def halve_frame(frame: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, halves rounded up: [H, W, 3] uint8 to [H/2, W/2, 3] uint8."""
    return ((_sum_of_squares(frame.astype(np.uint16)) + 2) // 4).astype(np.uint8)


def halve_flow(flow: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow and valid at half size, in half-size pixels.

    Half the mean of those of the 2 x 2 pixels that are valid; not valid where none of them is.

    Args:
        flow: [H, W, 2], pixels; 0 where not valid.
        valid: [H, W] float32 0/1.
    """
    count = _sum_of_squares(valid)  # [H/2, W/2]
    mean = _sum_of_squares(flow) / np.maximum(count, 1)[..., None]
    return mean / 2, (count > 0).astype(np.float32)


def _sum_of_squares(image: np.ndarray) -> np.ndarray:
    """Sums of squares of 2 x 2 pixels: [H, W, ...] to [H/2, W/2, ...]."""
    top, bottom = image[::2], image[1::2]
    return top[:, ::2] + top[:, 1::2] + bottom[:, ::2] + bottom[:, 1::2]


def _find(root: Path) -> tuple[list[_Input], int]:
    """What is to be halved, and how many files among it are not of the layout."""
    inputs, ignored = [], 0
    # Of fixed depth: links to other disks are followed, and cannot lead round in a circle.
    patterns = ("frames_*pass/*/*/*/*/*", "optical_flow/*/*/*/*/*/*")
    for path in itertools.chain.from_iterable(map(root.glob, patterns)):
        name = path.relative_to(root).as_posix()
        if match := _FRAME.fullmatch(name):
            inputs.append(_Input(match["scene"], path))
        elif match := _FLOW.fullmatch(name):
            frame = f"{match['scene']}/{match['side']}/{match['number']}.png"
            frames = tuple(root / folder / frame for folder in _PASSES)
            inputs.append(_Input(match["scene"], path, frames))
        else:
            ignored += 1
    if not inputs:
        entries = sorted(path.name for path in root.iterdir())[:5] if root.is_dir() else []
        raise MissingInputError(
            f"Not FlyingThings3D: {root}. Expected: frames_cleanpass/TRAIN/A/0000/left/0006.png, "
            "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm. "
            f"Received: {', '.join(entries) or 'nothing'}."
        )
    return sorted(inputs), ignored


def _halve_file(item: _Input, target: Path) -> None:
    if item.frames:
        flow, valid = read_flow(item.path)
        _check(item, Size(*valid.shape))
        write_flo(target, *halve_flow(flow, valid))
    else:
        frame = read_frame(item.path)
        _check(item, Size(*frame.shape[:2]))
        write_image(target, halve_frame(np.rint(frame * 255).astype(np.uint8)))


def _check(item: _Input, size: Size) -> None:
    """Refuses an odd size, and a flow whose frame is there and is of another size."""
    if size.height % 2 or size.width % 2:
        raise DataError(
            f"Cannot halve {item.path}. Expected an even height and width. "
            f"Received: {size.height} x {size.width}."
        )
    for frame in item.frames:
        frame_is = size
        with suppress(UserError):  # no such frame; or a damaged one, which is reported for itself
            frame_is = inspect_frame(frame)
        if frame_is != size:
            raise DataError(
                f"Flow and frame differ in size (height x width): {item.path} is "
                f"{size.height} x {size.width}, {frame} is {frame_is.height} x {frame_is.width}."
            )
