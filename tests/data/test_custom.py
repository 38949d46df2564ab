"""Data sets of one's own: patterns of file names, CSV files, frames without ground truth."""

from pathlib import Path
from typing import Any

import pytest
from trees import make

from pwc_exp.data.datasets.custom import folder, from_manifest, unlabelled
from pwc_exp.data.sample import Sample
from pwc_exp.errors import ConfigError, DataError, MissingInputError, UserError

PATTERNS = {
    "frame1": "*/*-img0.ppm",
    "frame2": "*/*-img1.ppm",
    "flow": "*/truth/*-gt.flo",
    "valid": "*/*-mask.png",
}
PAIRS = ("north/10", "north/9", "south/9")


def pairs(root: Path, **patterns: str | None) -> list[Sample]:
    settings: dict[str, Any] = {"frame1": "*.png", "frame2": None, "flow": None, "valid": None}
    return folder(root, **settings | patterns)


def make_pairs(root: Path) -> None:
    for pair in PAIRS:
        place, _, number = pair.partition("/")
        make(root, *(f"{pair}-{part}" for part in ("img0.ppm", "img1.ppm", "mask.png")))
        make(root, f"{place}/truth/{number}-gt.flo")


def write(root: Path, *lines: str) -> Path:
    path = root / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pairs_are_matched_by_what_the_wildcards_matched(tmp_path: Path) -> None:
    make_pairs(tmp_path)
    samples = pairs(tmp_path, **PATTERNS)
    assert [sample.id for sample in samples] == ["north/9", "north/10", "south/9"]
    north = tmp_path / "north"
    assert samples[0][:9] == (
        "north/9",
        "north/9",
        north / "9-img0.ppm",
        north / "9-img1.ppm",
        north / "truth/9-gt.flo",
        north / "9-mask.png",
        None,
        1,
        None,
    )


@pytest.mark.parametrize(
    ("absent", "named", "without"),
    [
        ("south/9-img1.ppm", "south/9-img0.ppm", "frame2=*/*-img1.ppm"),
        ("north/truth/10-gt.flo", "north/10-img0.ppm", "flow=*/truth/*-gt.flo"),
        ("north/9-mask.png", "north/9-img0.ppm", "valid=*/*-mask.png"),
    ],
)
def test_a_first_frame_without_a_partner_is_named_with_both_patterns(
    absent: str, named: str, without: str, tmp_path: Path
) -> None:
    make_pairs(tmp_path)
    (tmp_path / absent).unlink()
    with pytest.raises(DataError) as failure:
        pairs(tmp_path, **PATTERNS)
    message = str(failure.value)
    assert message.startswith("1 files that match frame1=*/*-img0.ppm have no partner")
    assert f"in {without}. The first: {tmp_path / named}." in message


@pytest.mark.parametrize("alone", ["south/8-img1.ppm", "south/truth/8-gt.flo"])
def test_a_partner_without_a_first_frame_is_named(alone: str, tmp_path: Path) -> None:
    make_pairs(tmp_path)
    make(tmp_path, alone)
    with pytest.raises(DataError, match=f"in frame1=.* The first: {tmp_path / alone}"):
        pairs(tmp_path, **PATTERNS)


def test_without_frame2_the_next_file_of_the_folder_is_taken_in_natural_order(
    tmp_path: Path,
) -> None:
    make(tmp_path, *(f"a/{number}.{kind}" for number in (2, 10, 1) for kind in ("png", "flo")))
    make(tmp_path, "b/5.png", "b/5.flo", "b/7.png")
    samples = pairs(tmp_path, frame1="*/*.png", flow="*/*.flo")
    assert [(s.id, s.scene, s.frame2.name) for s in samples] == [
        ("a/1", "a", "2.png"),
        ("a/2", "a", "10.png"),
        ("b/5", "b", "7.png"),
    ]
    assert [sample.flow for sample in samples] == [
        tmp_path / name for name in ("a/1.flo", "a/2.flo", "b/5.flo")
    ]


