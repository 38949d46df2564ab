"""The pixel error of an exported network against the network, on moving photographs.

Letters: B batch, H height, W width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from skimage import data as photographs

from pwc_exp.errors import ParityError

# Two frames, uint8 [B, H, W, 3], RGB -> the flow, float32 [B, H, W, 2], in pixels.
Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]
STEP = (3, 5)  # pixels, down and right, from one frame to the next


class Shape(NamedTuple):
    """Of a batch of pairs."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.height} x {self.width}"


class Bound(NamedTuple):
    """The pixel error that a format may have."""

    mean: float
    largest: float


class Difference(NamedTuple):
    """The pixel error on a batch."""

    engine: str
    shape: Shape
    mean: float
    largest: float


class Case(NamedTuple):
    """A batch, and the flow of the network."""

    frame1: np.ndarray  # uint8 [B, H, W, 3]
    frame2: np.ndarray
    flow: np.ndarray  # float32 [B, H, W, 2], pixels


def make_case(network: Runner, shape: Shape) -> Case:
    """Frames of a shape, and their flow by the network itself."""
    pair = frames(shape)
    return Case(*pair, network(*pair))


def frames(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Two consecutive frames, uint8 [B, H, W, 3] each: a photograph that moves.

    The pairs of a batch differ, so that a format that mixes them is detected.
    """
    pictures = [photographs.astronaut(), photographs.coffee(), photographs.chelsea()]
    pairs = []
    for number in range(shape.batch):
        picture = pictures[number % len(pictures)]
        down, right = STEP if number % 2 == 0 else STEP[::-1]
        bottom, end = shape.height + down, shape.width + right
        missing = [max(0, bottom - picture.shape[0]), max(0, end - picture.shape[1]), 0]
        whole = np.pad(picture, [(0, count) for count in missing], mode="symmetric")
        pairs.append([whole[down:bottom, right:end], whole[: shape.height, : shape.width]])
    frame1, frame2 = (np.stack(frames) for frames in zip(*pairs, strict=True))
    return frame1, frame2


def check(
    name: str, engines: Mapping[str, Runner], cases: Sequence[Case], bound: Bound
) -> list[Difference]:
    """Compares the flow of each engine with that of the network.

    Raises:
        ParityError: it is further away than `bound`, not finite, of another shape, or fails; or
            the network's flow is so even that an output without any motion would pass as well.
    """
    found = []
    for case in cases:
        shape = Shape(*case.flow.shape[:3])
        even = np.abs(case.flow - case.flow.mean(axis=(0, 1, 2))).mean()
        if not even > bound.mean:
            raise ParityError(
                f"{name}: the network's flow must vary by more than {bound.mean} px for a "
                f"comparison to mean anything. Received: {even:.2g} px at {shape}"
            )
        for engine, run in engines.items():
            where = f"{name} in {engine} at {shape}"
            mean, largest = _distance(where, run, case)
            if not (mean <= bound.mean and largest <= bound.largest):
                raise ParityError(
                    f"{where}: must be within {bound.mean} px of the network in the mean and "
                    f"{bound.largest} px at most. Received: {mean:.2g} px and {largest:.2g} px"
                )
            found.append(Difference(engine, shape, mean, largest))
    return found


def _distance(where: str, run: Runner, case: Case) -> tuple[float, float]:
    """Mean and largest difference of the flows, in pixels."""
    try:
        flow = run(case.frame1, case.frame2)
    except Exception as error:  # whatever a runtime raises for a graph that it cannot run
        raise ParityError(f"{where}: fails; {error}") from error
    if flow.shape != case.flow.shape or flow.dtype != np.float32:
        raise ParityError(
            f"{where}: must return float32 {case.flow.shape}. Received: {flow.dtype} {flow.shape}"
        )
    difference = np.abs(flow - case.flow)
    return float(difference.mean()), float(difference.max())
