"""Which way the flow of a data set points, inferred from its frames.

Each pair is warped by its flow as eight readings understand it: either channel first, either sign
of each component. Readings are compared two by two, where they lead at least a pixel apart; what
does not move cannot tell anything.

Letters: H height, W width, N points, R = 9 candidates: the readings, and no motion at all.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from tqdm.contrib.concurrent import thread_map

from pwc_exp.data.sample import Sample, spread
from pwc_exp.data.source import Decoded
from pwc_exp.errors import UserError

# Measured on 20 real pairs of 5 data sets: the right reading has at least 0.18 over each rival;
# with frames and flow of different scenes, the best reading has less than 0.09 over some rival.
_NEEDED_ADVANTAGE = 0.1
_MOST_POINTS = 5000  # of a pair
_FEWEST_POINTS = 100  # on which two readings must differ to be distinguishable, and
_SMALLEST_SHARE = 0.01  # of all points
_APART = 1.0  # pixels between the ends of two readings
_RADIUS = 3  # of the window in which brightness and contrast are levelled, pixels
_NOISE = 0.02  # contrast below which a window counts as flat; frames are in [0, 1]
_LARGEST_ERROR = 1.0  # more says no more: occlusions and light must not outweigh the rest

STANDARD = "standard"  # the verdict on (x, y) = (right, down), from frame 1 to frame 2
UNDECIDED = "undecided"
NO_MOTION = "no motion"


class Reading(NamedTuple):
    """What the two channels of the flow may mean."""

    y_first: bool
    x_sign: int
    y_sign: int

    @property
    def name(self) -> str:
        """The differences from (x, y) = (right, down)."""
        negated = {"x negated": self.x_sign < 0, "y negated": self.y_sign < 0}
        named = {"y first": self.y_first} | negated
        return ", ".join(name for name, holds in named.items() if holds) or STANDARD


READINGS = [Reading(*parts) for parts in product((False, True), (1, -1), (1, -1))]
_CANDIDATES = [*(reading.name for reading in READINGS), NO_MOTION]


class Evidence(NamedTuple):
    """Sums over the points where candidates a and b lead apart."""

    points: np.ndarray  # [R, R] how many
    errors: np.ndarray  # [R, R] of candidate a, where it differs from b
    total: int  # points at all


class Convention(NamedTuple):
    """What the pairs say."""

    verdict: str  # the name of a reading, or UNDECIDED
    reading: Reading | None  # None: undecided
    fits: bool  # the standard reading explains the frames, or nothing moves that could tell
    untold: list[str]  # axes, x or y, along which nothing moves: their signs are ambiguous
    remarks: list[str]  # why it is undecided, what else it may mean, what could not be read
    advantages: dict[str, float]  # over each rival that is distinguishable: -1 .. 1, 0 is none
    pairs: int
    agreeing: int  # pairs that, alone, say the same
    points: int


def find_convention(
    samples: Sequence[Sample], *, read: Callable[[Sample], Decoded], workers: int, limit: int | None
) -> Convention:
    """Finds the convention of `limit` samples, evenly spread; `read` decodes one.

    A sample that cannot be read is passed over, and named in the remarks.
    """

    def weigh_sample(sample: Sample) -> Evidence | UserError:
        try:
            return weigh(*read(sample))
        except UserError as error:
            return error

    chosen = spread([sample for sample in samples if sample.flow is not None], limit)
    bar = {"desc": "convention", "unit": "pair", "disable": None, "leave": False}
    results = thread_map(weigh_sample, chosen, max_workers=workers, **bar)
    found = judge([result for result in results if isinstance(result, Evidence)])
    failures = [f"not read: {result}" for result in results if isinstance(result, UserError)]
    return found._replace(remarks=found.remarks + failures)


def weigh(frame1: np.ndarray, frame2: np.ndarray, flow: np.ndarray, valid: np.ndarray) -> Evidence:
    """Weighs the readings of one pair; the shapes are those of an `Example`."""
    rows, columns = np.nonzero(valid > 0)
    step = -(-len(rows) // _MOST_POINTS) or 1
    rows, columns = rows[::step], columns[::step]
    steps = _steps(flow[rows, columns])  # [R, N, 2]
    x, y = np.float32(columns) + steps[..., 0], np.float32(rows) + steps[..., 1]  # [R, N]
    height, width = valid.shape
    inside = ((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)).all(axis=0)
    steps, x, y = steps[:, inside], x[:, inside], y[:, inside]
    levelled1, levelled2 = _level(frame1), _level(frame2)
    differences = np.abs(_sample(levelled2, x, y) - levelled1[rows, columns][inside])
    errors = np.minimum(differences, _LARGEST_ERROR)  # [R, N]
    points = np.zeros((len(_CANDIDATES),) * 2, np.int64)
    sums = np.zeros(points.shape)
    for one, step_of_one in enumerate(steps):
        apart = np.square(steps - step_of_one).sum(axis=-1) > _APART**2  # [R, N]
        points[one] = apart.sum(axis=1)
        sums[one] = apart @ errors[one]
    return Evidence(points, sums, int(inside.sum()))


def judge(evidence: Sequence[Evidence]) -> Convention:
    """Draws the conclusion from all pairs together."""
    whole = _judge(evidence)
    agreeing = sum(_judge([pair]).verdict == whole.verdict for pair in evidence)
    return whole._replace(agreeing=agreeing)


def text(convention: Convention) -> str:
    """The verdict, and what it rests on, as lines of text."""
    found = convention
    lines = [
        f"flow convention   {found.verdict}",
        *(f"  {remark}" for remark in found.remarks),
        f"  {found.points:,} points; alone, {found.agreeing} of {found.pairs} pairs say the same",
    ]
    if found.advantages:
        lines.append(f"  advantage over   (0: none, 1: most; needed: {_NEEDED_ADVANTAGE})")
    lines += [f"    {name:<32}{value:>6.2f}" for name, value in found.advantages.items()]
    return "\n".join(lines)


def to_json(convention: Convention) -> dict[str, object]:
    """The same in the types of JSON."""
    reading = convention.reading
    return {**convention._asdict(), "reading": None if reading is None else reading._asdict()}


def _judge(evidence: Sequence[Evidence]) -> Convention:
    count = len(_CANDIDATES)
    points = sum((pair.points for pair in evidence), np.zeros((count, count), np.int64))
    errors = sum((pair.errors for pair in evidence), np.zeros((count, count)))
    total = sum(pair.total for pair in evidence)
    apart = points >= max(_FEWEST_POINTS, _SMALLEST_SHARE * total)  # [R, R]
    both = errors + errors.T
    advantage = np.divide(errors.T - errors, both, out=np.zeros_like(both), where=both > 0)
    weakest = np.where(apart, advantage, np.inf).min(axis=1)
    best = int(np.argmax(np.where(apart.any(axis=1), weakest, -np.inf)[:-1]))
    alike = [reading for i, reading in enumerate(READINGS) if i == best or not apart[best, i]]
    rivals = {
        name: float(advantage[best, i]) for i, name in enumerate(_CANDIDATES) if apart[best, i]
    }
    reading, remarks = _conclude(alike, rivals)
    return Convention(
        verdict=UNDECIDED if reading is None else reading.name,
        reading=reading,
        fits=NO_MOTION not in rivals or (READINGS[0] in alike and not _close(rivals)),
        untold=_untold(alike),
        remarks=remarks,
        advantages=rivals,
        pairs=len(evidence),
        agreeing=0,
        points=total,
    )


def _conclude(
    alike: Sequence[Reading], rivals: dict[str, float]
) -> tuple[Reading | None, list[str]]:
    """The reading, if there is one, and remarks.

    alike: the best reading, and what is indistinguishable from it. rivals: the advantage over all
    others.
    """
    first = alike[0]
    if NO_MOTION not in rivals:
        return None, [f"too few points move by more than {_APART:g} px to tell anything"]
    close = _close(rivals)
    if NO_MOTION in close:
        return None, [
            "no reading explains frame 1 better than no motion does: are these its frames?"
        ]
    if close:
        return None, [f"{first.name} is hardly better than: {'; '.join(close)}"]
    if any(other.y_first != first.y_first for other in alike):
        return None, [f"cannot be distinguished: {'; '.join(reading.name for reading in alike)}"]
    remarks = [
        f"the sign of {axis} is ambiguous: next to nothing moves along {axis}"
        for axis in _untold(alike)
    ]
    if Reading(False, -1, -1) in alike:
        both = "if both are" if remarks else "both"
        remarks.append(f"{both} negated: the flow may point from frame 2 to frame 1")
    return first, remarks


def _close(rivals: dict[str, float]) -> list[str]:
    """Rivals that explain the frames about as well as the best reading, or better."""
    return [name for name, advantage in rivals.items() if advantage < _NEEDED_ADVANTAGE]


def _untold(alike: Sequence[Reading]) -> list[str]:
    """Axes whose sign differs between readings that are indistinguishable."""
    signs = {"x": {each.x_sign for each in alike}, "y": {each.y_sign for each in alike}}
    return [axis for axis, found in signs.items() if len(found) > 1]


def _steps(flow: np.ndarray) -> np.ndarray:
    """Where each candidate leads, [R, N, 2] pixels (x, y); flow: [N, 2]."""
    read = [
        (flow[:, ::-1] if reading.y_first else flow)
        * np.array([reading.x_sign, reading.y_sign], np.float32)
        for reading in READINGS
    ]
    return np.stack([*read, np.zeros_like(flow)])


def _level(frame: np.ndarray) -> np.ndarray:
    """Grey values less the mean of their window, in its standard deviations, [H, W] float32.

    Gain and offset of the light, which differ between frames of films and of cars, fall out.
    """
    grey = (frame @ np.full(3, 1 / 3, np.float32)).astype(np.float64)
    mean = _window_mean(grey)
    variance = np.maximum(_window_mean(np.square(grey)) - np.square(mean), 0)
    return ((grey - mean) / np.sqrt(variance + _NOISE**2)).astype(np.float32)


def _window_mean(image: np.ndarray) -> np.ndarray:
    side = 2 * _RADIUS + 1
    padded = np.pad(image, ((_RADIUS + 1, _RADIUS),) * 2, mode="symmetric")
    sums = padded.cumsum(axis=0).cumsum(axis=1)
    inner = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return inner / side**2


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Reads image, [H, W], bilinearly at points inside of it."""
    height, width = image.shape
    left, top = (np.floor(values).astype(np.intp) for values in (x, y))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = x - left, y - top
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[bottom, left] * (1 - across) + image[bottom, right] * across
    return upper * (1 - down) + lower * down