def test_the_last_frame_of_a_folder_needs_no_flow(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.png", "1.flo")
    assert [(s.id, s.scene) for s in pairs(tmp_path, flow="*.flo")] == [("1", ".")]
    (tmp_path / "1.flo").rename(tmp_path / "2.flo")
    with pytest.raises(DataError, match="frame1=.* have no partner .*flow=.* The first: .*1.png"):
        pairs(tmp_path, flow="*.flo")


def test_two_stars_match_folders_of_any_depth(tmp_path: Path) -> None:
    names = ("1", "x/1", "x/y/1")
    make(tmp_path, *(f"frames/{name}_{part}.png" for name in names for part in "ab"))
    make(tmp_path, *(f"{name}.flo" for name in names))
    samples = pairs(
        tmp_path, frame1="frames/**/?_a.png", frame2="frames/**/?_b.png", flow="**/?.flo"
    )
    assert [sample.id for sample in samples] == ["1", "x/1", "x/y/1"]
    assert samples[2].flow == tmp_path / "x/y/1.flo"


def test_hidden_files_and_folders_match_nothing(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.png", "._1.png", ".trash/3.png")
    assert [sample.id for sample in pairs(tmp_path, frame1="**/*.png")] == ["1"]


@pytest.mark.parametrize(
    "pattern", ["../*.png", "a/../*.png", "/data/*.png", "a\\*.png", "a**.png", "**", "a.png", ""]
)
def test_a_pattern_that_leaves_the_root_or_names_no_files_is_refused(
    pattern: str, tmp_path: Path
) -> None:
    make(tmp_path, "1.png", "2.png")
    with pytest.raises(ConfigError, match="^flow must "):
        pairs(tmp_path, flow=pattern)


def test_a_pattern_that_matches_nothing_is_decided_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, "clip/1.png")
    with pytest.raises(MissingInputError, match=r"matches frame1=\*.png .*Received: clip"):
        pairs(tmp_path)
    with pytest.raises(MissingInputError, match="no such folder"):
        pairs(tmp_path / "absent")


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a/b/x/c/1.png", "a/b/x/c/2.png", "a/x/b/c/1.png", "a/x/b/c/2.png")
    with pytest.raises(DataError, match="Two pairs of one id, a/b/c/1: .*/1.png and .*/1.png"):
        pairs(tmp_path, frame1="**/x/**/*.png")


def test_a_manifest_lists_pairs_with_all_their_files(tmp_path: Path) -> None:
    make(tmp_path / "data", "a.png", "b.png", "a.flo", "known.png", "bad.png", "c/d.png")
    manifest = write(
        tmp_path,
        "id, frame1, frame2, flow, valid, invalid, scene, split",
        "one, a.png, b.png, a.flo, known.png, bad.png, film, val",
        "",
        '"two", "c/d.png", a.png, a.flo,,, other, train',
    )
    root = tmp_path / "data"
    assert from_manifest(root, manifest=manifest) == [
        Sample(
            id="one",
            scene="film",
            frame1=root / "a.png",
            frame2=root / "b.png",
            flow=root / "a.flo",
            valid=root / "known.png",
            invalid=root / "bad.png",
            split="val",
        ),
        Sample("two", "other", root / "c/d.png", root / "a.png", root / "a.flo", split="train"),
    ]


def test_pairs_of_a_manifest_that_share_frames_are_of_one_scene(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}.png" for name in "abcdefg"))
    lines = ("frame1,frame2", "c.png,d.png", "a.png,b.png", "e.png,f.png", "b.png,c.png")
    samples = from_manifest(tmp_path, manifest=write(tmp_path, *lines))
    scenes = {sample.id: sample.scene for sample in samples}
    assert scenes["a"] == scenes["b"] == scenes["c"]
    assert len(set(scenes.values())) == 2
    assert {sample.flow for sample in samples} == {None}


def test_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    manifest = tmp_path / "pairs.csv"
    manifest.write_bytes(b"\xef\xbb\xbfframe1,frame2\r\na.png,b.png\r\n")
    assert [sample.id for sample in from_manifest(tmp_path, manifest=manifest)] == ["a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["frame1,frame2,colour", "a.png,b.png,red"], "line 1: unknown column 'colour'. Known: fr"),
        (["frame1,flow", "a.png,a.flo"], "line 1: expected a column frame2"),
        (["frame1,frame2,frame1", "a.png,b.png,c.png"], "line 1: column frame1 .* twice"),
        (["frame1,frame2", "a.png,b.png", "a.png"], "line 3: expected 2 cells. Received: 1"),
        (["frame1,frame2", "a.png,b.png,c.png"], "line 2: expected 2 cells. Received: 3"),
        (["frame1,frame2,flow", "a.png,b.png,"], "line 2: flow is empty"),
        (["frame1,frame2,split", "a.png,b.png,test"], "line 2: split must be train or val.*test"),
        (["frame1,frame2,flow_stride", "a.png,b.png,0"], "line 2: flow_stride must be 1 to 99"),
        (["frame1,frame2", "a.png,/b.png"], "line 2: frame2 must be a path in data.root.*/b.png"),
        (["frame1,frame2", "../a.png,b.png"], "line 2: frame1 must be a path in data.root"),
        (["frame1,frame2", "a.png,b.png", "a.png,c.png"], "line 3: id a is that of line 2 too"),
        (["frame1,frame2", 'a.png,"b.png'], "line 2: "),
        (
            ["frame1,frame2,split", "a.png,b.png,train", "", "b.png,c.png,val"],
            "line 4: scene a is val here and train in line 2",
        ),
        (["frame1,frame2", "a.png,b.png", "b.png,x.png"], "1 of 2 pairs .*x.png, in line 3"),
        (["frame1,frame2"], "No pairs in .*pairs.csv"),
        ([""], "No pairs in .*pairs.csv"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named_with_its_line(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    make(tmp_path, "a.png", "b.png", "c.png", "a.flo")
    with pytest.raises(DataError, match=message) as failure:
        from_manifest(tmp_path, manifest=write(tmp_path, *lines))
    assert "pairs.csv" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_manifest_that_is_absent_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="absent.csv"):
        from_manifest(tmp_path, manifest=tmp_path / "absent.csv")
    (tmp_path / "pairs.csv").write_bytes(b"frame1,frame2\n\xff\xfe\n")
    with pytest.raises(DataError, match="UTF-8 in .*pairs.csv"):
        from_manifest(tmp_path, manifest=tmp_path / "pairs.csv")
    with pytest.raises(MissingInputError, match="nowhere"):
        manifest = write(tmp_path, "frame1,frame2", "a.png,b.png")
        from_manifest(tmp_path / "nowhere", manifest=manifest)


def test_images_of_a_folder_are_paired_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "frame10.png", "frame2.JPG", "frame1.ppm", "notes.txt", ".hidden.png")
    samples = unlabelled(tmp_path)
    assert [(s.frame1.name, s.frame2.name) for s in samples] == [
        ("frame1.ppm", "frame2.JPG"),
        ("frame2.JPG", "frame10.png"),
    ]
    assert [(s.id, s.scene, s.flow) for s in samples] == [
        ("frame1", tmp_path.name, None),
        ("frame2", tmp_path.name, None),
    ]


@pytest.mark.parametrize("names", [[], ["only.png"], ["notes.txt", "only.png"]])
def test_a_folder_with_fewer_than_two_images_is_refused(names: list[str], tmp_path: Path) -> None:
    make(tmp_path, *names)
    with pytest.raises(UserError, match=f"at least two images in {tmp_path}"):
        unlabelled(tmp_path)
