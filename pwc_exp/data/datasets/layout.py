"""What every index function needs: listings, numbers in names, and refusals that name a file."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError, MissingInputError


class IncompleteError(DataError):
    """An index of which files are missing; with all its samples, for whoever lists the gaps."""

    def __init__(self, message: str, samples: list[Sample]) -> None:
        super().__init__(message)
        self.samples = samples


class Tree:
    """The files below the root of a data set; each folder is listed once, whatever is asked of it.

    Names with a dot first are not data: half-written files, and what macOS leaves beside each file.

    first: the first files of the data set, for messages.
    """

    def __init__(self, root: Path, first: str) -> None:
        self.root = root
        self.first = first
        self._listings: dict[Path, dict[str, os.DirEntry[str]]] = {}

    def require(self, *folders: Path) -> None:
        """Refuses a root without the folders that an index starts from."""
        if not all(folder.is_dir() for folder in folders):
            raise self.wrong_root()

    def wrong_root(self) -> MissingInputError:
        """What to raise where the root does not hold the data set."""
        return MissingInputError(
            f"Not a data set: {self.root}. Expected: {self.first}. Received: {self.received()}."
        )

    def received(self) -> str:
        """What is in the root, for messages."""
        if not self.root.is_dir():
            return "no such folder"
        return ", ".join(self.names(self.root)[:5]) or "an empty folder"

    def names(self, folder: Path, suffix: str = "") -> list[str]:
        """Sorted names of what is in a folder and ends so; none where there is no folder."""
        return sorted(name for name in self._listing(folder) if name.endswith(suffix))

    def stems(self, folder: Path, suffix: str) -> set[str]:
        """What comes before `suffix` in the names that end so."""
        return {name.removesuffix(suffix) for name in self.names(folder, suffix)}

    def folders(self, folder: Path, *, links: bool = True) -> list[str]:
        """Sorted names of the folders in a folder; links: with those that are symbolic links."""
        entries = self._listing(folder).items()
        return sorted(name for name, entry in entries if entry.is_dir(follow_symlinks=links))

    def has(self, path: Path) -> bool:
        """Whether a file is there, from the listing of its folder."""
        return path.name in self._listing(path.parent)

    def numbers(self, folder: Path, name: str) -> set[int]:
        """The numbers of the files of a name such as frame_{}.png; others are left aside."""
        prefix, suffix = map(re.escape, name.split("{}"))
        pattern = re.compile(f"{prefix}([0-9]+){suffix}")
        matches = (pattern.fullmatch(name) for name in self._listing(folder))
        return {int(match[1]) for match in matches if match}

    def complete(self, samples: Iterable[Sample]) -> list[Sample]:
        """Sorts an index; refuses one without pairs, with a file missing, or with an id twice."""
        ordered = sorted(samples, key=lambda sample: (natural_key(sample.id), sample.id))
        if not ordered:
            raise DataError(f"No pairs in {self.root}. Expected: {self.first}.")
        gaps = [gap for gap in map(self.gap, ordered) if gap is not None]
        if gaps:
            raise IncompleteError(
                f"{len(gaps)} of {len(ordered)} pairs in {self.root} lack a file. "
                f"The first: {gaps[0]}.",
                ordered,
            )
        for before, after in pairwise(ordered):
            if before.id == after.id:
                raise DataError(
                    f"Two pairs of one id, {after.id}: {before.frame1} and {after.frame1}."
                )
        return ordered

    def gap(self, sample: Sample) -> Path | None:
        """The first file of a pair that is not there."""
        paths = (sample.frame1, sample.frame2, sample.flow, sample.valid, sample.invalid)
        return next((path for path in paths if path is not None and not self.has(path)), None)

    def _listing(self, folder: Path) -> dict[str, os.DirEntry[str]]:
        if folder not in self._listings:
            self._listings[folder] = {}
            try:
                with os.scandir(folder) as entries:
                    visible = {e.name: e for e in entries if not e.name.startswith(".")}
                    self._listings[folder] = visible
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise DataError(f"Cannot list {folder}: {error.strerror}.") from None
        return self._listings[folder]


def one_of(setting: str, value: str, known: Sequence[str]) -> str:
    """The value of a setting, if it is a known one."""
    if value not in known:
        raise ValueError(f"{setting} must be one of {', '.join(known)}. Received: {value}")
    return value


def one_or_both(setting: str, value: str, known: Sequence[str]) -> tuple[str, ...]:
    """What a setting asks for: one of the known values, or all of them where it says `both`."""
    return tuple(known) if value == "both" else (one_of(setting, value, (*known, "both")),)


def sequence(
    tree: Tree,
    frames: Path,
    frame: str,
    flows: Path | None = None,
    flow: str = "",
    *,
    step: int = 1,
    edge_flows: bool = False,
) -> Iterator[Sample]:
    """Pairs of frames n and n + step, step 1 or -1, of one unbroken sequence; the id is n alone.

    A pair is listed if any file of it is there, so that a missing one is noticed, not skipped.

    Args:
        frames, flows: folders. No flows: without ground truth.
        frame, flow: names of files, with {} for a number of four digits.
        edge_flows: the last frame (the first, if step is -1) has a flow too, which leads to a frame
            that the data set does not have.
    """
    known = tree.numbers(flows, flow) if flows else set()
    numbers = tree.numbers(frames, frame) | known
    if not edge_flows:
        numbers |= {number + step for number in known}
    edge = max(numbers, default=0) if step > 0 else min(numbers, default=0)
    for number in sorted(numbers - {edge}):
        digits, following = f"{number:04d}", f"{number + step:04d}"
        yield Sample(
            id=digits,
            scene="",
            frame1=frames / frame.format(digits),
            frame2=frames / frame.format(following),
            flow=flows / flow.format(digits) if flows else None,
        )


def natural_key(text: str) -> list[str | int]:
    """Sorts frame2 before frame10."""
    parts: list[str | int] = list(re.split(r"([0-9]+)", text))
    parts[1::2] = map(int, parts[1::2])
    return parts
