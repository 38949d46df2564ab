"""FlyingThings3D: both layouts, ends of scenes, the list of unused frames."""

from pathlib import Path

import pytest
from trees import TREES, make, subset_files, things, things_files

from pwc_exp.data.datasets import flyingthings3d
from pwc_exp.errors import DataError, MissingInputError

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


def test_flow_into_the_past_begins_at_the_second_frame(tmp_path: Path) -> None:
    make(tmp_path, *things_files())
    samples = flyingthings3d(tmp_path, render_pass="clean", camera="left", direction="backward")
    assert len(samples) == 8
    first = samples[0]
    assert first.id == "TEST/A/0000/clean/left/into_past/0007"
    assert [first.frame1.name, first.frame2.name] == ["0007.png", "0006.png"]
    assert first.flow is not None
    assert first.flow.name == "OpticalFlowIntoPast_0007_L.pfm"


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


def test_a_scene_without_frames_is_missed(tmp_path: Path) -> None:
    make(tmp_path, *(name for name in things_files() if "pass/TRAIN/B" not in name))
    with pytest.raises(DataError, match="2 of 8 pairs .*frames_cleanpass/TRAIN/B/0001/left/0006"):
        things()(tmp_path)


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


def test_the_subset_has_the_same_scenes_into_the_past(tmp_path: Path) -> None:
    make(tmp_path, *subset_files())
    pair = flyingthings3d(tmp_path, render_pass="final", camera="right", direction="backward")[1]
    assert pair.id == "train/final/right/into_past/0000002"
    assert pair.scene == "train/0000000"
    assert pair.frame1 == tmp_path / "train/image_final/right/0000002.png"
    assert pair.frame2 == tmp_path / "train/image_final/right/0000001.png"
    assert pair.flow == tmp_path / "train/flow/right/into_past/0000002.flo"


def test_a_pass_that_is_not_there_is_told(tmp_path: Path) -> None:
    make(tmp_path, *(name for name in things_files() if "finalpass" not in name))
    with pytest.raises(MissingInputError, match="frames_finalpass/TRAIN/A/0000/left/0006.png"):
        things("final")(tmp_path)
    assert TREES["flyingthings3d"].count == len(things("clean")(tmp_path))
