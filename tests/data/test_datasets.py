"""Indexes of the public data sets: which pairs, which splits, and what is refused."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trees import TREES, Tree, make, subset_files, things, things_files

from pwc_exp.data.datasets import DATASETS, known_pairs
from pwc_exp.data.datasets import benchmarks as datasets
from pwc_exp.data.datasets.benchmarks import flyingchairs, flyingthings3d, kitti, sintel
from pwc_exp.data.datasets.custom import from_manifest, unlabelled
from pwc_exp.data.sample import Sample, take_split
from pwc_exp.errors import DataError, MissingInputError

every_data_set = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())


def test_every_data_set_is_tested_here_or_with_folders_of_ones_own() -> None:
    assert {name.partition(",")[0] for name in TREES} | {"folder", "csv"} == set(DATASETS)


@every_data_set
def test_index_is_sorted_unique_and_complete(tree: Tree, tmp_path: Path) -> None:
    make(tmp_path, *tree.files)
    make(tmp_path, "training/.DS_Store", "data/._00001_img1.ppm", "other-gt-flow/.hidden")
    make(tmp_path, "frames_cleanpass/TRAIN/A/Thumbs.db", "train/0002/frame_left/notes.png")
    samples = tree.index(tmp_path)
    ids = [sample.id for sample in samples]
    assert len(ids) == tree.count
    assert ids == sorted(set(ids))
    assert (ids[0], ids[-1]) == (tree.first, tree.last)
    assert any(tmp_path / tree.a_file in sample for sample in samples)
    assert all(path.is_file() for sample in samples for path in sample if isinstance(path, Path))


@every_data_set
def test_one_absent_file_is_named_with_the_counts(tree: Tree, tmp_path: Path) -> None:
    make(tmp_path, *tree.files)
    (tmp_path / tree.a_file).unlink()
    with pytest.raises(DataError, match=f"1 of {tree.count} pairs .* The first: .*{tree.a_file}"):
        tree.index(tmp_path)


@every_data_set
def test_a_missing_or_wrong_root_says_what_was_expected(tree: Tree, tmp_path: Path) -> None:
    first = tree.a_file.split("/", maxsplit=1)[0]
    with pytest.raises(MissingInputError, match=f"absent.*{first}.*no such folder"):
        tree.index(tmp_path / "absent")
    make(tmp_path / "deeper", *tree.files)
    with pytest.raises(MissingInputError, match=f"{first}.*Received: deeper"):
        tree.index(tmp_path)


@every_data_set
def test_a_tree_without_files_has_no_pairs(tree: Tree, tmp_path: Path) -> None:
    make(tmp_path, *tree.files)
    for name in tree.files:
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"No pairs|{tree.count} of {tree.count} pairs"):
        tree.index(tmp_path)


@every_data_set
def test_the_order_of_a_listing_does_not_matter(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *tree.files)
    samples, scandir = tree.index(tmp_path), os.scandir

    @contextmanager
    def backwards(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    assert tree.index(tmp_path) == samples


@every_data_set
def test_an_index_lists_each_folder_once(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *tree.files)
    listed: list[Path] = []
    scandir = os.scandir

    def record(folder: Path) -> Any:
        listed.append(folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", record)
    tree.index(tmp_path)
    assert listed
    assert len(listed) == len(set(listed))


@every_data_set
@pytest.mark.parametrize("val_share", [0.05, 0.5])
def test_no_scene_is_on_both_sides_of_a_split(tree: Tree, val_share: float, tmp_path: Path) -> None:
    make(tmp_path, *tree.files)
    samples = tree.index(tmp_path)
    train, val = (take_split(samples, side, val_share=val_share) for side in ("train", "val"))
    assert train
    assert val
    assert not {sample.scene for sample in train} & {sample.scene for sample in val}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sintel", {"render_pass": "both"}),
        ("spring", {"camera": "both", "direction": "both"}),
        ("flyingchairs2", {"direction": "both"}),
        ("flyingthings3d", {"render_pass": "both", "camera": "both", "direction": "both"}),
        ("flyingthings3d, subset", {"render_pass": "both", "camera": "both", "direction": "both"}),
    ],
)
def test_both_multiplies_the_pairs_and_not_the_scenes(
    name: str, settings: dict[str, str], tmp_path: Path
) -> None:
    tree = TREES[name]
    make(tmp_path, *tree.files)
    index = DATASETS[name.partition(",")[0]]
    samples = index(tmp_path, **settings)
    ids = [sample.id for sample in samples]
    assert len(ids) == tree.count * 2 ** len(settings)
    assert ids == sorted(set(ids))
    assert {sample.scene for sample in samples} == {sample.scene for sample in tree.index(tmp_path)}
    scenes: dict[frozenset[Path], set[str]] = {}
    for sample in samples:
        scenes.setdefault(frozenset((sample.frame1, sample.frame2)), set()).add(sample.scene)
    assert all(len(names) == 1 for names in scenes.values())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sintel", {"render_pass": "albedo"}, "render_pass must be one of clean, final, both"),
        ("kitti", {"truth": "both"}, "truth must be one of noc, occ"),
        ("spring", {"camera": "top", "direction": "both"}, "camera must be one of left, right"),
        ("flyingchairs2", {"direction": "up"}, "direction must be one of forward, backward, both"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_known_ones(
    name: str, settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        DATASETS[name](tmp_path, **settings)


def test_sintel_pairs_consecutive_frames_within_a_scene(tmp_path: Path) -> None:
    make(tmp_path, *TREES["sintel"].files)
    samples = sintel(tmp_path, render_pass="clean")
    ids = ["a_2/frame_0009", "b_1/frame_0001", "b_1/frame_0002", "b_1/frame_0003"]
    assert [sample.id for sample in samples] == ids
    assert [sample.frame2.stem for sample in samples][:2] == ["frame_0010", "frame_0002"]
    assert [sample.scene for sample in samples] == ["a_2", "b_1", "b_1", "b_1"]
    assert samples[0].invalid == tmp_path / "training/invalid/a_2/frame_0009.png"
    assert samples[1].invalid is None


def test_both_passes_of_sintel_share_flow_and_mask(tmp_path: Path) -> None:
    make(tmp_path, *TREES["sintel"].files)
    samples = sintel(tmp_path, render_pass="both")
    clean, final = samples[:4], samples[4:]
    assert [sample.id for sample in final[:2]] == ["final/a_2/frame_0009", "final/b_1/frame_0001"]
    assert [sample.flow for sample in clean] == [sample.flow for sample in final]
    assert [sample.invalid for sample in clean] == [sample.invalid for sample in final]
    assert {sample.frame1.parents[1].name for sample in final} == {"final"}


def test_a_sintel_frame_in_the_middle_that_is_absent_breaks_two_pairs(tmp_path: Path) -> None:
    make(tmp_path, *TREES["sintel"].files)
    (tmp_path / "training/clean/b_1/frame_0002.png").unlink()
    with pytest.raises(DataError, match="2 of 4 pairs .*clean/b_1/frame_0002.png"):
        sintel(tmp_path, render_pass="clean")


@pytest.mark.parametrize(
    ("index", "files", "message"),
    [
        (
            TREES["sintel"].index,
            [*TREES["sintel"].files, "training/flow/c_1/frame_0001.flo"],
            "1 of 5 pairs .*clean/c_1/frame_0001.png",
        ),
        (
            things(),
            [name for name in things_files() if "pass/TRAIN/B" not in name],
            "2 of 8 pairs .*frames_cleanpass/TRAIN/B/0001/left/0006",
        ),
    ],
    ids=["sintel", "flyingthings3d"],
)
def test_a_scene_without_frames_is_missed(
    index: Callable[[Path], list[Sample]], files: list[str], message: str, tmp_path: Path
) -> None:
    make(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        index(tmp_path)


@pytest.mark.parametrize("folder", ["colored_0", "image_0"])
def test_kitti_2012_is_read_in_colour_or_else_in_grey(folder: str, tmp_path: Path) -> None:
    make(tmp_path, *TREES["kitti"].files)
    assert known_pairs("kitti", tmp_path, truth="occ") == 200
    (tmp_path / "training/image_2").rename(tmp_path / "training" / folder)
    samples = kitti(tmp_path, truth="occ")
    assert {sample.frame1.parent.name for sample in samples} == {folder}
    assert {sample.flow.parent.name for sample in samples if sample.flow} == {"flow_occ"}
    assert samples[0].frame2.name == "000000_11.png"
    assert known_pairs("kitti", tmp_path, truth="occ") == 194


def test_hd1k_pairs_stay_within_a_sequence(tmp_path: Path) -> None:
    make(tmp_path, *TREES["hd1k"].files)
    samples = datasets.hd1k(tmp_path)
    assert [(sample.scene, sample.frame1.stem, sample.frame2.stem) for sample in samples] == [
        ("000000", "000000_0021", "000000_0022"),
        ("000001", "000001_0010", "000001_0011"),
        ("000001", "000001_0011", "000001_0012"),
    ]


def test_flow_of_spring_is_sampled_at_every_second_pixel(tmp_path: Path) -> None:
    make(tmp_path, *TREES["spring"].files)
    for sample in datasets.spring(tmp_path, camera="both", direction="both"):
        assert sample.flow_stride == 2
        step = {"FW": 1, "BW": -1}[sample.id.split("_")[1]]
        assert int(sample.frame2.stem[-4:]) - int(sample.frame1.stem[-4:]) == step
        assert sample.flow is not None
        assert sample.flow.stem[-4:] == sample.frame1.stem[-4:]
        assert sample.flow.parent.name.split("_")[2] == sample.frame1.parent.name.split("_")[1]


def test_backward_pairs_of_chairs_swap_the_frames(tmp_path: Path) -> None:
    make(tmp_path, *TREES["flyingchairs2"].files)
    pair = datasets.flyingchairs2(tmp_path, direction="backward")[0]
    assert (pair.id, pair.scene, pair.split) == ("train/0000000/flow_10", "train/0000000", "train")
    assert pair.frame1 == tmp_path / "train/0000000-img_1.png"
    assert pair.frame2 == tmp_path / "train/0000000-img_0.png"
    assert pair.flow == tmp_path / "train/0000000-flow_10.flo"


def test_masks_of_tartanair_tell_what_not_to_use(tmp_path: Path) -> None:
    make(tmp_path, *TREES["tartanair"].files)
    samples = datasets.tartanair(tmp_path)
    assert {sample.scene for sample in samples} == {"abandonedfactory", "ocean"}
    place = tmp_path / "abandonedfactory/Easy/P000"
    assert samples[1][:9] == (
        "abandonedfactory/Easy/P000/000001",
        "abandonedfactory",
        place / "image_left/000001_left.png",
        place / "image_left/000002_left.png",
        place / "flow/000001_000002_flow.npy",
        None,
        place / "flow/000001_000002_mask.npy",
        1,
        None,
    )


@pytest.mark.parametrize("place", [".", "data"])
def test_official_split_of_chairs_is_read_with_any_line_ends(place: str, tmp_path: Path) -> None:
    make(tmp_path, *TREES["flyingchairs"].files)
    (tmp_path / place / "FlyingChairs_train_val.txt").write_bytes(b"1\r\n2\r\n1\r\n")
    assert [sample.split for sample in flyingchairs(tmp_path)] == ["train", "val", "train"]


@pytest.mark.parametrize("lines", [b"1\n2\n", b"1\n2\n3\n", b"1\n2\ntrain\n"])
def test_a_chairs_split_that_does_not_fit_is_refused(lines: bytes, tmp_path: Path) -> None:
    make(tmp_path, *TREES["flyingchairs"].files)
    (tmp_path / "FlyingChairs_train_val.txt").write_bytes(lines)
    with pytest.raises(DataError, match="FlyingChairs_train_val.txt"):
        flyingchairs(tmp_path)


def test_known_numbers_of_pairs_double_with_each_setting_that_says_both(tmp_path: Path) -> None:
    assert known_pairs("sintel", tmp_path, render_pass="final") == 1041
    assert known_pairs("sintel", tmp_path, render_pass="both") == 2082
    assert known_pairs("spring", tmp_path, camera="both", direction="both") == 19852
    assert known_pairs("folder", tmp_path, frame1="*.png") is None


@pytest.mark.parametrize("folder", ["data", "."])
def test_a_folder_that_cannot_be_listed_is_named(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *TREES["flyingchairs"].files)

    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="Cannot list .*data: Permission denied"):
        flyingchairs(tmp_path)


UNUSED = "TRAIN/A/0000/left/0007.png\r\n\r\nTEST/B/0001/left/0006.png\r\n"


def test_a_pair_is_two_frames_of_a_scene_with_the_flow_of_the_first(tmp_path: Path) -> None:
    make(tmp_path, *things_files())
    pair = flyingthings3d(tmp_path, render_pass="final", camera="right", direction="forward")[-1]
    scene = "TRAIN/B/0001"
    flow = "OpticalFlowIntoFuture_0007_R.pfm"
    assert pair.id == f"{scene}/final/right/into_future/0007"
    assert pair.frame1 == tmp_path / f"frames_finalpass/{scene}/right/0007.png"
    assert pair.frame2 == tmp_path / f"frames_finalpass/{scene}/right/0008.png"
    assert pair.flow == tmp_path / f"optical_flow/{scene}/into_future/right/{flow}"
    assert (pair.scene, pair.split) == (scene, "train")


@pytest.mark.parametrize(
    ("files", "index", "place", "names"),
    [
        (
            things_files(),
            things("clean", "left", "backward"),
            "TEST/A/0000/clean/left/into_past/0007",
            ["0007.png", "0006.png", "OpticalFlowIntoPast_0007_L.pfm"],
        ),
        (
            subset_files(),
            things("final", "right", "backward"),
            "train/final/right/into_past/0000001",
            ["0000001.png", "0000000.png", "0000001.flo"],
        ),
    ],
    ids=["whole", "subset"],
)
def test_flow_into_the_past_begins_at_the_second_frame(
    files: list[str],
    index: Callable[[Path], list[Sample]],
    place: str,
    names: list[str],
    tmp_path: Path,
) -> None:
    make(tmp_path, *files)
    first = index(tmp_path)[0]
    assert first.id == place
    assert first.flow is not None
    assert [path.name for path in (first.frame1, first.frame2, first.flow)] == names


def test_a_pass_that_is_not_there_is_reported(tmp_path: Path) -> None:
    make(tmp_path, *(name for name in things_files() if "finalpass" not in name))
    with pytest.raises(MissingInputError, match="frames_finalpass/TRAIN/A/0000/left/0006.png"):
        things("final")(tmp_path)
    assert len(things("clean")(tmp_path)) == 8


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_flow_out_of_a_scene_makes_no_pair_and_need_not_be_there(
    direction: str, tmp_path: Path
) -> None:
    files = things_files()
    edges = ("IntoFuture_0008", "IntoPast_0006")
    make(tmp_path / "with", *files)
    make(tmp_path / "without", *(name for name in files if not any(e in name for e in edges)))
    index = things(direction=direction)
    ids = [[sample.id for sample in index(tmp_path / name)] for name in ("with", "without")]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 8


@pytest.mark.parametrize("number", ["0006", "0007", "0008"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_frame_that_is_absent_is_missed_at_either_end(
    number: str, direction: str, tmp_path: Path
) -> None:
    make(tmp_path, *things_files())
    (tmp_path / f"frames_cleanpass/TRAIN/A/0000/left/{number}.png").unlink()
    with pytest.raises(DataError, match=f"of 8 pairs .*TRAIN/A/0000/left/{number}.png"):
        things(direction=direction)(tmp_path)


@pytest.mark.parametrize("place", [".", "frames_cleanpass"])
@pytest.mark.parametrize("camera", ["left", "right"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_unused_frames_are_left_out_wherever_they_stand_in_a_pair(
    place: str, camera: str, direction: str, tmp_path: Path
) -> None:
    make(tmp_path, *things_files())
    (tmp_path / place / "all_unused_files.txt").write_text(UNUSED)
    samples = things("final", camera, direction)(tmp_path)
    pairs = {(s.scene, *sorted((s.frame1.stem, s.frame2.stem))) for s in samples}
    assert pairs == {
        ("TEST/A/0000", "0006", "0007"),
        ("TEST/A/0000", "0007", "0008"),
        ("TEST/B/0001", "0007", "0008"),
        ("TRAIN/B/0001", "0006", "0007"),
        ("TRAIN/B/0001", "0007", "0008"),
    }


def test_an_unused_frame_need_not_be_there(tmp_path: Path) -> None:
    make(tmp_path, *things_files())
    (tmp_path / "all_unused_files.txt").write_text(UNUSED)
    (tmp_path / "frames_cleanpass/TRAIN/A/0000/left/0007.png").unlink()
    assert len(things()(tmp_path)) == 5


def test_a_list_of_unused_frames_that_is_none_is_refused(tmp_path: Path) -> None:
    make(tmp_path, *things_files())
    (tmp_path / "all_unused_files.txt").write_text(UNUSED + "<html>\n")
    with pytest.raises(DataError, match="all_unused_files.txt.*line 4: <html>"):
        things()(tmp_path)


def test_test_is_val_beside_train_and_split_by_scene_alone(tmp_path: Path) -> None:
    make(tmp_path / "both", *things_files())
    samples = things()(tmp_path / "both")
    assert {(s.scene.split("/")[0], s.split) for s in samples} == {
        ("TRAIN", "train"),
        ("TEST", "val"),
    }
    make(tmp_path / "one", *things_files(splits=("TRAIN",)))
    assert {sample.split for sample in things()(tmp_path / "one")} == {None}


def test_frames_of_a_split_without_flow_are_left_aside(tmp_path: Path) -> None:
    make(tmp_path, *(name for name in things_files() if not name.startswith("optical_flow/TEST")))
    assert {sample.scene.split("/")[0] for sample in things()(tmp_path)} == {"TRAIN"}


@pytest.mark.parametrize("files", [things_files(), subset_files()], ids=["whole", "subset"])
def test_webp_frames_are_refused_with_what_to_get(files: list[str], tmp_path: Path) -> None:
    make(tmp_path, *(name.replace(".png", ".webp") for name in files))
    with pytest.raises(DataError, match="must be PNG.*clean.*/left"):
        things()(tmp_path)


def test_the_subset_ends_scenes_where_flow_is_missing_in_one_direction(tmp_path: Path) -> None:
    make(tmp_path, *subset_files())
    samples = things()(tmp_path)
    assert [(s.scene, s.frame1.stem[-1] + s.frame2.stem[-1], s.split) for s in samples] == [
        ("train/0000000", "01", "train"),
        ("train/0000000", "12", "train"),
        ("train/0000003", "34", "train"),
        ("train/0000006", "67", "train"),
        ("val/0000000", "01", "val"),
    ]


def test_both_passes_of_sintel_are_found(shared: Path) -> None:
    samples = sintel(shared / "data/MPI-Sintel", render_pass="both")
    assert [sample.id for sample in samples[::4]] == [
        "clean/alley_1/frame_0001",
        "final/alley_1/frame_0001",
    ]
    assert [sample.scene for sample in samples] == [*["alley_1"] * 3, "cave_2"] * 2
    masked = [sample.id for sample in samples if sample.invalid]
    assert masked[0::2] == ["clean/alley_1/frame_0002", "final/alley_1/frame_0002"]


@pytest.mark.parametrize(("year", "pairs"), [(2012, 194), (2015, 200)])
def test_kitti_is_recognised_by_its_folders(year: int, pairs: int, shared: Path) -> None:
    root = shared / f"data/kitti{year}"
    assert known_pairs("kitti", root, truth="noc") == pairs
    assert len(kitti(root, truth="noc")) == 1


def test_a_manifest_gives_the_index_of_its_data_set(shared: Path, tmp_path: Path) -> None:
    root = shared / "data/MPI-Sintel"
    samples = sintel(root, render_pass="clean")
    lines = ["id,scene,frame1,frame2,flow,invalid,occlusion"]
    for sample in samples:
        masks = (sample.invalid, sample.occlusion)
        paths = (sample.frame1, sample.frame2, sample.flow, *masks)
        cells = [path.relative_to(root).as_posix() if path else "" for path in paths]
        lines.append(",".join([sample.id, sample.scene, *cells]))
    manifest = tmp_path / "sintel.csv"
    manifest.write_text("\n".join(lines))
    assert any(sample.occlusion for sample in samples)
    assert from_manifest(root, manifest=manifest) == samples


def test_frames_of_a_real_folder_are_paired(shared: Path) -> None:
    samples = unlabelled(shared / "data/MPI-Sintel/training/final/alley_1")
    assert [sample.id for sample in samples] == ["frame_0001", "frame_0002", "frame_0003"]
