"""Indexes of data sets on fake trees of empty files, and what they say when something is absent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pwc_exp.data.datasets import flyingchairs, kitti, middlebury, sintel
from pwc_exp.data.sample import Sample
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.groups import Dataset


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def make_sintel(root: Path) -> None:
    for number in (3, 1, 2, 4):
        make(root, f"training/clean/b_1/frame_{number:04d}.png")
        if number < 4:
            make(root, f"training/flow/b_1/frame_{number:04d}.flo")
    make(root, "training/clean/a_2/frame_0009.png", "training/clean/a_2/frame_0010.png")
    make(root, "training/flow/a_2/frame_0009.flo", "training/invalid/a_2/frame_0009.png")


def make_kitti(root: Path) -> None:
    for pair in ("000001", "000000"):
        make(root, *(f"training/image_2/{pair}_{number}.png" for number in (10, 11, 12)))
        make(root, *(f"training/flow_{truth}/{pair}_10.png" for truth in ("noc", "occ")))
    make(root, "testing/image_2/000000_10.png", "testing/image_2/000000_11.png")


def make_chairs(root: Path) -> None:
    for pair in ("00003", "00001", "00002"):
        make(root, *(f"data/{pair}_{part}" for part in ("img1.ppm", "img2.ppm", "flow.flo")))


def make_middlebury(root: Path) -> None:
    for scene in ("Venus", "Urban2", "Walking"):
        make(root, f"other-data/{scene}/frame10.png", f"other-data/{scene}/frame11.png")
    make(root, "other-gt-flow/Venus/flow10.flo", "other-gt-flow/Urban2/flow10.flo")


Index = Callable[[Path], list[Sample]]
TREES: dict[str, tuple[Callable[[Path], None], Index, str, int]] = {
    "sintel": (
        make_sintel,
        lambda root: sintel(root, render_pass="clean"),
        "training/flow/b_1/frame_0002.flo",
        4,
    ),
    "kitti": (
        make_kitti,
        lambda root: kitti(root, truth="noc"),
        "training/flow_noc/000001_10.png",
        2,
    ),
    "flyingchairs": (make_chairs, flyingchairs, "data/00001_img2.ppm", 3),
    "middlebury": (make_middlebury, middlebury, "other-data/Urban2/frame11.png", 2),
}
every_data_set = pytest.mark.parametrize(
    ("make_tree", "index", "a_file", "count"), TREES.values(), ids=TREES.keys()
)


def test_every_data_set_is_tested_here() -> None:
    assert set(TREES) == set(Dataset) - {Dataset.synthetic}


@every_data_set
def test_index_is_sorted_unique_and_complete(
    make_tree: Callable[[Path], None], index: Index, a_file: str, count: int, tmp_path: Path
) -> None:
    make_tree(tmp_path)
    make(tmp_path, "training/.DS_Store", "data/._00001_img1.ppm", "other-gt-flow/.hidden")
    samples = index(tmp_path)
    ids = [sample.id for sample in samples]
    assert len(ids) == count
    assert ids == sorted(set(ids))
    assert any(tmp_path / a_file in sample for sample in samples)


@every_data_set
def test_one_absent_file_is_named_with_the_counts(
    make_tree: Callable[[Path], None], index: Index, a_file: str, count: int, tmp_path: Path
) -> None:
    make_tree(tmp_path)
    (tmp_path / a_file).unlink()
    with pytest.raises(DataError, match=f"1 of {count} pairs .* The first: .*{a_file}"):
        index(tmp_path)


@every_data_set
def test_a_missing_or_wrong_root_is_told_what_was_expected(
    make_tree: Callable[[Path], None], index: Index, a_file: str, count: int, tmp_path: Path
) -> None:
    first = a_file.split("/", maxsplit=1)[0]
    with pytest.raises(MissingInputError, match=f"absent.*{first}.*no such folder"):
        index(tmp_path / "absent")
    make_tree(tmp_path / "deeper")
    with pytest.raises(MissingInputError, match=f"{first}.*Received: deeper"):
        index(tmp_path)


@every_data_set
def test_a_tree_without_files_has_no_pairs(
    make_tree: Callable[[Path], None], index: Index, a_file: str, count: int, tmp_path: Path
) -> None:
    make_tree(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(DataError):
        index(tmp_path)


def test_sintel_pairs_consecutive_frames_within_a_scene(tmp_path: Path) -> None:
    make_sintel(tmp_path)
    samples = sintel(tmp_path, render_pass="clean")
    ids = ["a_2/frame_0009", "b_1/frame_0001", "b_1/frame_0002", "b_1/frame_0003"]
    assert [sample.id for sample in samples] == ids
    assert [sample.frame2.stem for sample in samples][:2] == ["frame_0010", "frame_0002"]
    assert [sample.scene for sample in samples] == ["a_2", "b_1", "b_1", "b_1"]
    assert samples[0].invalid == tmp_path / "training/invalid/a_2/frame_0009.png"
    assert samples[1].invalid is None


def test_a_sintel_frame_in_the_middle_that_is_absent_breaks_two_pairs(tmp_path: Path) -> None:
    make_sintel(tmp_path)
    (tmp_path / "training/clean/b_1/frame_0002.png").unlink()
    with pytest.raises(DataError, match="2 of 4 pairs .*clean/b_1/frame_0002.png"):
        sintel(tmp_path, render_pass="clean")


def test_a_sintel_scene_without_frames_is_missed(tmp_path: Path) -> None:
    make_sintel(tmp_path)
    make(tmp_path, "training/flow/c_1/frame_0001.flo")
    with pytest.raises(DataError, match="1 of 5 pairs .*clean/c_1/frame_0001.png"):
        sintel(tmp_path, render_pass="clean")


@pytest.mark.parametrize("folder", ["colored_0", "image_0"])
def test_kitti_2012_is_read_in_colour_or_else_in_grey(folder: str, tmp_path: Path) -> None:
    make_kitti(tmp_path)
    (tmp_path / "training/image_2").rename(tmp_path / "training" / folder)
    samples = kitti(tmp_path, truth="occ")
    assert {sample.frame1.parent.name for sample in samples} == {folder}
    assert {sample.flow.parent.name for sample in samples} == {"flow_occ"}
    assert samples[0].frame2.name == "000000_11.png"


@pytest.mark.parametrize("place", [".", "data"])
def test_official_split_of_chairs_is_read_with_any_line_ends(place: str, tmp_path: Path) -> None:
    make_chairs(tmp_path)
    (tmp_path / place / "FlyingChairs_train_val.txt").write_bytes(b"1\r\n2\r\n1\r\n")
    assert [sample.split for sample in flyingchairs(tmp_path)] == ["train", "val", "train"]


@pytest.mark.parametrize("lines", [b"1\n2\n", b"1\n2\n3\n", b"1\n2\ntrain\n"])
def test_a_chairs_split_that_does_not_fit_is_refused(lines: bytes, tmp_path: Path) -> None:
    make_chairs(tmp_path)
    (tmp_path / "FlyingChairs_train_val.txt").write_bytes(lines)
    with pytest.raises(DataError, match="FlyingChairs_train_val.txt"):
        flyingchairs(tmp_path)
