"""One index function per data set: a folder in, a sorted list of samples out, nothing decoded.

docs/datasets.md describes each data set.
"""

from collections.abc import Callable
from pathlib import Path

from pwc_exp.data.files import read_bytes
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError, MissingInputError


def sintel(root: Path, *, render_pass: str) -> list[Sample]:
    """MPI-Sintel training pairs of the pass `clean` or `final`; a scene is a sequence."""
    frames, flows = (root / "training" / name for name in (render_pass, "flow"))
    first = f"training/{render_pass}/alley_1/frame_0001.png, training/flow/alley_1/frame_0001.flo"
    _require(root, frames, first)
    samples = []
    for scene in sorted({folder.name for folder in _entries(frames) + _entries(flows)}):
        # Every frame but the last of its scene has a flow.
        names = {path.stem for path in _entries(frames / scene, ".png")[:-1]}
        names |= {path.stem for path in _entries(flows / scene, ".flo")}
        for name in sorted(names):
            invalid = root / "training" / "invalid" / scene / f"{name}.png"
            samples.append(
                Sample(
                    id=f"{scene}/{name}",
                    scene=scene,
                    frame1=frames / scene / f"{name}.png",
                    frame2=frames / scene / f"{_next_name(name)}.png",
                    flow=flows / scene / f"{name}.flo",
                    invalid=invalid if invalid.is_file() else None,
                )
            )
    return _complete(root, samples, first)


def kitti(root: Path, *, truth: str) -> list[Sample]:
    """KITTI 2012 or 2015 training pairs with the truth `noc` or `occ`; a scene is a pair."""
    training = root / "training"
    layouts = [training / name for name in ("colored_0", "image_2", "image_0")]
    frames = next((folder for folder in layouts if folder.is_dir()), layouts[1])
    flows = training / f"flow_{truth}"
    first = f"training/image_2/000000_10.png (2012: colored_0), training/flow_{truth}/000000_10.png"
    _require(root, frames, first)
    names = {path.stem for folder in (frames, flows) for path in _entries(folder, "_10.png")}
    return _complete(
        root,
        [
            Sample(
                id=name,
                scene=name,
                frame1=frames / f"{name}.png",
                frame2=frames / f"{name.removesuffix('_10')}_11.png",
                flow=flows / f"{name}.png",
            )
            for name in sorted(names)
        ],
        first,
    )


def flyingchairs(root: Path) -> list[Sample]:
    """FlyingChairs pairs with the official split, where its file is there; a scene is a pair."""
    data = root / "data"
    first = "data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo"
    _require(root, data, first)
    names = {
        path.name[: -len(suffix)]
        for suffix in ("_img1.ppm", "_flow.flo")
        for path in _entries(data, suffix)
    }
    splits = _chairs_splits(root)
    return _complete(
        root,
        [
            Sample(
                id=name,
                scene=name,
                frame1=data / f"{name}_img1.ppm",
                frame2=data / f"{name}_img2.ppm",
                flow=data / f"{name}_flow.flo",
                split=splits(name),
            )
            for name in sorted(names)
        ],
        first,
    )


def middlebury(root: Path) -> list[Sample]:
    """The pairs of Middlebury "other" with public truth; a scene is a pair."""
    frames, flows = root / "other-data", root / "other-gt-flow"
    first = "other-data/Dimetrodon/frame10.png, other-gt-flow/Dimetrodon/flow10.flo"
    _require(root, flows, first)
    return _complete(
        root,
        [
            Sample(
                id=folder.name,
                scene=folder.name,
                frame1=frames / folder.name / "frame10.png",
                frame2=frames / folder.name / "frame11.png",
                flow=folder / "flow10.flo",
            )
            for folder in _entries(flows)  # other-data also has scenes without public truth
        ],
        first,
    )


def _require(root: Path, folder: Path, first: str) -> None:
    """Refuses a root without the folder that an index starts from; `first`: its first files."""
    if folder.is_dir():
        return
    received = "no such folder"
    if root.is_dir():
        received = ", ".join(path.name for path in _entries(root)[:5]) or "an empty folder"
    raise MissingInputError(f"Not a data set: {root}. Expected: {first}. Received: {received}.")


def _entries(folder: Path, suffix: str = "") -> list[Path]:
    """Sorted entries of a folder that end so; none where there is no folder."""
    if not folder.is_dir():
        return []
    # Names with a dot first are not data: half-written files, and what macOS leaves beside each.
    names = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in names if path.name.endswith(suffix))


def _complete(root: Path, samples: list[Sample], first: str) -> list[Sample]:
    """Refuses a data set without pairs, or with a file of a pair missing."""
    if not samples:
        raise DataError(f"No pairs in {root}. Expected: {first}.")
    missing = [
        next((path for path in (s.frame1, s.frame2, s.flow) if not path.exists()), None)
        for s in samples
    ]
    gaps = [path for path in missing if path is not None]
    if gaps:
        raise DataError(
            f"{len(gaps)} of {len(samples)} pairs in {root} lack a file. The first: {gaps[0]}."
        )
    return samples


def _next_name(name: str) -> str:
    """frame_0001 -> frame_0002."""
    digits = name.rpartition("_")[2]
    if not digits.isdecimal():
        raise DataError(f"Expected frame names that end in a number. Received: {name}.")
    return f"{name.removesuffix(digits)}{int(digits) + 1:0{len(digits)}d}"


def _chairs_splits(root: Path) -> Callable[[str], str | None]:
    """Pair name -> official split; line n of the file holds 1 (train) or 2 (val) for pair n."""
    name = "FlyingChairs_train_val.txt"
    path = next((p for p in (root / name, root / "data" / name) if p.is_file()), None)
    if path is None:
        return lambda _: None
    codes = read_bytes(path).split()  # also strips the \r of Windows
    if not set(codes) <= {b"1", b"2"}:
        raise DataError(f"Expected only 1 (train) and 2 (val) in {path}.")

    def split_of(pair: str) -> str:
        if not (pair.isdecimal() and 1 <= int(pair) <= len(codes)):
            raise DataError(f"Expected a line for pair {pair} in {path}, which has {len(codes)}.")
        return {b"1": "train", b"2": "val"}[codes[int(pair) - 1]]

    return split_of
